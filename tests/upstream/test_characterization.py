"""Facts about delta-rs and Dagster that we lean on: a new version that breaks one shows here first."""

import dagster as dg
import polars as pl
import pytest
from dagster._check import CheckError
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError


@pytest.fixture
def table(tmp_path) -> str:
    """Give a table with rows in two partitions."""
    path = str(tmp_path / "table")
    write_deltalake(path, pl.concat([rows(1, "a"), rows(2, "b")]), partition_by=["part"])
    return path


def rows(number: int, part: str) -> pl.DataFrame:
    return pl.DataFrame({"n": [number], "part": [part]})


def write(handle, frame, *, ids=None, **arguments) -> None:
    transactions = [Transaction(name, version) for name, version in (ids or {}).items()]
    properties = CommitProperties(app_transactions=transactions)
    write_deltalake(handle, frame, commit_properties=properties, **{"mode": "append"} | arguments)


def numbers(path: str) -> list[int]:
    return pl.scan_delta(path).collect()["n"].sort().to_list()


def test_a_second_commit_of_an_id_that_raced_the_first_is_refused(table):
    one, two = DeltaTable(table), DeltaTable(table)
    write(one, rows(3, "a"), ids={"id": 1})
    with pytest.raises(CommitFailedError):
        write(two, rows(3, "a"), ids={"id": 1})
    assert numbers(table) == [1, 2, 3]


def test_a_lower_version_from_a_fresh_handle_is_taken(table):
    """Why the lake asserts itself that progress never goes back."""
    write(DeltaTable(table), rows(3, "a"), ids={"id": 5})
    write(DeltaTable(table), rows(3, "a"), ids={"id": 4})
    assert numbers(table) == [1, 2, 3, 3]


def test_appends_that_raced_pass_and_other_ids_do_not_conflict(table):
    one, two = DeltaTable(table), DeltaTable(table)
    write(one, rows(3, "a"), ids={"one": 1})
    write(two, rows(4, "a"), ids={"two": 1})
    assert numbers(table) == [1, 2, 3, 4]


def test_overwrites_of_different_partitions_pass(table):
    one, two = DeltaTable(table), DeltaTable(table)
    write(one, rows(3, "a"), mode="overwrite", predicate="part = 'a'")
    write(two, rows(4, "b"), mode="overwrite", predicate="part = 'b'")
    assert numbers(table) == [3, 4]


def test_overwrites_of_one_partition_conflict(table):
    one, two = DeltaTable(table), DeltaTable(table)
    write(one, rows(3, "a"), mode="overwrite", predicate="part = 'a'")
    with pytest.raises(CommitFailedError):
        write(two, rows(4, "a"), mode="overwrite", predicate="part = 'a'")


def test_one_overwrite_replaces_several_partitions_in_one_commit(table):
    handle = DeltaTable(table)
    write(handle, pl.concat([rows(3, "a"), rows(4, "b")]), mode="overwrite", predicate="part IN ('a', 'b')")
    assert (numbers(table), DeltaTable(table).version()) == ([3, 4], 1)


def test_a_tick_with_requests_and_a_reason_is_refused():
    """Why the arrivals sensor gives either."""

    @dg.job
    def job() -> None: ...

    @dg.sensor(job=job)
    def both():
        yield dg.RunRequest()
        yield dg.SkipReason("no")

    with (
        dg.build_sensor_context(definitions=dg.Definitions(jobs=[job], sensors=[both])) as context,
        pytest.raises(CheckError, match="received both"),
    ):
        both.evaluate_tick(context)
