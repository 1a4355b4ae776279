"""Every way to die, one after the other: `python -m tests.crash.enumerated` (all), or a sample in CI.

Decides how a list of deaths is made (an undisturbed run is watched) and what one death is: the run of a
scenario is killed at it, on a copy of the lake; the next run goes on, and the lake must equal the
undisturbed one. It refuses a list that misses a site of the code (`tests.crash.sites`).
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.crash import seam
from tests.crash.forks import Child, Forks
from tests.crash.scenarios import ALL, BEFORE, HALF, SCENARIOS, Scenario, contract, send, source
from tests.crash.seam import Death, Event
from tests.crash.sites import sites

BATCH_ROWS = 90
SIDE_BY_SIDE = 2
_NO_COMMIT = ("append", "decide", "MaterializeResult", "AssetMaterialization")
CHECKPOINT_EVERY = 3  # commits; a lake in use has one each hundred


class Enumerated:
    """The scenarios prepared on a Kafka: states of the lake to begin from, lakes to compare with."""

    def __init__(self, folder: Path, servers: str, forks: Forks) -> None:
        self.folder, self.servers, self.forks = folder, servers, forks
        self.events: dict[str, list[Event]] = {}
        self._numbers = iter(range(10**6))
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make the states, and run each scenario undisturbed; `events` has what each of them did."""
        send(self.servers, 1)
        (self.folder / "empty" / "lake").mkdir(parents=True)
        self._await(self._run(self.copy_state("empty", "half", {}), HALF, now=BEFORE))
        send(self.servers, 2)
        whole = self.copy_state("half", "whole", {})
        self._await(self._run(whole, ALL))
        left_over = whole / "lake" / "bronze" / "visits" / "left-over.parquet"
        left_over.touch()
        os.utime(left_over, (0, 0))  # of a run that died long ago: for maintenance
        spoiled = self.copy_state("whole", "spoiled", {})
        self._await(self.forks.start("work.spoil", folder=str(spoiled), servers=self.servers))
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            list(pool.map(self.watch, SCENARIOS))

    def watch(self, scenario: Scenario) -> None:
        """Run a scenario undisturbed: its events, and what its lake is held against."""
        folder = self.copy(scenario, f"peace-{scenario.name}".replace(" ", "-"))
        log = self.folder / f"{scenario.name}.log"
        self._await(self._run(folder, scenario.steps, log=str(log), now=scenario.now))
        self._await(self._run(folder, scenario.again, save=str(self._expected(scenario))))
        self.events[scenario.name] = seam.read(log)

    def unseen(self) -> list[str]:
        """Name the sites of the code that no scenario passes."""
        seen = {e.label.split(" ", 1)[1] for events in self.events.values() for e in events if " " in e.label}
        return [site for site in sites() if site not in seen]

    def all_deaths(self) -> list[tuple[Scenario, Death]]:
        """Give every death of every scenario."""
        return [(s, death) for s in SCENARIOS for death in seam.deaths(self.events[s.name])]

    def sample(self, seed: int) -> list[tuple[Scenario, Death]]:
        """Give one death of each kind (what, table, kind of file, moment), in one of the shortest scenarios.

        Of the sites only those that are no commit: those are in it as the files that they write.
        """
        kinds: dict[tuple[str, str], dict[str, list[tuple[Scenario, Death]]]] = {}
        for scenario, death in self.all_deaths():
            kind = (death.moment, _kind(death.event.label))
            if not kind[1].startswith("begin ") or kind[1].split(":")[-1].startswith(_NO_COMMIT):
                kinds.setdefault(kind, {}).setdefault(scenario.name, []).append((scenario, death))
        rng = random.Random(seed)  # noqa: S311  # a choice that can be made again
        chosen = []
        for _, found in sorted(kinds.items()):
            shortest = sorted(found, key=lambda name: len(self.events[name]))[:3]
            chosen.append(rng.choice(found[rng.choice(shortest)]))
        return chosen

    def die(self, scenario: Scenario, death: Death) -> tuple[str, bool]:
        """Die once, go on, compare; give what was wrong (empty: nothing), and whether it did die there."""
        with self._lock:
            name = f"death-{next(self._numbers)}"
        folder = self.copy(scenario, name)
        victim = self.start(scenario, folder, death)
        died = victim.wait() == -signal.SIGKILL
        if not died and victim.code:
            return f"{scenario.name}, {death}: the run failed by itself:\n{victim.said()}", False
        next_run = self._hold(scenario, folder, again=True)
        if next_run.wait():
            return f"{scenario.name}, {death}: {folder}\n{next_run.said()}", died
        shutil.rmtree(folder)
        return "", died

    def start(
        self, scenario: Scenario, folder: Path, death: Death | None = None, rows: int = BATCH_ROWS
    ) -> Child:
        """Start a scenario's run, in batches of some rows; it ends at a death, where one is given."""
        more = {"log": str(folder / "events"), "death": asdict(death)} if death else {}
        return self._run(folder, scenario.steps, rows, now=scenario.now, **more)

    def hold(self, scenario: Scenario, folder: Path, *, again: bool = False) -> None:
        """Hold a lake against the undisturbed one, after another run where `again` is said.

        Raises:
            AssertionError: they differ, or an equation does not hold.
        """
        self._await(self._hold(scenario, folder, again=again))

    def _hold(self, scenario: Scenario, folder: Path, *, again: bool) -> Child:
        steps = (scenario.again or scenario.steps) if again else ()
        return self._run(folder, steps, expected=str(self._expected(scenario)), now=scenario.now)

    def _run(
        self, folder: Path, steps: Sequence[object], rows: int = BATCH_ROWS, **arguments: object
    ) -> Child:
        return self.forks.start(
            "work.run",
            {"BATCH_ROWS": str(rows)},
            folder=str(folder),
            servers=self.servers,
            steps=list(steps),
            checkpoint_every=CHECKPOINT_EVERY,
            **arguments,
        )

    def die_all(
        self, deaths: Iterable[tuple[Scenario, Death]], say: bool = False
    ) -> tuple[list[str], Counter[str]]:
        """Die at each of them, some side by side; give what was wrong, and how often it died by scenario."""
        counted: Counter[str] = Counter()

        def one(chosen: tuple[Scenario, Death]) -> str:
            wrong, died = self.die(*chosen)
            with self._lock:
                counted[chosen[0].name if died else "missed"] += 1
                if say and (wrong or counted.total() % 100 == 0):
                    print(f"{counted.total()} {dict(counted)} {wrong}", flush=True)  # noqa: T201
            return wrong

        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            return [wrong for wrong in pool.map(one, deaths) if wrong], counted

    def _await(self, child: Child) -> None:
        assert child.wait() == 0, child.said()

    def copy(self, scenario: Scenario, name: str) -> Path:
        """Copy the state that a scenario begins from, with its contract, into a folder of a name."""
        return self.copy_state(scenario.state, name, scenario.rules)

    def copy_state(self, state: str, name: str, rules: Mapping[str, object]) -> Path:
        """Copy a state of the lake into a folder of a name, under some rules."""
        folder = self.folder / name
        shutil.copytree(self.folder / state / "lake", folder / "lake")
        (folder / "streams").mkdir()
        (folder / "streams" / "crash.py").write_text(contract(**rules))
        source().write_parquet(folder / "streams" / "accounts.parquet")
        return folder

    def _expected(self, scenario: Scenario) -> Path:
        return self.folder / f"expected-{scenario.name}".replace(" ", "-")


