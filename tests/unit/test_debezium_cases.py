"""Recorded sequences of others: PostgreSQL and MySQL in JSON, replayed into the tables that they expect.

Those of MongoDB are in `test_debezium_mongodb_cases.py`, those of all types of MySQL and PostgreSQL in
`test_debezium_all_types.py`. Left out, since the format comes later: Avro (`pg_avro_*`, `pg_orders_avro_*`).
"""

import json
from pathlib import Path

import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver
from conftest import SHARED
from polars.testing import assert_frame_equal

from sluice import Debezium
from sluice.decode_changes import decode_changes
from sluice.history.scd2 import fold

CASES = SHARED / "debezium" / "cases"
pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the shared data of debezium/cases is absent")
LATER = ("pg_avro_evolution", "pg_orders_avro_")
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
    here = "".join(path.read_text() for path in Path(__file__).parent.glob("test_debezium_*.py"))
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


def test_special_messages():
    """What is a row, what is ignored, what is a tombstone; nothing is a JSON error."""
    columns = {"pk": int, "id": int, "_id": str}
    for told in case("special_messages")["cases"]:
        if "value" not in told or "MongoDB" in told["name"]:
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
