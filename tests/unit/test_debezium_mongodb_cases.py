"""Recorded changes of MongoDB's connector, replayed into the rows that they expect."""

import json

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver
from conftest import SHARED

from sluice import Debezium, Document
from sluice.decode_changes import decode_changes
from sluice.history.scd2 import fold

CASES = SHARED / "debezium" / "cases"
pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the shared data of debezium/cases is absent")
UTC_MS = pl.Datetime("ms", "UTC")


def case(name: str) -> dict:
    return json.loads((CASES / f"{name}.json").read_text())


def stream(columns: dict, **options):
    """Make a stream; a column is its type, or its type and its path."""
    kinds = {n: c[0] if isinstance(c, tuple) else c for n, c in columns.items()}
    fields = {
        n: pa.Field(nullable=True, metadata={"path": c[1]} if isinstance(c, tuple) else None)
        for n, c in columns.items()
    }
    schema = type("Row", (pa.DataFrameModel,), {"__annotations__": kinds, **fields})
    defaults = {"value": Debezium("mongodb"), "schema": schema}
    return changes_of({}, "id", **(defaults | options))


def folded(of, messages: list) -> list[dict]:
    """Fold messages (texts, or objects of key and value), shuffled and doubled; nothing may be refused."""
    pairs = [m if isinstance(m, dict) else {"key": None, "value": m} for m in messages]
    records = bronze([m["value"] for m in pairs], [m["key"] for m in pairs])
    assert decode_changes(of, records).failures.to_dicts() == []
    rows = decoded_silver(of, records.sample(fraction=1.0, shuffle=True, seed=1))
    image = fold(pl.concat([rows, rows]), of).select(column.name for column in of.columns)
    return image.sort("id").to_dicts()


CUSTOMER = {"id": (int, "_id"), "first_name": str, "last_name": str, "email": str}


@pytest.mark.parametrize("name", ["mongo_customers_no_schema", "mongo_customers_with_schema"])
def test_customers(name):
    told = case(name)
    expected = [{"id": row.pop("_id")} | row for row in told["expected_rows"]]
    assert folded(stream(CUSTOMER), told["messages"]) == expected


DATED = {
    "id": (int, "_id"), "rocket": (str, "rocket type"), "freezed": (pl.Date, "freezed at"),
    "launch": (pl.Datetime("us", "UTC"), "launch time"), "name": str, "age": pl.Int32, "birth_date": pl.Date,
    "created_at": pl.Datetime("us", "UTC"),
}  # fmt: skip


@pytest.mark.parametrize("number", range(3))
def test_mongo_dates_and_spaces_in_names(number):
    told = case("mongo_dates_and_spaces_in_names")["cases"][number]
    (row,) = folded(stream(DATED), [told["value"]])
    paths = {column.name: column.path[0] for column in stream(DATED).columns}
    shown = {paths[n]: v for n, v in row.items() if v is not None}
    texts = {
        n: v.isoformat().replace("+00:00", "Z") if hasattr(v, "isoformat") else v for n, v in shown.items()
    }
    assert texts == told["expected"]


def test_mongo_delete_key_only():
    told = case("mongo_delete_key_only")
    decoded = decode_changes(
        stream({"id": (str, "_id"), "x": int}),
        bronze([m["value"] for m in told["messages"]], [m["key"] for m in told["messages"]]),
    )
    assert decoded.rows.select("id", "_op").rows() == [(told["expected"]["_id"], "d")]


STORY = {
    "id": (str, "_id"), "created_at": int, "created_by": str, "tags": pl.List(pl.String),
    "updated_at": UTC_MS,
}  # fmt: skip


@pytest.mark.parametrize("update", [0, 1])
@pytest.mark.parametrize("delete", [0, 1, 2])
def test_mongo_insert_update_delete(update, delete):
    """All are of one cluster time: the order of the Kafka log decides."""
    told = case("mongo_insert_update_delete")

    def expected(name):
        row = {"id": told[name].pop("_id")} | told[name]
        return [row | {"updated_at": pl.Series([row["updated_at"]]).cast(UTC_MS)[0]}]

    messages = told["insert"]
    assert folded(stream(STORY), messages) == expected("expected_after_insert")
    messages = [*messages, told["update"][update]]
    assert folded(stream(STORY), messages) == expected("expected_after_update")
    assert folded(stream(STORY), [*messages, told["delete"][delete]]) == []
    assert folded(stream(STORY), [*messages, told["delete"][delete], *told["insert"]]) != []


TYPES = {
    "id": (str, "id"), "name": str, "age": int, "created_time": int, "updated_time": int,
    "deleted_time": UTC_MS,
    "register_time": pl.Struct({"t": pl.Int64, "i": pl.Int32}), "double_nan": float, "double_inf": float,
    "double_ninf": float, "double_zero": float, "boolean_true": bool, "boolean_false": bool,
    "array": pl.List(pl.String), "array_mix": Document, "decimal": pl.Decimal(10, 2), "decimal_nan": float,
    "regex": pl.Struct({"pattern": pl.String, "options": pl.String}), "symbol": str, "minKey": Document,
    "maxKey": Document, "code": str, "null": str, "undefined": str, "binary": pl.Binary, "uuid": str,
    "city": (str, "context.city"), "context": Document,
}  # fmt: skip


def test_mongo_extended_json_types():
    (told,) = case("mongo_extended_json_types")["cases"]
    event = {"op": "c", "after": told["extended_json"], "source": {}}
    (row,) = folded(stream(TYPES), [json.dumps(event)])
    theirs = told["paimon_flat_strings"]
    same = ("id", "name", "symbol", "code", "null", "undefined", "uuid")
    assert {n: row[n] for n in same} == {n: theirs[n] for n in same}
    assert [row["age"], row["created_time"], row["updated_time"]] == [25, 1735934393769, 1735934393769]
    assert row["deleted_time"].timestamp() * 1000 == 1735934393769
    assert row["register_time"] == {"t": 1736997330, "i": 2}
    doubles = [row[f"double_{n}"] for n in ("nan", "inf", "ninf", "zero")]
    assert str(doubles) == "[nan, inf, -inf, 0.0]"
    assert (row["boolean_true"], row["boolean_false"]) == (True, False)
    assert (row["array"], str(row["decimal"]), str(row["decimal_nan"])) == (["a", "b", "c"], "3.14", "nan")
    assert row["array_mix"] == '["1",{"$numberInt":"2"},{"$numberLong":"1735934393769"}]'
    assert row["regex"] == {"pattern": "^pass$", "options": "i"}
    assert (row["minKey"], row["maxKey"]) == ('{"$minKey":1}', '{"$maxKey":1}')
    assert row["binary"].hex() == row["uuid"].replace("-", "")
    assert row["city"] == "Shanghai"
    assert json.loads(row["context"])["nan"] == {"$numberDouble": "NaN"}


def test_special_messages_of_mongodb():
    """Rows, deletes, transaction marks and keys, as the documentation shows them."""
    columns = {"id": (int, "_id"), "first_name": str, "last_name": str, "email": str}
    for told in case("special_messages")["cases"]:
        if "MongoDB" not in told["name"]:
            continue
        if told["name"] == "MongoDB key":
            records = bronze([{"op": "d", "before": None, "source": {}}], [told["value"]])
        else:
            records = bronze([told["value"]])
        decoded = decode_changes(stream(columns), records)
        assert decoded.failures.is_empty(), told["name"]
        if told["treat"] == "not a row":
            assert len(decoded.ignored) == 1, told["name"]
        else:
            assert decoded.rows["id"].to_list() == [1004], told["name"]
