"""Recorded rows with all types of MySQL and PostgreSQL: each value arrives exact, or is refused."""

import json

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of
from conftest import SHARED

from sluice import Debezium
from sluice.decode_changes import decode_changes

CASES = SHARED / "debezium" / "cases"
pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the shared data of debezium/cases is absent")


def case(name: str) -> dict:
    return json.loads((CASES / f"{name}.json").read_text())


@pytest.mark.parametrize("kind", ["with_schema", "without_schema_base64", "without_schema_numeric_text"])
def test_mysql_all_types_flink_cdc(kind):
    event = case("mysql_all_types_flink_cdc")[kind]["expected_snapshot"]
    columns = {
        "int_c": int, "tiny_un_c": pl.UInt8, "small_un_c": pl.UInt16,
        "int_un_c": pl.UInt32, "big_c": int, "big_un_c": pl.Decimal(20, 0), "varchar_c": str, "real_c": float,
        "decimal_c": pl.Decimal(8, 4), "bit1_c": bool, "date_c": pl.Date, "time_c": pl.Time,
        "datetime3_c": pl.Datetime("ms"), "datetime6_c": pl.Datetime("us"),
        "timestamp_c": pl.Datetime("us", "UTC"),
        "bit_c": pl.Binary, "blob_c": pl.Binary, "year_c": int, "enum_c": str, "set_c": str, "json_c": str,
    }  # fmt: skip
    if kind == "with_schema":  # which says int64 where the value is base64: refused, see below
        del columns["big_un_c"]
    decoded = decode_changes(changes_of(columns, "int_c", value=Debezium("mysql")), bronze([event]))
    assert decoded.failures.to_dicts() == []
    row = decoded.rows.row(0, named=True)
    assert (row["tiny_un_c"], row["int_un_c"], row.get("big_un_c", 2**64 - 1)) == (255, 2**32 - 1, 2**64 - 1)
    assert str(row["decimal_c"]) == "123.4567"
    assert str(row["date_c"]) == "2020-07-17"
    assert str(row["time_c"]) == "18:00:22"
    assert row["datetime3_c"].isoformat() == "2020-07-17T18:00:22.123000"
    assert row["datetime6_c"].isoformat() == "2020-07-17T18:00:22.123456"
    assert row["timestamp_c"].isoformat() == "2020-07-17T18:00:22+00:00"
    assert row["bit_c"] == bytes([4] * 8)


def test_values_that_contradict_their_schema_are_refused():
    """Scale and precision swapped; int64 with base64 in it."""
    event = case("mysql_all_types_flink_cdc")["with_schema"]["expected_snapshot"]
    for dtype in (pl.Decimal(38, 1), pl.String()):
        columns = {"int_c": int, "big_decimal_c": dtype, "big_un_c": pl.Decimal(20, 0)}
        failures = decode_changes(
            changes_of(columns, "int_c", value=Debezium("mysql")), bronze([event])
        ).failures
        assert failures.select("stage", "column").rows() == [
            ("schema", "big_decimal_c"),
            ("schema", "big_un_c"),
        ]


def test_mysql_all_types_paimon():
    told = case("mysql_all_types_paimon")
    expected = told["expected_some"]
    columns = {
        "_id": int, "pt": pl.Decimal(2, 1), "_bit1": bool, "_bigint_unsigned": pl.Decimal(20, 0),
        "_bit": pl.Binary,
        "_numeric": pl.Decimal(8, 3), "_fixed": pl.Decimal(38, 2), "_big_decimal": str, "_date": pl.Int32,
        "_datetime": pl.Datetime("ms"), "_datetime3": pl.Datetime("ms"), "_datetime6": pl.Datetime("us"),
        "_timestamp": pl.Datetime("us", "UTC"), "_json": str, "_year": int, "_set": str,
    }  # fmt: skip
    model = {f"c{n}": dtype for n, dtype in enumerate(columns.values())}
    decoded = decode_changes(renamed(model, list(columns)), bronze(told["messages"]))
    assert decoded.failures.to_dicts() == []
    row = dict(zip(columns, decoded.rows.select(*model).row(0), strict=True))
    assert row["_bit"][::-1] == bytes(expected["_bit_bytes_big_endian"])
    assert json.loads(row["_json"]) == expected["_json"]
    for name in ("_datetime", "_datetime3", "_datetime6", "_timestamp"):
        text = pl.Series([expected[name]]).str.to_datetime(
            time_unit="us", time_zone=row[name].tzinfo and "UTC"
        )
        assert row[name] == text[0]
    for name in (
        "_id",
        "pt",
        "_bit1",
        "_bigint_unsigned",
        "_numeric",
        "_fixed",
        "_big_decimal",
        "_date",
        "_year",
        "_set",
    ):
        assert str(row[name]) == str(expected[name])


