"""Runs that are killed, and runs that meet: the tables are those of a run that nothing disturbed.

The list of deaths is made from the code and from what a run does (`tests.crash`): here a sample, one of each
kind; `python -m tests.crash.enumerated` dies at all of them.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash import seam
from tests.crash.enumerated import Enumerated
from tests.crash.forks import Child, Forks
from tests.crash.scenarios import EVENTS, FIFTY, SCENARIOS, Scenario
from tests.crash.seam import Death, Event

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(900)]
SEED = 4
ELSEWHERE = (
    "resources/dbt_delta.py:",  # run by dbt, a program of its own, which is not marked
    # what only databases ask for: no server runs beside these (`tests/integration/test_reconcile_live.py`)
    *("assets/as_of.py:", "assets/reconcile_database.py:", "assets/verdicts.py:note:"),
)
EVERYTHING = next(s for s in SCENARIOS if s.name == "events")
ENTITIES = next(s for s in SCENARIOS if s.name == "changes")


@pytest.fixture(scope="module")
def enumerated(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enumerated]:
    """Give the scenarios, each run once in peace, in processes that can be killed."""
    preload = seam.built()
    if preload is None:
        assert not os.environ.get("CI"), "CI has a C compiler, from the wheel ziglang"
        pytest.skip("no C compiler: neither the wheel `ziglang` nor `cc` was found")
    folder = tmp_path_factory.mktemp("crash")
    with Forks(folder / "children", preload) as forks:
        made = Enumerated(folder, kafka, forks)
        made.prepare()
        made.watch(FIFTY)
        yield made


def test_every_write_in_the_code_is_passed_by_a_scenario(enumerated: Enumerated):
    """Kafka-medallion 40: a new place that writes to the lake needs a scenario that dies there."""
    unseen = [site for site in enumerated.unseen() if not site.startswith(ELSEWHERE)]
    assert not unseen, f"write boundaries without a crash scenario (tests/crash/scenarios.py): {unseen}"


def test_every_file_of_the_lake_was_seen_as_it_was_made(enumerated: Enumerated):
    for scenario in (EVERYTHING, ENTITIES):
        lake = enumerated.folder / f"peace-{scenario.name}" / "lake"
        there = sum(1 for path in lake.rglob("*") if path.is_file())
        events = enumerated.events[scenario.name]
        made = sum(event.label.startswith(("publish ", "create ")) for event in events)
        assert made >= there > 50


def test_runs_killed_anywhere_leave_nothing_behind(enumerated: Enumerated):
    """Kafka-medallion 5, 40-42: one death of each kind; the next run gives what an undisturbed one gave."""
    sample = enumerated.sample(SEED)
    wrong, died = enumerated.die_all(sample)
    assert not wrong, "\n\n".join(wrong[:3])
    assert died.total() - died["missed"] >= len(sample) * 0.8, (
        died
    )  # a worker of three seconds may not get there


def rivals(made: Enumerated, name: str, *deaths: Death | None) -> tuple[Path, list[Child]]:
    """Start runs of everything side by side on an empty lake."""
    folder = made.copy(EVERYTHING, name)
    return folder, [made.start(EVERYTHING, folder, death) for death in deaths]


def test_two_runs_of_the_same_tiles_at_once(enumerated: Enumerated):
    folder, both = rivals(enumerated, "two", None, None)
    for child in both:
        assert child.wait() == 0, child.said()
    enumerated.hold(EVERYTHING, folder)


@pytest.mark.parametrize("table", ["bronze/visits", "silver/visits", "losers/visits", "system/tiles"])
def test_a_zombie_that_goes_on_after_another_did_its_work(enumerated: Enumerated, table: str):
    """Event-streaming 16: stopped just before a commit, woken when all is done: nothing is there twice."""
    at = Event(f"publish {table} commit", 2)
    folder, [zombie] = rivals(
        enumerated, f"zombie-{table.replace('/', '-')}", Death(at, "before", signal.SIGSTOP)
    )
    _wait_until_stopped(zombie)
    enumerated.hold(EVERYTHING, folder, again=True)
    zombie.signal(signal.SIGCONT)
    assert zombie.wait() == 0, zombie.said()
    enumerated.hold(EVERYTHING, folder)


@pytest.mark.parametrize("scenario", [EVERYTHING, FIFTY], ids=["four tiles", "fifty tiles"])
def test_a_backfill_beside_live_runs_and_maintenance(enumerated: Enumerated, scenario: Scenario):
    """Kinesis-iceberg 39: a backfill in small commits, runs of the open tile, upkeep: all get through."""
    folder = enumerated.copy(scenario, f"backfill-{scenario.name}".replace(" ", "-"))
    done = folder / "done"
    tidying = enumerated.forks.start(
        "work.maintain", folder=str(folder), servers=enumerated.servers, until=str(done)
    )
    backfill = enumerated.start(scenario, folder, None, rows=5)
    last = replace(scenario, steps=[{"select": EVENTS, "tiles": scenario.steps[0]["tiles"][-1]}])
    lived = 0
    while not backfill.ended.is_set() or lived < 2:
        live = enumerated.start(last, folder)
        assert live.wait() == 0, live.said()
        lived += 1
    done.touch()
    for child in (backfill, tidying):
        assert child.wait() == 0, child.said()
    enumerated.hold(scenario, folder)


def test_a_backfill_of_fifty_tiles_beside_a_continuous_writer(enumerated: Enumerated):
    """Event-streaming 16: both read the same tiles and commit all the time; the backfill ends beside it."""
    folder = enumerated.copy(FIFTY, "backfill-beside")
    steps = [{"continuous": ["--streams", "visits", "--rows", "10", "--upkeep", "0.3"], "until": "stopped"}]
    writer = enumerated.start(replace(FIFTY, steps=steps), folder)
    backfill = enumerated.start(FIFTY, folder, rows=5)
    assert backfill.wait() == 0, backfill.said()
    assert not writer.ended.is_set(), writer.said()
    writer.signal(signal.SIGTERM)
    assert writer.wait() == 0, writer.said()
    enumerated.hold(FIFTY, folder)


def test_two_folds_of_one_dimension_at_once(enumerated: Enumerated):
    folder = enumerated.copy(ENTITIES, "folds")
    both = [enumerated.start(ENTITIES, folder, None) for _ in range(2)]
    for child in both:
        assert child.wait() == 0, child.said()
    enumerated.hold(ENTITIES, folder)


def _wait_until_stopped(child: Child) -> None:
    deadline = time.monotonic() + 120
    while Path(f"/proc/{child.pid}/stat").read_text().rsplit(") ", 1)[1][0] != "T":
        assert not child.ended.is_set(), f"it ended before it was stopped: {child.said()}"
        assert time.monotonic() < deadline, "it never came there"
        time.sleep(0.02)
