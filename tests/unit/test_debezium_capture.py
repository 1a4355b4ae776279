"""A capture of real servers: Debezium 3.7 on PostgreSQL 15, replayed in any order into the final tables."""

import base64
import json
from datetime import UTC, datetime
from functools import cache

import polars as pl
import pytest
from changes import changes_of, decoded_silver
from conftest import SHARED
from polars.testing import assert_frame_equal

from sluice import Debezium
from sluice.decode_changes import decode_changes
from sluice.history.scd2 import fold, intervals_broken
from sluice.tables import BRONZE

LIVE = SHARED / "debezium" / "postgres-live"
pytestmark = pytest.mark.skipif(
    not LIVE.exists(), reason="the shared data of debezium/postgres-live is absent"
)
FILES = ["records_schemaless.jsonl", "records_with_schema.jsonl"]
ZONED, NAIVE = pl.Datetime("us", "UTC"), pl.Datetime("us")
# Left out: clicks_nopk, which has no key. Of the tables below: columns that changed without telling
# existing rows (`orders.due_on`, `order_lines.discount`), and values that no column of this type can hold.
TABLES = {
    "customers": ("id", {"id": int, "email": str, "name": str, "created_at": ZONED, "vip": bool}
                  | {"score": float, "tier": str}),
    "orders": ("id", {"id": int, "customer_id": int, "status": str, "amount": pl.Decimal(12, 2), "ref": str}
               | {"placed_at": NAIVE, "attrs": str}),
    "order_lines": (("order_id", "line_no"), {"order_id": int, "line_no": pl.Int16, "sku": str}
                    | {"qty": pl.Int32, "price": pl.Decimal(9, 4)}),
    "documents": ("id", {"id": int, "title": str, "body": str, "rev": pl.Int32}),
    "documents_full": ("id", {"id": int, "title": str, "body": str, "blob": pl.Binary, "rev": pl.Int32}),
    "scratch": ("id", {"id": int, "v": str}),
    "all_types": ("id", {"id": int, "c_smallint": pl.Int16, "c_bigint": int, "c_real": pl.Float32}
                  | {"c_double": float, "c_numeric38": pl.Decimal(38, 10), "c_char": str, "c_varchar": str}
                  | {"c_text": str, "c_citext": str, "c_bytea": pl.Binary, "c_uuid": str, "c_json": str}
                  | {"c_jsonb": str, "c_xml": str, "c_inet": str, "c_cidr": str, "c_macaddr": str}
                  | {"c_int4range": str, "c_tstzrange": str, "c_bool": bool, "c_mood": str, "c_ltree": str}
                  | {"c_oid": int}),
}  # fmt: skip


@cache
def captured(file: str, table: str) -> pl.DataFrame:
    """Read the records of one table, as bronze keeps them."""
    rows = []
    for line in (LIVE / file).read_text().splitlines():
        record = json.loads(line)
        if record["topic"].split(".", 1)[1] in (f"public.{table}", table):
            at = datetime.fromtimestamp(record["timestamp_ms"] / 1000, UTC)
            headers = [{"key": name, "value": base64.b64decode(value)} for name, value in record["headers"]]
            data = {n: None if record[n] is None else base64.b64decode(record[n]) for n in ("key", "value")}
            place = {n: record[n] for n in ("topic", "partition", "offset", "timestamp_ms")}
            rows.append(
                place | data | {"headers": headers, "timestamp": at, "epoch": 1, "tile": "2026-11-21"}
            )
    return pl.DataFrame(rows, schema=BRONZE)


def contract(table: str, **options):
    key, columns = TABLES[table]
    return changes_of(columns, key, value=Debezium("postgresql"), **options)


def final(table: str) -> pl.DataFrame:
    """Give the table as PostgreSQL had it at the end."""
    rows = json.loads((LIVE / "expected_tables.json").read_text())[f"public.{table}"]["rows"]
    stream = contract(table)
    texts = pl.DataFrame(rows, schema_overrides=dict.fromkeys(rows[0], pl.String), infer_schema_length=None)
    return texts.select(parsed(c.name, c.storage) for c in stream.columns)


def parsed(name: str, dtype: pl.DataType) -> pl.Expr:
    text = pl.col(name)
    if dtype == pl.Boolean:
        return text == "true"
    if dtype == pl.Binary:
        return text.str.strip_prefix("\\x").str.decode("hex")
    if isinstance(dtype, pl.Datetime):
        return text.str.strip_suffix("+00").str.to_datetime(time_unit="us", time_zone=dtype.time_zone)
    return text.str.strip_chars_end() if name in ("sku", "c_char") else text.cast(dtype)


def image(table: str, folded: pl.DataFrame) -> pl.DataFrame:
    """Bring a dimension to what PostgreSQL's texts show: char(n) without its blanks."""
    padded = [name for name in ("sku", "c_char") if name in folded.columns]
    rows = folded.with_columns(pl.col(padded).str.strip_chars_end()) if padded else folded
    return rows.select(c.name for c in contract(table).columns)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("table", TABLES)
def test_the_capture_gives_the_final_table(table, file):
    rows = decoded_silver(contract(table), captured(file, table))
    folded = image(table, fold(rows, contract(table)))
    assert_frame_equal(folded, final(table), check_row_order=False)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("table", TABLES)