def _kind(label: str) -> str:
    """Give a label without the stream: `create silver/visits data` is of the kind `create silver data`."""
    what, *rest = label.split(" ")
    if rest and rest[0].split("/")[0] in ("bronze", "silver", "losers", "quarantine", "dimensions"):
        rest[0] = rest[0].split("/")[0]
    return " ".join([what, *rest])


def main() -> int:
    """Die everywhere; arguments name scenarios (all, if none)."""
    from demo.broker import EmbeddedKafka  # noqa: PLC0415  # its group may not be installed

    preload = seam.built()
    assert preload, "no C compiler"
    with tempfile.TemporaryDirectory(prefix="sluice-crash-") as scratch:
        folder = Path(scratch)
        with EmbeddedKafka(folder / "kafka") as kafka, Forks(folder / "children", preload) as forks:
            made = Enumerated(folder, kafka.servers, forks)
            made.prepare()
            print("sites that no scenario passes:", made.unseen())  # noqa: T201
            wanted = [(s, d) for s, d in made.all_deaths() if not sys.argv[1:] or s.name in sys.argv[1:]]
            print(f"{len(wanted)} deaths", flush=True)  # noqa: T201
            began = time.monotonic()
            wrong, counted = made.die_all(wanted, say=True)
            seconds = time.monotonic() - began
    print(f"{counted.total()} runs in {seconds:.0f} s, died: {dict(counted)}, wrong: {len(wrong)}")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
