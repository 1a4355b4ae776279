"""Runs that are killed, and runs that meet: the tables are those of a run that nothing disturbed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.meters import HOURS, NAMES, produce
from tests.running import Project, assert_same

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
LAYERS = " or ".join(f'key:"{layer}/{name}"' for name in NAMES for layer in ("bronze", "silver"))
LONGEST = 4.0  # seconds after which a run is killed at the latest


@pytest.fixture(scope="module")
def undisturbed(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Run once, all in peace."""
    produce(kafka)
    made = Project(tmp_path_factory.mktemp("peace"), kafka).declare("meters")
    made.run(LAYERS, (HOURS[0], HOURS[-1])).good()
    made.run("group:dimensions").good()
    return made


def worker(made: Project, first: str, last: str) -> subprocess.Popen[str]:
    """Start a process that will run the layers, in small batches, when told to."""
    command = [sys.executable, "-m", "tests.e2e.worker", str(made.folder), made.servers, LAYERS, first, last]
    return made.start(command, BATCH_ROWS="500")


def go(process: subprocess.Popen[str]) -> None:
    """Wait until it is ready, and let it begin."""
    assert process.stdout
    assert process.stdin
    for line in process.stdout:
        if line.startswith("ready"):
            break
    process.stdin.write("go\n")
    process.stdin.flush()


def hold(made: Project, undisturbed: Project) -> None:
    for name in NAMES:
        assert_same(made.state(name), undisturbed.state(name))
        assert made.accounts(name)["read"] == undisturbed.accounts(name)["read"]
    made.prove(*NAMES)
    made.run("group:dimensions").good()
    columns = pl.exclude("_bucket")
    assert made.dimension("meters").select(columns).equals(undisturbed.dimension("meters").select(columns))


def test_the_peaceful_run_is_right(undisturbed: Project):
    undisturbed.prove(*NAMES)
    told = undisturbed.accounts("meter_readings")
    assert told["read"] == undisturbed.table("bronze/meter_readings").height > 4000
    assert (
        min(told[n] for n in ("accepted", "duplicates", "conflicts", "quarantined", "tombstones", "late")) > 0
    )


def test_runs_killed_at_any_moment_leave_nothing_behind(undisturbed: Project, kafka: str, tmp_path: Path):
    rng = random.Random()  # noqa: S311  # another moment each time
    made = Project(tmp_path, kafka).declare("meters")
    killed = 0
    for _ in range(3):
        processes = [worker(made, HOURS[0], HOURS[-1]) for _ in range(3)]
        for process in processes:
            go(process)
            wait = rng.uniform(0.2, LONGEST)
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.communicate()
    assert killed > 0
    made.run(LAYERS, (HOURS[0], HOURS[-1])).good()
    hold(made, undisturbed)


def test_two_runs_of_the_same_tiles_at_once(undisturbed: Project, kafka: str, tmp_path: Path):
    made = Project(tmp_path, kafka).declare("meters")
    both = [worker(made, HOURS[0], HOURS[-1]) for _ in range(2)]
    for process in both:
        go(process)
    began = time.monotonic()
    for process in both:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out[-3000:]
    assert time.monotonic() - began < 120
    hold(made, undisturbed)
