"""What fails outside: one clear message, and the next run goes on from there."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from tests.e2e.meters import HOURS, produce
from tests.running import Project, Record, assert_same, fill

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
RANGE = (HOURS[0], HOURS[-1])
STAMP = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(autouse=True)
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step fail the first time: its retries wait for minutes."""
    for module in ("bronze", "silver", "dimensions"):
        monkeypatch.setattr(f"assets.{module}.RETRIES", dg.RetryPolicy(max_retries=0))


@pytest.fixture(scope="module")
def right(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Bring the readings in where nothing fails."""
    produce(kafka)
    made = Project(tmp_path_factory.mktemp("right"), kafka).declare("meters")
    made.both("meter_readings", RANGE).good()
    return made


def fails(made: Project, *words: str, name: str = "meter_readings") -> None:
    """Run, and find one clear message with some words."""
    outcome = made.both(name, RANGE)
    assert not outcome.success
    assert len(outcome.errors) == 1, outcome.errors
    told = outcome.errors[0]
    assert all(word in told for word in words), told


def test_a_topic_that_does_not_exist(kafka: str, tmp_path: Path):
    contract = (Project(tmp_path / "x", kafka).declare("meters").streams / "meters.py").read_text()
    made = Project(tmp_path, kafka).write("meters", contract.replace("meters.readings", "meters.typo"))
    fails(made, "'meters.typo' does not exist", "create it")
    fill(kafka, "meters.typo", [Record(b'{"meter":1,"at":"2026-01-05T00:00:00Z","kwh":1}', STAMP)])
    made.both("meter_readings", RANGE).good()
    assert made.table("silver/meter_readings").height == 1


def test_no_broker_answers(right: Project, kafka: str, tmp_path: Path):
    made = Project(tmp_path, "127.0.0.1:1").declare("meters")
    fails(made, "no Kafka broker answers at 127.0.0.1:1", "KAFKA_BOOTSTRAP_SERVERS")
    made.servers = kafka
    made.both("meter_readings", RANGE).good()
    assert_same(made.state("meter_readings"), right.state("meter_readings"))


def test_a_file_where_the_lake_should_be(right: Project, kafka: str, tmp_path: Path):
    made = Project(tmp_path, kafka).declare("meters")
    (tmp_path / "lake").write_text("in the way")
    fails(made, "could not be read or written", str(tmp_path / "lake"))
    (tmp_path / "lake").unlink()
    made.both("meter_readings", RANGE).good()
    assert_same(made.state("meter_readings"), right.state("meter_readings"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of a megabyte, where this is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(right: Project, kafka: str, tmp_path: Path, small_disk: Path):
    made = Project(tmp_path, kafka, uri=str(small_disk / "lake")).declare("meters")
    (small_disk / "filler").write_bytes(b"x" * 400_000)
    fails(made, "no space is left", "No space left on device")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    made.both("meter_readings", RANGE).good()
    assert_same(made.state("meter_readings"), right.state("meter_readings"))
    made.prove("meter_readings")


def test_a_read_only_lake(right: Project, kafka: str, tmp_path: Path, small_disk: Path):
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    made = Project(tmp_path, kafka, uri=str(small_disk / "lake")).declare("meters")
    made.both("meter_readings", HOURS[0]).good()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    fails(made, "Read-only file system", str(small_disk))
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    made.both("meter_readings", RANGE).good()
    assert_same(made.state("meter_readings"), right.state("meter_readings"))


def test_values_of_ten_megabytes(kafka: str, tmp_path: Path):
    contract = (Project(tmp_path / "x", kafka).declare("meters").streams / "meters.py").read_text()
    made = Project(tmp_path, kafka).write("meters", contract.replace("meters.readings", "meters.large"))
    good = json.dumps({"meter": 1, "at": "2026-01-05T00:00:00Z", "kwh": 1, "more": "x" * 10_000_000}).encode()
    bad = b"y" * 10_000_000
    records = [Record(value, STAMP, partition=0) for value in (good, bad, good)]
    fill(kafka, "meters.large", records, max_message_bytes="32000000")
    outcome = made.both("meter_readings", HOURS[0])
    assert outcome.success, outcome
    assert made.table("silver/meter_readings").height == made.table("losers/meter_readings").height == 1
    assert made.table("quarantine/meter_readings")["value"].to_list() == [bad]
    assert made.table("bronze/meter_readings").sort("offset")["value"].to_list() == [good, bad, good]
    made.prove("meter_readings")
