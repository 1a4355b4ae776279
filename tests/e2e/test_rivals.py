"""Runs that meet, on files and on an object store: the tables are those of a run that nothing disturbed."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.forks import Child, Forks
from tests.crash.lakes import Lakes
from tests.crash.object_store import Bucket, Write
from tests.crash.scenarios import EVENTS, FIFTY, SCENARIOS, Scenario
from tests.crash.seam import Death, Event

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(900)]
EVERYTHING = next(s for s in SCENARIOS if s.name == "events")
ENTITIES = next(s for s in SCENARIOS if s.name == "changes")
LONG = "CRASH_SAMPLE" in os.environ  # fifty tiles on an object store, through a proxy, take minutes


@pytest.fixture(scope="module")
def on_files(kafka: str, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Lakes:
    """Give the scenarios, each run once in peace."""
    made = Lakes(tmp_path_factory.mktemp("rivals"), kafka, forks)
    made.prepare((EVERYTHING, ENTITIES, FIFTY))
    return made


@pytest.fixture(scope="module")
def bucket(on_files: Lakes) -> Iterator[Bucket]:
    """Give an object store."""
    with Bucket(on_files.folder / "weed") as made:
        yield made


@pytest.fixture(scope="module", params=["file", "s3"])
def lakes(request: pytest.FixtureRequest, on_files: Lakes) -> Lakes:
    """Give them on the store that is asked for."""
    return on_files if request.param == "file" else on_files.on(request.getfixturevalue("bucket"))


def rivals(made: Lakes, name: str, *deaths: Death | Write | None) -> tuple[Path, list[Child]]:
    """Start runs of everything side by side on an empty lake."""
    folder = made.copy(EVERYTHING, f"{name}-{made.store}")
    return folder, [made.start(EVERYTHING, folder, death) for death in deaths]


def test_two_runs_of_the_same_tiles_at_once(lakes: Lakes):
    folder, both = rivals(lakes, "two", None, None)
    for child in both:
        assert child.wait() == 0, child.said()
    lakes.hold(EVERYTHING, folder)


@pytest.mark.parametrize("table", ["bronze/visits", "silver/visits", "losers/visits", "system/tiles"])
def test_a_zombie_that_goes_on_after_another_did_its_work(lakes: Lakes, table: str):
    """Event-streaming 16: stopped just before a commit, woken when all is done: nothing is there twice."""
    at: Death | Write = Death(Event(f"publish {table} commit", 2), "before", signal.SIGSTOP)
    if lakes.bucket:
        at = Write(2, "down", f"{table}/_delta_log/", signal.SIGSTOP)
    folder, [zombie] = rivals(lakes, f"zombie-{table.replace('/', '-')}", at)
    _wait_until_stopped(zombie)
    lakes.hold(EVERYTHING, folder, again=True)
    zombie.signal(signal.SIGCONT)
    assert zombie.wait() == 0, zombie.said()
    lakes.hold(EVERYTHING, folder)


@pytest.mark.parametrize(
    ("lakes", "scenario"),
    [("file", EVERYTHING), ("file", FIFTY), ("s3", FIFTY if LONG else EVERYTHING)],
    ids=["four tiles", "fifty tiles", "on s3"],
    indirect=["lakes"],
)
def test_a_backfill_beside_live_runs_and_maintenance(lakes: Lakes, scenario: Scenario):
    """Kinesis-iceberg 39: a backfill in small commits, runs of the open tile, upkeep: all get through."""
    folder = lakes.copy(scenario, f"backfill-{scenario.name}-{lakes.store}".replace(" ", "-"))
    done = folder / "done"
    tidying = lakes.fork("work.maintain", folder, until=str(done))
    backfill = lakes.start(scenario, folder, None, rows=5)
    last = replace(scenario, steps=[{"select": EVENTS, "tiles": scenario.steps[0]["tiles"][-1]}])
    lived = 0
    while not backfill.ended.is_set() or lived < 2:
        live = lakes.start(last, folder)
        assert live.wait() == 0, live.said()
        lived += 1
    done.touch()
    for child in (backfill, tidying):
        assert child.wait() == 0, child.said()
    lakes.hold(scenario, folder)


@pytest.mark.parametrize(
    ("lakes", "scenario"),
    [("file", FIFTY), ("s3", FIFTY if LONG else EVERYTHING)],
    ids=["fifty tiles", "on s3"],
    indirect=["lakes"],
)
def test_a_backfill_beside_a_continuous_writer(lakes: Lakes, scenario: Scenario):
    """Event-streaming 16: both read the same tiles and commit all the time; the backfill ends beside it."""
    folder = lakes.copy(scenario, f"beside-{lakes.store}")
    steps = [{"continuous": ["--streams", "visits", "--rows", "10", "--upkeep", "0.3"], "until": "stopped"}]
    writer = lakes.start(replace(scenario, steps=steps), folder)
    backfill = lakes.start(scenario, folder, rows=5)
    assert backfill.wait() == 0, backfill.said()
    assert not writer.ended.is_set(), writer.said()
    writer.signal(signal.SIGTERM)
    assert writer.wait() == 0, writer.said()
    lakes.hold(scenario, folder)


def test_two_folds_of_one_dimension_at_once(lakes: Lakes):
    folder = lakes.copy(ENTITIES, f"folds-{lakes.store}")
    both = [lakes.start(ENTITIES, folder, None) for _ in range(2)]
    for child in both:
        assert child.wait() == 0, child.said()
    lakes.hold(ENTITIES, folder)


def _wait_until_stopped(child: Child) -> None:
    deadline = time.monotonic() + 120
    while Path(f"/proc/{child.pid}/stat").read_text().rsplit(") ", 1)[1][0] != "T":
        assert not child.ended.is_set(), f"it ended before it was stopped: {child.said()}"
        assert time.monotonic() < deadline, "it never came there"
        time.sleep(0.02)
