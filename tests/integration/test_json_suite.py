"""The JSON test suite through a real Kafka: what must be read is, what must not be is kept with its bytes."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.running import Project, Record, fill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
STAMP = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> list[Path]:
    """List the cases; the file's place is the record's offset."""
    return sorted((shared_data / "json-testsuite" / "test_parsing").glob("*.json"))


def member(number: int, case: Path) -> bytes:
    return b'{"id":%d,"at":"2026-01-01T12:00:00Z","m":' % number + case.read_bytes() + b"}"


@pytest.fixture(scope="module")
def made(kafka: str, cases: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Send every case twice: within an object, and as it is."""
    fill(kafka, "json.members", (Record(member(n, case), STAMP) for n, case in enumerate(cases)))
    fill(kafka, "json.wholes", (Record(case.read_bytes(), STAMP) for case in cases))
    project = Project(tmp_path_factory.mktemp("json"), kafka).declare("json_suite")
    project.run("group:bronze or group:silver", "2026-01-01").good()
    return project


def refused(made: Project, name: str) -> dict[int, tuple[str, bytes]]:
    rows = made.table(f"quarantine/{name}").select("offset", "stage", "value")
    return {offset: (stage, value) for offset, stage, value in rows.iter_rows()}


def test_valid_members_pass_and_invalid_ones_are_kept_with_their_bytes(made: Project, cases: list[Path]):
    passed = set(made.table("silver/members")["id"])
    kept = refused(made, "members")
    assert len(cases) > 300
    for number, case in enumerate(cases):
        assert (number in passed) is (number not in kept), case.name
        if case.name.startswith("y_"):
            assert number in passed, case.name
        if case.name.startswith("n_"):
            assert kept[number] == ("decode", member(number, case)), case.name
    made.prove("members")


def test_a_whole_value_that_is_no_object_is_kept_with_its_bytes(made: Project, cases: list[Path]):
    kept = refused(made, "wholes")
    assert made.table("silver/wholes").is_empty()
    assert sorted(kept) == list(range(len(cases)))
    for number, case in enumerate(cases):
        stage, value = kept[number]
        assert value == case.read_bytes(), case.name
        is_object = case.read_bytes().lstrip().startswith(b"{")
        if case.name.startswith("n_") or not is_object:
            assert stage == "decode", case.name
        elif case.name.startswith("y_"):
            assert stage in ("key", "schema"), case.name  # an object without our members
    made.prove("wholes")


def test_what_may_be_either_is_in_one_place_with_its_coordinates(made: Project, cases: list[Path]):
    silver = made.table("silver/members").select(pl.col("_offset").alias("offset"))
    kept = made.table("quarantine/members").select("offset")
    assert sorted(pl.concat([silver, kept])["offset"]) == list(range(len(cases)))
