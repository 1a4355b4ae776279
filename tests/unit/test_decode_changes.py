"""Plain JSON rows as changes: ops, tombstones, what names, orders and dates them, and what is refused."""

from datetime import UTC, datetime

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver

from sluice import Changes, Daily, Json
from sluice.decode_changes import decode_changes
from sluice.history.scd2 import fold

COLUMNS = {"id": int, "seq": int, "v": str}


def decode(values, keys=None, columns=None, **options):
    return decode_changes(changes_of(columns or COLUMNS, **options), bronze(values, keys))


def told(decoded):
    """Name the stage and the column of each failure."""
    return decoded.failures.select("_row", "stage", "column").rows()


def test_rows_are_upserts_in_the_order_of_the_log():
    rows = decode([{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]).rows
    assert rows["_op"].to_list() == ["u", "u"]
    assert rows["_position"].is_sorted()
    assert rows["_position"].n_unique() == 2
    assert rows["_valid_from"].to_list() == [datetime.fromtimestamp(n, UTC) for n in (0, 1)]


def test_marks_of_deletes_and_truncates_may_use_members_without_a_column():
    options = {"delete_when": pl.col("op") == "D", "truncate_when": pl.col("op") == "T", "sequence": "seq"}
    values = [{"id": 1, "seq": 1, "op": "I"}, {"id": 1, "seq": 2, "op": "D"}, {"id": 5, "seq": 3, "op": "T"}]
    decoded = decode(values, **options)
    assert decoded.rows.select("id", "_op").rows() == [(1, "u"), (1, "d"), (None, "t")]
    assert decoded.unknown == {}


@pytest.mark.parametrize(
    ("dtype", "key", "expected"),
    [
        (int, {"id": 7}, 7),
        (int, "7", 7),
        (int, '"7"', 7),
        (str, "C-1", "C-1"),
        (str, '"C-1"', "C-1"),
        (str, "7", "7"),
        (str, "true", "true"),
        (str, {"id": "x"}, "x"),
        (pl.Date, "2026-01-31", datetime(2026, 1, 31, tzinfo=UTC).date()),
    ],
)
def test_a_tombstone_deletes_the_key_that_its_kafka_key_names(dtype, key, expected):
    rows = decode([None], [key], {"id": dtype, "v": str}).rows
    assert rows.select("id", "v", "_op").rows() == [(expected, None, "d")]


@pytest.mark.parametrize("key", [None, "", "C-1", b"\xff", {"other": 1}, "null", "[1]", "1.5"])
def test_a_tombstone_that_names_no_key_is_refused(key):
    decoded = decode([None], [key])
    assert decoded.failures["stage"].unique().to_list() == ["key"]
    assert decoded.rows.is_empty()


def test_a_tombstone_of_a_key_of_two_columns_needs_both():
    assert decode([None], [{"id": 1, "v": "a"}], key=("id", "v")).rows.select("id", "v").rows() == [(1, "a")]
    assert told(decode([None], [{"id": 1}], key=("id", "v"))) == [(0, "key", "v")]


def test_a_tombstone_cannot_be_ordered_by_a_column():
    decoded = decode([None], [{"id": 1}], sequence="seq")
    assert decoded.failures["stage"].unique().to_list() == ["key"]
    assert "seq" in decoded.failures["reason"][0]


def test_tombstones_delete_in_the_order_of_the_log():
    stream = changes_of({"id": int, "v": str}, history=True)
    records = bronze([{"id": 1, "v": "a"}, None, {"id": 1, "v": "b"}, None], ["1"] * 4)
    versions = fold(decoded_silver(stream, records.reverse()), stream)
    assert versions.select("v", "version", "is_current").rows() == [("a", 1, False), ("b", 2, False)]


def test_null_keys_and_sequences_are_refused_wrong_ones_do_not_fit():
    values = [{"seq": 1}, {"id": 1}, {"id": 1, "seq": "x"}, {"id": "x", "seq": None}]
    assert told(decode(values, sequence="seq")) == [
        (0, "key", "id"),
        (1, "key", "seq"),
        (2, "schema", "seq"),
        (3, "key", "seq"),
        (3, "schema", "id"),
    ]


class Strict(pa.DataFrameModel):
    id: int
    v: str = pa.Field(isin=["a", "b"])
    n: int = pa.Field(nullable=True, ge=0)


def strict(**options):
    return Changes(
        name="rows",
        topic="rows",
        value=Json(),
        schema=Strict,
        key="id",
        partitions=Daily("2026-01-01"),
        **options,
    )


def test_nulls_types_and_rules_count_for_rows_but_not_for_deletes():
    values = [{"id": 1, "v": "a"}, {"id": 1}, {"id": 1, "v": "c", "n": -1}, {"id": 1, "v": "a", "n": 1.5}]
    decoded = decode_changes(strict(), bronze(values))
    assert told(decoded) == [(1, "schema", "v"), (2, "rule", "v"), (2, "rule", "n"), (3, "schema", "n")]
    deletes = decode_changes(strict(delete_when=pl.lit(value=True)), bronze(values))
    assert deletes.rows["_op"].to_list() == ["d"] * 4


def test_what_is_not_sent_is_not_checked_for_null():
    assert decode_changes(strict(ignore_null=True), bronze([{"id": 1}])).rows.height == 1
    assert decode_changes(strict(ignore_null=("v",)), bronze([{"id": 1}])).rows.height == 1
    assert told(decode_changes(strict(ignore_null=("n",)), bronze([{"id": 1}]))) == [(0, "schema", "v")]


def test_where_excludes_before_anything_is_refused():
    values = [{"id": 1, "v": "a"}, {"id": "x", "v": "b"}, "{", None]
    decoded = decode(values, [None, None, None, "5"], where={"v": "a"})
    assert decoded.rows.select("id", "_op").rows() == [(1, "u"), (5, "d")]
    assert decoded.ignored.to_list() == [1]
    assert told(decoded) == [(2, "decode", None)]


def test_a_named_beginning_is_stored_and_needed_for_history():
    columns = {"id": int, "at": pl.UInt64, "day": pl.Datetime("ms", "Europe/Berlin")}
    decoded = decode([{"id": 1, "at": 5}, {"id": 1}], columns=columns, valid_from="at", history=True)
    assert decoded.rows["_valid_from"].dtype == pl.Decimal(20, 0)
    assert told(decoded) == [(1, "key", "at")]
    dated = decode(
        [{"id": 1, "day": "2026-01-01T00:00:00+01:00"}, None],
        [None, "1"],
        columns,
        valid_from="day",
        history=True,
    )
    assert dated.rows["_valid_from"].to_list() == [
        datetime(2025, 12, 31, 23, tzinfo=UTC),
        datetime.fromtimestamp(1, UTC),  # of a tombstone when it was written
    ]


def test_rows_of_images_are_reads():
    assert decode([{"id": 1, "seq": 1}], snapshot="seq", sequence="seq").rows["_op"].to_list() == ["r"]


@pytest.mark.parametrize("size", [0, 1, 2])
def test_batches_of_any_size(size):
    decoded = decode([{"id": 1}] * size, delete_when=pl.col("v") == "gone")
    assert decoded.rows.height == size
    assert decoded.rows.columns[1:4] == list(COLUMNS)


def test_many_records_take_the_fast_way_to_the_same_rows():
    values = [None if n % 50 == 0 else {"id": n % 7, "seq": n, "v": str(n)} for n in range(1000)]
    stream = changes_of(COLUMNS)
    records = bronze(values, ["3"] * len(values))
    whole = decode_changes(stream, records).rows
    parts = [decode_changes(stream, records[start : start + 100]).rows for start in range(0, 1000, 100)]
    assert whole.drop("_row").equals(pl.concat(parts).drop("_row"))
    assert whole.height == len(values)
