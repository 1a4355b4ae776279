"""Recorded sequences of others: PostgreSQL and MySQL in JSON, replayed into the tables that they expect.

Left out, since their formats come later: Avro (`pg_avro_evolution`, `pg_orders_avro_*`) and MongoDB's
Extended JSON (`mongo_*`).
"""

import json
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver
from conftest import SHARED
from polars.testing import assert_frame_equal

from sluice import Debezium
from sluice.decode_changes import decode_changes
from sluice.scd2 import fold

CASES = SHARED / "debezium" / "cases"
pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the shared data of debezium/cases is absent")
LATER = ("mongo_", "pg_avro_evolution", "pg_orders_avro_")
PRODUCT = {"id": int, "name": str, "description": str, "weight": float}
CUSTOMER = {"id": int, "first_name": str, "last_name": str, "email": str}
ORDER = {
    "order_id": int,
    "order_date": int,
    "customer_name": str,
    "price": str,
    "product_id": int,
    "order_status": int,
}


def case(name: str) -> dict:
    return json.loads((CASES / f"{name}.json").read_text())


def replayed(messages: list, columns: dict, key="id", source="mysql", **options) -> pl.DataFrame:
    """Fold messages (texts, or objects of key and value), shuffled; nothing may be refused."""
    stream = changes_of(columns, key, value=Debezium(source), **options)
    pairs = [m if isinstance(m, dict) else {"key": None, "value": m} for m in messages]
    records = bronze([m["value"] for m in pairs], [m["key"] for m in pairs])
    assert decode_changes(stream, records).failures.is_empty()
    rows = decoded_silver(stream, records.sample(fraction=1.0, shuffle=True, seed=1))
    return fold(rows, stream).select(*columns).sort(stream.keys)


def expect(folded: pl.DataFrame, rows: list, names: list | None = None) -> None:
    orient = {"orient": "row"} if names else {}
    expected = pl.DataFrame(rows, schema=names or list(rows[0]), **orient, strict=False)
    expected = expected.select(pl.col(name).cast(folded.schema[name]) for name in expected.columns)
    assert_frame_equal(folded.select(expected.columns), expected, check_row_order=False)


def test_no_case_is_forgotten():
    here = Path(__file__).read_text()
    forgotten = [p.stem for p in CASES.glob("*.json") if not p.stem.startswith(LATER) and p.stem not in here]
    assert forgotten == []


@pytest.mark.parametrize(
    ("name", "columns", "key", "source"),
    [
        ("mysql_customers_no_schema", CUSTOMER, "id", "mysql"),
        ("mysql_customers_with_schema", CUSTOMER, "id", "mysql"),
        ("mysql_products_16_events", PRODUCT, "id", "mysql"),
        ("pg_products_full_before", PRODUCT, "id", "postgresql"),
        ("pg_orders_unparsable_key", ORDER, "order_id", "postgresql"),
    ],
)
def test_replays(name, columns, key, source):
    told = case(name)
    expect(replayed(told["messages"], columns, key, source), told["expected_rows"])


def test_pg_products_replica_identity_default_needs_the_kafka_key_of_its_last_delete():
    told = case("pg_products_replica_identity_default")
    *before, last = told["messages"]
    named = [*before, {"key": '{"id": 111}', "value": last}]
    expect(replayed(named, PRODUCT, source="postgresql"), told["expected_rows_with_kafka_keys"])
    stream = changes_of(PRODUCT, value=Debezium("postgresql"))
    records = bronze(told["messages"])
    failures = decode_changes(stream, records).failures
    assert failures.select("_row", "stage", "column").rows() == [(len(before), "key", "id")]
    rows = fold(decoded_silver(stream, records), stream)
    expect(rows.select(*PRODUCT), told["expected_rows_if_the_delete_is_quarantined"])


@pytest.mark.parametrize("member", ["messages", "messages_with_schema"])
@pytest.mark.parametrize("table", ["customers", "products"])
def test_two_tables_one_topic_with_new_column(member, table):
    told = case("two_tables_one_topic_with_new_column")
    expected = told["expected_rows_by_table"][table]
    names = dict.fromkeys(name for row in expected for name in row)
    columns = {name: {"id": int, "weight": float, "new_col": int}.get(name, str) for name in names}
    folded = replayed(told[member], columns, where={"source.table": table})
    expect(folded, [{name: row.get(name) for name in names} for row in expected])


def test_schema_evolution_no_schema():
    told = case("schema_evolution_no_schema")["steps"]
    columns = PRODUCT | {"age": int, "address": str}
    messages = []
    for step in told:
        messages += step["messages"]
        expect(replayed(messages, columns), step["expected_rows"], step["expected_columns"])
    expect(replayed(messages * 2, columns), told[-1]["expected_rows"], told[-1]["expected_columns"])


def test_schema_evolution_with_schema():
    told = case("schema_evolution_with_schema")
    columns = PRODUCT | {"age": int}
    messages = []
    for step in told["steps"][:-1]:
        messages += step["messages"]
        expect(
            replayed(messages, columns), step["expected_rows"], list(columns)[: len(step["expected_rows"][0])]
        )
    rest = [row for row in told["steps"][-2]["expected_rows"] if row[0] != 101]
    expect(replayed(messages + told["extra_delete"], columns), rest, list(columns))
    text = told["steps"][-1]["messages"]  # age became text: what is exactly a number still is one
    assert replayed(text, columns)["age"].to_list() == [int(json.loads(text[0])["payload"]["after"]["age"])]


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


def test_special_messages():
    """What is a row, what is ignored, what is a tombstone; nothing is a JSON error."""
    columns = {"pk": str, "id": int, "_id": str}
    for told in case("special_messages")["cases"]:
        if "value" not in told or "MongoDB" in told["name"] or "CloudEvents" in told["name"]:
            continue
        stream = changes_of(
            columns, "pk" if "pk" in json.dumps(told["value"]) else "id", value=Debezium("postgresql")
        )
        value = None if told["value"] is None else told["value"]
        decoded = decode_changes(stream, bronze([value], [told.get("key")]))
        assert decoded.failures.is_empty(), told["name"]
        if told["value"] is None:
            assert len(decoded.tombstones) == 1
        elif told["treat"].startswith(("row", "delete", "op t", "op r")):
            assert decoded.rows.height == 1, told["name"]
        else:
            assert len(decoded.ignored) == 1, told["name"]


def test_timestamptz_handling_mode():
    """The column's unit says how a number is read; a year beyond 9999 is refused, a naive text is UTC."""
    messages = case("timestamptz_handling_mode")["messages"]
    expected = case("timestamptz_handling_mode")["expected_by_mode"]
    for unit, mode in (("ms", "milli"), ("us", "micro")):
        stream = changes_of(
            {"case": str, "at": pl.Datetime(unit, "UTC")}, "case", value=Debezium("postgresql")
        )
        for message, wanted in list(zip(messages, expected[mode], strict=True))[: 2 if unit == "ms" else 3]:
            decoded = decode_changes(stream, bronze([message]))
            if wanted.startswith("56246"):
                assert decoded.failures["stage"].to_list() == ["schema"]
            else:
                text = pl.Series([wanted]).str.to_datetime(time_unit=unit, time_zone="UTC")
                assert decoded.rows["at"].to_list() == text.to_list()
