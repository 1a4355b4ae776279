"""Lakes that scenarios work on: made in peace, copied for each run, held against the undisturbed one.

Decides where a run works: on a folder, or (`on` a bucket) on its copy in an object store, which is fetched to
be compared.
"""

import copy
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Self

from tests.crash import seam
from tests.crash.forks import Child, Forks
from tests.crash.object_store import Bucket, Write
from tests.crash.scenarios import ALL, BEFORE, HALF, SCENARIOS, Scenario, contract, send, source
from tests.crash.seam import Death, Event

BATCH_ROWS = 90
SIDE_BY_SIDE = 2
CHECKPOINT_EVERY = 3  # commits; a lake in use has one each hundred


class Lakes:
    """The scenarios prepared on a Kafka: states of the lake to begin from, lakes to compare with."""

    def __init__(self, folder: Path, servers: str, forks: Forks) -> None:
        self.folder, self.servers, self.forks = folder, servers, forks
        self.bucket: Bucket | None = None
        self.events: dict[str, list[Event]] = {}
        self._numbers = iter(range(10**6))
        self._lock = threading.Lock()

    def on(self, bucket: Bucket) -> Self:
        """Give the same, but runs work on lakes in a bucket."""
        made = copy.copy(self)
        made.bucket = bucket
        return made

    @property
    def store(self) -> str:
        """What holds the lakes: `file`, or `s3`."""
        return "s3" if self.bucket else "file"

    def prepare(self, scenarios: Sequence[Scenario] = tuple(SCENARIOS)) -> None:
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
        self._await(self.fork("work.spoil", spoiled))
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            list(pool.map(self.watch, scenarios))

    def watch(self, scenario: Scenario) -> None:
        """Run a scenario undisturbed: its events, and what its lake is held against."""
        folder = self.copy(scenario, f"peace-{scenario.name}".replace(" ", "-"))
        log = self.folder / f"{scenario.name}.log"
        self._await(self._run(folder, scenario.steps, log=str(log), now=scenario.now))
        self._await(self._run(folder, scenario.again, save=str(self._expected(scenario))))
        self.events[scenario.name] = seam.read(log)

    def start(
        self, scenario: Scenario, folder: Path, death: Death | Write | None = None, rows: int = BATCH_ROWS
    ) -> Child:
        """Start a scenario's run, in batches of some rows; it ends at a death, where one is given."""
        if self.bucket and isinstance(death, Write):
            watched = self.bucket.watch(folder.name, death)
            child = self._run(folder, scenario.steps, rows, now=scenario.now)
            watched.victim.set_result(child)
            return child
        more = {"log": str(folder / "events"), "death": asdict(death)} if death else {}
        return self._run(folder, scenario.steps, rows, now=scenario.now, **more)

    def hold(self, scenario: Scenario, folder: Path, *, again: bool = False) -> None:
        """Hold a lake against the undisturbed one, after another run where `again` is said.

        Raises:
            AssertionError: they differ, or an equation does not hold.
        """
        steps = (scenario.again or scenario.steps) if again else ()
        if self.bucket:
            self.bucket.watch(folder.name)
            self._await(self._run(folder, steps, now=scenario.now))
            self.bucket.fetch(folder.name, folder / "lake")
            steps = ()
        self._await(self._run(folder, steps, expected=str(self._expected(scenario)), now=scenario.now))

    def _run(
        self, folder: Path, steps: Sequence[object], rows: int = BATCH_ROWS, **arguments: object
    ) -> Child:
        arguments |= {"steps": list(steps), "checkpoint_every": CHECKPOINT_EVERY}
        here = not steps  # it only compares: what was fetched, if the lake is elsewhere
        return self.fork("work.run", folder, here, {"BATCH_ROWS": str(rows)}, **arguments)

    def fork(
        self,
        function: str,
        folder: Path,
        here: bool = False,
        environment: Mapping[str, str] | None = None,
        **arguments: object,
    ) -> Child:
        """Start a function of `tests.crash` on the lake of a folder, or its copy in the bucket."""
        told = dict(environment or {})
        if self.bucket and not here:
            told |= self.bucket.environment(folder.name)
            arguments["uri"] = told["LAKE_URI"]
        return self.forks.start(function, told, folder=str(folder), servers=self.servers, **arguments)

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
        if self.bucket:
            self.bucket.put(folder / "lake", name)
        return folder

    def _expected(self, scenario: Scenario) -> Path:
        return self.folder / f"expected-{scenario.name}".replace(" ", "-")