def test_shuffled_and_doubled_it_gives_the_same_versions(table, file):
    stream = contract(table, history=True)
    once = fold(decoded_silver(stream, captured(file, table)), stream)
    doubled = pl.concat([captured(file, table)] * 2)
    for seed in range(3):
        shuffled = doubled.sample(fraction=1.0, shuffle=True, seed=seed)
        assert_frame_equal(fold(decoded_silver(stream, shuffled), stream), once)
    assert intervals_broken(once, stream.keys, history=True).is_empty()
    assert_frame_equal(image(table, once.filter("is_current")), final(table), check_row_order=False)


def test_a_changed_key_takes_the_unsent_value_from_its_old_row():
    stream = contract("documents", history=True)
    rows = decoded_silver(stream, captured(FILES[0], "documents"))
    renamed = rows.filter(pl.col("_previous_key").is_not_null()).row(0, named=True)
    assert json.loads(renamed["_previous_key"]) == {"id": 3}
    assert renamed["_unavailable"] == ["body"]
    versions = fold(rows, stream)
    old = versions.filter(pl.col("id") == 3)
    assert versions.filter(pl.col("id") == renamed["id"])["body"].to_list() == [old["body"][-1]]
    assert old["valid_to"][-1] == renamed["_valid_from"]
    assert not old["is_current"].any()


@pytest.mark.parametrize("file", FILES)
def test_rows_of_a_table_without_a_key_are_refused_by_name(file):
    """Nobody can say which row such a change is of: each goes to quarantine; the echo of a delete is none."""
    records = captured(file, "clicks_nopk")
    stream = changes_of({"id": int, "url": str}, value=Debezium("postgresql"))
    decoded = decode_changes(stream, records)
    assert decoded.rows.is_empty()
    assert set(decoded.failures["stage"]) == {"key"}
    assert set(decoded.failures["column"]) == {"id"}
    assert decoded.failures["_row"].n_unique() == records["value"].drop_nulls().len()
    assert decoded.tombstones.len() == records["value"].null_count() > 0


@pytest.mark.parametrize("topic", ["transaction", "message"])
@pytest.mark.parametrize("file", FILES)
def test_what_tells_no_row_is_ignored(topic, file):
    records = captured(file, topic)
    assert records.height
    assert decode_changes(contract("scratch"), records).ignored.len() == records.height


def test_infinite_dates_and_times_are_refused_with_their_column():
    columns = {"id": int, "c_date": pl.Date, "c_ts": NAIVE, "c_time": pl.Time}
    stream = changes_of(columns, value=Debezium("postgresql"))
    records = captured(FILES[1], "all_types")
    decoded = decode_changes(stream, records)
    assert set(decoded.failures["stage"]) == {"schema"}
    assert set(decoded.failures["column"]) == {"c_date", "c_ts", "c_time"}  # infinity, infinity and BC, 24:00
    assert decoded.rows["c_date"].drop_nulls().to_list() == [datetime(2024, 2, 29, tzinfo=UTC).date()]


@pytest.mark.parametrize("file", FILES)
def test_special_encodings_are_undone(file):
    columns = {
        "id": int,
        "c_numeric": str,
        "c_money": pl.Decimal(19, 2),
        "c_time": pl.Int64,
        "c_interval": pl.Duration("us"),
    }
    columns |= {"c_ts": pl.Int64, "c_tstz": str, "c_bit1": bool, "c_bit8": pl.Binary, "c_hstore": str}
    columns |= {
        "c_a_text": pl.List(pl.String),
        "c_a_bigint": pl.List(pl.Int64),
        "c_a_num": pl.List(pl.Decimal(6, 2)),
    }
    columns |= {
        "c_a_ts": pl.List(NAIVE),
        "c_a_date": pl.List(pl.Date),
        "c_point": pl.Struct({"x": pl.Float64, "y": pl.Float64}),
    }
    rows = decode_changes(changes_of(columns, value=Debezium("postgresql")), captured(file, "all_types")).rows
    first = rows.filter((pl.col("id") == 1) & (pl.col("_op") == "r")).row(0, named=True)
    assert first["c_numeric"] == "0.1"  # PostgreSQL dropped nothing: the capture's numeric was 0.10
    assert str(first["c_money"]) == "12.34"
    assert first["c_interval"].total_seconds() * 10**6 == 37091106789000
    assert first["c_bit8"] == b"\xa5"
    assert first["c_a_text"] == ["a", None, '"q"']
    assert [str(n) for n in first["c_a_num"]] == ["1.10", "-2.00"]
    assert first["c_a_ts"] == [datetime(2024, 1, 1, 0, 0, 0, 500_000)]  # noqa: DTZ001  # naive, as the column
    assert first["c_point"] == {"x": 1.5, "y": -2.0}
    third = rows.filter(pl.col("id") == 3).row(0, named=True)
    assert third["c_numeric"] == "1" + "0" * 30


def test_bits_become_text_where_the_schema_tells_their_length():
    stream = changes_of({"id": int, "c_bit8": str, "c_varbit": pl.Int32}, value=Debezium("postgresql"))
    rows = decode_changes(stream, captured(FILES[1], "all_types")).rows
    assert rows.filter(pl.col("id") == 1)["c_bit8"].to_list() == ["10100101"] * 2
    assert rows.filter(pl.col("id") == 1)["c_varbit"].to_list() == [0b101] * 2
