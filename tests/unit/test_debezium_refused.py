"""Envelopes that are none, cut off or strange: refused, each for what is wrong with it."""

import json

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of

from sluice import Debezium, Document
from sluice.decode_changes import decode_changes


class Kept(pa.DataFrameModel):
    id: int = pa.Field(metadata={"path": "_id"})
    v: int = pa.Field(nullable=True)
    rest: Document = pa.Field(nullable=True, metadata={"path": "*"})


KEPT = changes_of({}, value=Debezium("mongodb"), schema=Kept)
WHOLE = json.dumps({"op": "u", "before": {"id": 1}, "after": {"id": 1, "v": "x"}, "source": {"lsn": 1}})


def decode(values, columns=None, *, value=None):
    stream = changes_of(columns or {"id": int, "v": str}, value=value or Debezium("postgresql"))
    return decode_changes(stream, bronze(values))


@pytest.mark.parametrize("source", ["postgresql", "mysql", "mongodb"])
def test_an_envelope_cut_off_anywhere_is_refused(source):
    records = [WHOLE[:size] for size in range(len(WHOLE))]
    decoded = decode(records, value=Debezium(source))
    assert decoded.failures["stage"].unique().to_list() == ["decode"]
    assert decoded.failures["_row"].n_unique() == len(records)


@pytest.mark.parametrize(
    ("value", "stage"),
    [
        ({"op": "u", "after": "{", "source": {}}, "decode"),
        ({"op": "u", "after": "[]", "source": {}}, "decode"),
        ({"op": "u", "after": '"text"', "source": {}}, "decode"),
        ({"op": "u", "after": None, "source": {}}, "decode"),
        ({"op": "u", "after": 5, "source": {}}, "decode"),
        ({"op": "x", "after": "{}", "source": {}}, "decode"),
        ({"op": ["u"], "after": "{}", "source": {}}, "decode"),
        ({"op": "u", "updateDescription": {"updatedFields": "{"}}, "decode"),
        ({"op": "u", "updateDescription": {"updatedFields": "[]"}}, "decode"),
        ({"op": "u", "updateDescription": {"removedFields": 5}}, "decode"),
        ({"op": "u", "updateDescription": {"removedFields": [5]}}, "decode"),
        ({"op": "u", "updateDescription": {"truncatedArrays": [{"field": "a"}]}}, "decode"),
        ({"op": "u", "updateDescription": {"truncatedArrays": [{"field": "a", "size": 1.5}]}}, "decode"),
        ({"op": "u", "updateDescription": {"truncatedArrays": [7]}}, "decode"),
        ({"op": "u", "patch": '{"$v": 2, "diff": {}}'}, "decode"),
        ({"op": "u", "patch": "{"}, "decode"),
        (
            {"op": "u", "before": '{"a": {"$oid": 1}}', "updateDescription": {"updatedFields": '{"a.b": 1}'}},
            "decode",
        ),
        ({"operationType": "insert", "clusterTime": {"$timestamp": 1}}, "decode"),
        ({"operationType": "insert", "documentKey": {}}, "decode"),
        ({"op": "c", "after": '{"v": 1}', "source": {}}, "key"),
        ({"op": "u", "updateDescription": {"updatedFields": '{"v": "x"}'}}, "schema"),
        ({"op": "u", "updateDescription": {"updatedFields": '{"w": {"$oid": 1}}'}}, "schema"),
        ({"op": "u", "updateDescription": {"updatedFields": '{"v.inside": 1}'}}, "schema"),
    ],
)
def test_bad_documents_are_refused(value, stage):
    key = None if stage == "key" else '{"id": "1"}'
    decoded = decode_changes(KEPT, bronze([value], [key]))
    assert decoded.failures["stage"].to_list() == [stage]
    assert decoded.failures["reason"][0]


@pytest.mark.parametrize(
    "name", ["db", "table", "snapshot", "server_id", "gtid", "connector", "lsn", "sequence"]
)
@pytest.mark.parametrize("odd", ["\ud800", [], {}, -1, True, 10**40])
def test_a_strange_source_stops_nothing(name, odd):
    source = {"connector": "postgresql", "lsn": 5, "ts_ms": 1} | {name: odd}
    decoded = decode([{"op": "c", "after": {"id": 1, "v": "x"}, "source": source}])
    assert decoded.rows.height + decoded.failures["_row"].n_unique() == 1


def test_keys_without_values_and_values_without_keys():
    decoded = decode_changes(KEPT, bronze([None, {"op": "d", "source": {}}], ['{"id": "1"}', None]))
    assert len(decoded.tombstones) == 1
    assert decoded.failures.select("stage", "column").rows() == [("key", "_id")]


@pytest.mark.parametrize("key", ["{", '{"id": "{"}', '{"id": null}', '{"id": "[1]"}', "[]", "7", '"x"'])
def test_a_key_that_names_nothing_is_refused(key):
    failures = decode_changes(KEPT, bronze([{"op": "d", "source": {}}], [key])).failures
    assert set(failures["stage"]) <= {"key", "schema"}
    assert failures.height


def test_a_schema_block_that_contradicts_the_payload():
    fields = [
        {"field": "id", "type": "string"},
        {"field": "v", "name": "io.debezium.time.Date", "type": "int32"},
    ]
    schema = {"fields": [{"field": "after", "fields": fields}]}
    event = {"schema": schema, "payload": {"op": "c", "after": {"id": 1, "v": "no date"}, "source": {}}}
    failures = decode([event], columns={"id": int, "v": pl.Date}).failures
    assert failures.select("stage", "column").rows() == [("schema", "v")]
