"""What people type: contracts in an empty folder, tiles by Dagster's command, jobs, try and trace."""

import json
import os
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.meters import HOURS, produce
from tests.running import Project, assert_same

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
PICK = "bronze/meter_readings,silver/meter_readings"


@pytest.fixture(scope="module")
def made(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Drop a contract into a folder, and bring a later hour in before the earlier ones."""
    produce(kafka)
    project = Project(tmp_path_factory.mktemp("typed"), kafka).declare("meters")
    done = project.dagster(PICK, "--partition", HOURS[2])
    assert done.returncode == 0, done.stdout[-4000:]
    assert set(project.table("bronze/meter_readings")["tile"]) == {HOURS[2]}
    done = project.dagster(PICK, "--partition-range", f"{HOURS[0]}...{HOURS[-1]}")
    assert done.returncode == 0, done.stdout[-4000:]
    return project


def test_typed_commands_give_what_one_run_gives(made: Project, kafka: str, tmp_path: Path):
    other = Project(tmp_path, kafka).declare("meters")
    other.both("meter_readings", (HOURS[0], HOURS[-1])).good()
    assert_same(made.state("meter_readings"), other.state("meter_readings"))
    made.prove("meter_readings")


def test_a_tile_that_is_none_is_refused(made: Project):
    done = made.dagster(PICK, "--partition", "2025-12-31-00:00")
    assert done.returncode != 0
    assert "2025-12-31-00:00" in done.stdout


def test_too_much_in_quarantine_fails_the_command(made: Project, kafka: str, tmp_path: Path):
    strict = (made.streams / "meters.py").read_text().replace("max_quarantined=0.5", "max_quarantined=0.0")
    other = Project(tmp_path, kafka).write("meters", strict)
    done = other.dagster(PICK, "--partition", HOURS[1])
    assert done.returncode != 0, done.stdout[-4000:]
    assert "quarantine_within_limit" in done.stdout
    other.prove("meter_readings")


def test_a_corrected_contract_takes_what_was_refused(made: Project, kafka: str, tmp_path: Path):
    other = Project(tmp_path, kafka).declare("meters")
    other.both("meter_readings", (HOURS[0], HOURS[-1])).good()
    before = other.accounts("meter_readings")
    refused = other.table("quarantine/meter_readings")
    negative = refused.filter(pl.col("stage") == "rule").height
    assert negative > 0
    other.write("meters", (made.streams / "meters.py").read_text().replace("ge=0", "ge=-5"))
    config = tmp_path / "replay.json"
    of = {"stream": "meter_readings", "stages": ["rule"]}
    config.write_text(json.dumps({"ops": {"replay_records": {"config": of}}}))
    dagster = str(Path(sys.executable).with_name("dagster"))
    done = other.shell(
        [dagster, "job", "execute", "-m", "definitions", "-j", "replay_quarantine", "-c", str(config)]
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{negative} records read again, {negative} moved, 0 stay" in done.stdout
    other.prove("meter_readings")
    still = other.table("quarantine/meter_readings").filter(pl.col("resolved_at").is_null())
    assert set(still["stage"]) == {"decode"}
    assert other.accounts("meter_readings") == before
    whole = Project(tmp_path / "whole", kafka).write("meters", (other.streams / "meters.py").read_text())
    whole.both("meter_readings", (HOURS[0], HOURS[-1])).good()
    is_, must = other.state("meter_readings"), whole.state("meter_readings")
    assert is_["silver"].equals(must["silver"])
    assert is_["losers"].equals(must["losers"])


def test_trace_finds_a_record_wherever_it_is(made: Project):
    row = made.table("silver/meter_readings").row(0, named=True)
    refused = made.table("quarantine/meter_readings").row(0, named=True)
    python = [sys.executable, "-m", "assets.trace", "meter_readings"]
    found = made.shell([*python, "--key", str(row["meter"])])
    assert found.returncode == 0, found.stdout
    assert "silver/meter_readings: " in found.stdout
    assert "bronze/meter_readings: " in found.stdout
    at = made.shell([*python, "--at", f"{refused['partition']}:{refused['offset']}"])
    assert at.returncode == 0, at.stdout
    assert "quarantine/meter_readings: 1" in at.stdout
    assert "silver/meter_readings: nothing" in at.stdout
    nowhere = made.shell([*python, "--key", "987654321"])
    assert nowhere.returncode == 1
    wrong = made.shell([*python, "--at", "here"])
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stdout


def test_try_tells_what_passes_and_why_the_rest_does_not(made: Project, tmp_path: Path):
    samples = tmp_path / "samples.jsonl"
    samples.write_text('{"meter":1,"at":"2026-01-05T00:00:00Z","kwh":"1.5"}\n{"meter":1,"kwh":-1}\n')
    done = made.shell([sys.executable, "-m", "resources.try_contract", "meter_readings", str(samples)])
    assert done.returncode == 1
    assert "passed 1, refused 1" in done.stdout
    assert "line 2" in done.stdout
    assert os.linesep.join(line for line in done.stdout.splitlines() if "Traceback" in line) == ""
