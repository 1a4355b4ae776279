"""Runs that are killed: after the next run the tables are those of a run that nothing disturbed.

The list of deaths is made from the code and from what a run does (`tests.crash`): here a sample, one of each
kind; `python -m tests.crash.enumerated` dies at all of them, with `--store=s3` at each write to a bucket.
"""

import random

import pytest

from tests.crash.enumerated import Enumerated
from tests.crash.forks import Forks
from tests.crash.object_store import Bucket
from tests.crash.scenarios import SCENARIOS

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(900)]
SEED = 4
FILLINGS = 24
ON_S3, SAMPLE = ("events", "more changes", "replace", "continuous"), 8
EVERYTHING = next(s for s in SCENARIOS if s.name == "events")
ENTITIES = next(s for s in SCENARIOS if s.name == "changes")


@pytest.fixture(scope="module")
def enumerated(kafka: str, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Enumerated:
    """Give the scenarios, each run once in peace."""
    made = Enumerated(tmp_path_factory.mktemp("crash"), kafka, forks)
    made.prepare()
    return made


def test_every_write_in_the_code_is_passed_by_a_scenario(enumerated: Enumerated):
    """Kafka-medallion 40: a new place that writes to the lake needs a scenario that dies there."""
    unseen = enumerated.unseen()
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
    sample = enumerated.sample(SEED, enumerated.all_deaths())
    wrong, died = enumerated.die_all(sample)
    assert not wrong, "\n\n".join(wrong[:3])
    assert died.total() - died["missed"] >= len(sample) * 0.8, (
        died
    )  # a worker of three seconds may not get there


def test_a_disk_that_is_full_from_any_moment_on_loses_nothing(enumerated: Enumerated):
    """The run fails in clear words or does without; with room again the next one gives what all do."""
    sample = enumerated.sample(SEED, enumerated.all_fillings())
    chosen = random.Random(SEED).sample(sample, min(FILLINGS, len(sample)))  # noqa: S311  # as above
    wrong, failed = enumerated.die_all(chosen)
    assert not wrong, "\n\n".join(wrong[:3])
    assert failed.total() - failed["missed"] >= len(chosen) // 2, failed


def test_runs_killed_at_a_write_to_an_object_store_leave_nothing_behind(enumerated: Enumerated):
    """Kafka-medallion 41: dropped, or taken and never answered, as the process dies."""
    with Bucket(enumerated.folder / "weed") as bucket:
        there = enumerated.on(bucket)
        writes = there.all_writes(s for s in SCENARIOS if s.name in ON_S3)
        sample = random.Random(SEED).sample(writes, min(SAMPLE, len(writes)))  # noqa: S311
        wrong, died = there.die_all(sample)
    assert not wrong, "\n\n".join(wrong[:3])
    assert died.total() - died["missed"] >= len(sample) * 0.8, died