def renamed(model: dict, members: list[str]):
    """Make a stream whose columns have names that a model allows, and paths to the members."""
    fields = {c: pa.Field(nullable=True, metadata={"path": m}) for c, m in zip(model, members, strict=True)}
    schema = type("Row", (pa.DataFrameModel,), {"__annotations__": model, **fields})
    return changes_of({}, "c0", value=Debezium("mysql"), schema=schema)


def test_decimal_vectors():
    told = case("decimal_vectors")
    for vector in told["cases"]:
        field = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "field": "v"}
        field |= {"parameters": {"scale": str(vector["scale"])}}
        after = {"id": 1, "v": vector["base64"]}
        envelope = {
            "schema": {"fields": [{"field": "after", "fields": [field]}]},
            "payload": {"op": "c", "after": after, "source": {}},
        }
        stream = changes_of({"id": int, "v": str}, value=Debezium("mysql"))
        decoded = decode_changes(stream, bronze([envelope]))
        assert decoded.rows["v"].to_list() == [vector[n] for n in ("value",) if n in vector]
        assert decoded.failures["column"].to_list() == ["v"] * ("error" in vector)
    trap = told["json_number_trap"]
    after = f'{{"op": "c", "after": {{"id": 1, "v": {trap["text"]}}}}}'
    stream = changes_of({"id": int, "v": pl.Decimal(38, 2)}, value=Debezium("mysql"))
    assert str(decode_changes(stream, bronze([after])).rows["v"][0]) == trap["must_equal"]


def test_pg_column_types():
    temporal, numeric, other = case("pg_column_types")["cases"]
    columns = {
        "o_key": int, "o_time_0": pl.Time, "o_time_6": pl.Time, "o_timez_0": pl.Time, "o_timez_6": pl.Time,
        "o_timestamp_0": pl.Datetime("ms"), "o_timestamp_6": pl.Datetime("us"), "o_interval": str,
        "o_timestampz_0": pl.Datetime("us", "UTC"), "o_timestampz_6": pl.Datetime("us", "UTC"),
        "o_date": pl.Date,
    }  # fmt: skip
    rows = decode_changes(
        changes_of(columns, "o_key", value=Debezium("postgresql")), bronze([temporal["value"]])
    ).rows
    told = {
        n: str(v).replace(" ", "T").replace("+00:00", "Z")
        for n, v in rows.select(*columns).row(0, named=True).items()
    }
    expected = {n: str(v).split(" (")[0] for n, v in temporal["expected"].items()}
    assert told == expected | {n: expected[n].removesuffix("Z") for n in ("o_timez_0", "o_timez_6")}
    columns = {"o_key": int, "o_smallint": pl.Int16, "o_integer": pl.Int32, "o_bigint": int, "o_real": float}
    columns |= {
        "o_double": float,
        "o_numeric": pl.Decimal(20, 3),
        "o_numeric_6_3": pl.Decimal(6, 3),
        "o_money": pl.Decimal(9, 2),
    }
    rows = decode_changes(
        changes_of(columns, "o_key", value=Debezium("postgresql")), bronze([numeric["value"]])
    ).rows
    told = rows.select(*columns).row(0, named=True)
    assert {n: str(v) for n, v in told.items()} == {n: str(v) for n, v in numeric["expected"].items()}
    columns = {
        "o_key": int,
        "o_boolean": bool,
        "o_bit": bool,
        "o_bytea": pl.Binary,
        "o_json": str,
        "o_xml": str,
    }
    columns |= {
        "o_uuid": str,
        "o_point": pl.Struct({"x": pl.Float64, "y": pl.Float64}),
        "o_enum": str,
        "o_varchar": str,
    }
    rows = decode_changes(
        changes_of(columns, "o_key", value=Debezium("postgresql")), bronze([other["value"]])
    ).rows
    told = rows.select(*columns).row(0, named=True)
    told |= {"o_bytea": f"{told['o_bytea'].hex()} (hex)", "o_json": json.loads(told["o_json"])}
    assert told == {name: other["expected"][name] for name in columns}
