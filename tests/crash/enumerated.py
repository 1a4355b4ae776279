"""Every way to die, one after the other: `python -m tests.crash.enumerated` (all), or a sample in CI.

Decides how a list of deaths is made (an undisturbed run is watched) and what one death is: the run of a
scenario is killed at it, on a copy of the lake; the next run goes on, and the lake must equal the
undisturbed one. On an object store (`--store=s3`) a death is one of the writes that the store hears of, and
the lake is fetched to be compared. With `--full` the run lives on, but the disk is full from some moment on:
it says so, or does without. It refuses a list that misses a site of the code (`tests.crash.sites`).
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.crash import seam
from tests.crash.forks import Forks
from tests.crash.lakes import SIDE_BY_SIDE, Lakes
from tests.crash.object_store import Bucket, Write
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.crash.seam import Death
from tests.crash.sites import sites

_SECONDS = 240  # a run that waits for room, or for others, is no fault yet
_FULL = "no space is left"  # our words for it
_ELSEWHERE = (
    "resources/dbt_delta.py:",  # run by dbt, a program of its own, which is not marked
    # what only databases ask for: no server runs beside these (`tests/integration/test_reconcile_live.py`)
    *("assets/as_of.py:", "assets/reconcile_database.py:", "assets/verdicts.py:note:"),
)
_NO_COMMIT = ("append", "decide", "MaterializeResult", "AssetMaterialization")


class Enumerated(Lakes):
    """Every death of every scenario."""

    def unseen(self) -> list[str]:
        """Name the sites of the code that no scenario passes."""
        seen = {e.label.split(" ", 1)[1] for events in self.events.values() for e in events if " " in e.label}
        return [site for site in sites() if site not in seen and not site.startswith(_ELSEWHERE)]

    def all_deaths(self) -> list[tuple[Scenario, Death]]:
        """Give every death of every scenario."""
        return [(s, death) for s in SCENARIOS for death in seam.deaths(self.events[s.name])]

    def all_fillings(self) -> list[tuple[Scenario, Death]]:
        """Give every moment of every scenario at which the disk may turn out to be full."""
        return [(s, moment) for s in SCENARIOS for moment in seam.fillings(self.events[s.name])]

    def all_writes(self, scenarios: Iterable[Scenario]) -> list[tuple[Scenario, Write]]:
        """Give every death at a write of some scenarios to the bucket, whose undisturbed lakes are equal."""
        assert self.bucket
        found: list[tuple[Scenario, Write]] = []
        for scenario in scenarios:
            folder = self.copy(scenario, f"bucket-{scenario.name}".replace(" ", "-"))
            watched = self.bucket.watch(folder.name)
            self._await(self.start(scenario, folder))
            numbers = range(1, watched.count + 1)
            found += [(scenario, Write(n, fault)) for n in numbers for fault in ("down", "cut")]
            self.hold(scenario, folder, again=True)
        return found

    def sample(self, seed: int, deaths: Iterable[tuple[Scenario, Death]]) -> list[tuple[Scenario, Death]]:
        """Give one death of each kind (what, table, kind of file, moment), in one of the shortest scenarios.

        Of the sites only those that are no commit: those are in it as the files that they write.
        """
        kinds: dict[tuple[str, str], dict[str, list[tuple[Scenario, Death]]]] = {}
        for scenario, death in deaths:
            kind = (death.moment, _kind(death.event.label))
            if not kind[1].startswith("begin ") or kind[1].split(":")[-1].startswith(_NO_COMMIT):
                kinds.setdefault(kind, {}).setdefault(scenario.name, []).append((scenario, death))
        rng = random.Random(seed)  # noqa: S311  # a choice that can be made again
        chosen = []
        for _, found in sorted(kinds.items()):
            shortest = sorted(found, key=lambda name: len(self.events[name]))[:3]
            chosen.append(rng.choice(found[rng.choice(shortest)]))
        return chosen

    def die(self, scenario: Scenario, death: Death | Write) -> tuple[str, bool]:
        """Die once, go on, compare; give what was wrong (empty: nothing), and whether it did die there.

        Where the disk was full: whether it failed for that, in clear words; else it did without.
        """
        with self._lock:
            name = f"death-{next(self._numbers)}"
        folder = self.copy(scenario, name)
        victim = self.start(scenario, folder, death)
        died = victim.wait(_SECONDS) == -signal.SIGKILL
        if isinstance(death, Death) and death.moment == "full":
            died = bool(victim.code) and victim.tells(_FULL)
        if not died and victim.code:
            return f"{scenario.name}, {death}: the run failed by itself:\n{victim.said()}", False
        try:
            self.hold(scenario, folder, again=True)
        except AssertionError as wrong:
            return f"{scenario.name}, {death}: {folder}\n{wrong}", died
        shutil.rmtree(folder)
        return "", died

    def die_all(
        self, deaths: Iterable[tuple[Scenario, Death | Write]], say: bool = False
    ) -> tuple[list[str], Counter[str]]:
        """Die at each of them, some side by side; give what was wrong, and how often it died by scenario."""
        counted: Counter[str] = Counter()

        def one(chosen: tuple[Scenario, Death | Write]) -> str:
            wrong, died = self.die(*chosen)
            with self._lock:
                counted[chosen[0].name if died else "missed"] += 1
                if say and (wrong or counted.total() % 100 == 0):
                    print(f"{counted.total()} {dict(counted)} {wrong}", flush=True)  # noqa: T201
            return wrong

        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            return [wrong for wrong in pool.map(one, deaths) if wrong], counted


def _kind(label: str) -> str:
    """Give a label without the stream: `create silver/visits data` is of the kind `create silver data`."""
    what, *rest = label.split(" ")
    if rest and rest[0].split("/")[0] in ("bronze", "silver", "losers", "quarantine", "dimensions"):
        rest[0] = rest[0].split("/")[0]
    return " ".join([what, *rest])


def main() -> int:
    """Die everywhere; arguments name scenarios (all, if none)."""
    from demo.broker import EmbeddedKafka  # noqa: PLC0415  # its group may not be installed

    asked = argparse.ArgumentParser()
    asked.add_argument("scenarios", nargs="*", help=", ".join(s.name for s in SCENARIOS))
    asked.add_argument("--store", choices=["file", "s3"], default="file")
    asked.add_argument("--full", action="store_true", help="the disk is full from each moment on")
    given = asked.parse_args()
    if given.full and given.store == "s3":
        asked.error("--full fills a disk; for a bucket see tests/integration/test_store_outages.py")
    chosen = [s for s in SCENARIOS if not given.scenarios or s.name in given.scenarios]
    if not {s.name for s in chosen}.issuperset(given.scenarios):
        asked.error(f"unknown scenarios; there are {', '.join(s.name for s in SCENARIOS)}")
    preload = seam.built()
    assert preload, "no C compiler"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-crash-")))
        kafka = stack.enter_context(EmbeddedKafka(folder / "kafka"))
        forks = stack.enter_context(Forks(folder / "children", preload))
        made = Enumerated(folder, kafka.servers, forks)
        made.prepare()
        print("sites that no scenario passes:", made.unseen())  # noqa: T201
        wanted: list[tuple[Scenario, Death | Write]] = []
        if given.store == "s3":
            made = made.on(stack.enter_context(Bucket(folder / "weed")))
            wanted += made.all_writes(chosen)
        else:
            ends = made.all_fillings() if given.full else made.all_deaths()
            wanted += [(s, end) for s, end in ends if s in chosen]
        seed = random.randrange(10**6)  # noqa: S311  # one that is stopped has seen a sample
        random.Random(seed).shuffle(wanted)  # noqa: S311
        print(f"{len(wanted)} deaths, in the order of seed {seed}", flush=True)  # noqa: T201
        began = time.monotonic()
        wrong, counted = made.die_all(wanted, say=True)
        seconds = time.monotonic() - began
    print(f"{counted.total()} runs in {seconds:.0f} s, died: {dict(counted)}, wrong: {len(wrong)}")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
