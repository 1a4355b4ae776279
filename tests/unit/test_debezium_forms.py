"""What changes look like: unwrapped rows, CloudEvents, change streams, placeholders."""

import base64
import hashlib
import json
import uuid

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver

from sluice import Debezium, Document
from sluice.contract import UNAVAILABLE
from sluice.decode_changes import decode_changes
from sluice.envelopes.positions import numbers
from sluice.history.scd2 import fold

COLUMNS = {"id": int, "v": str}


def decode(values, keys=None, columns=None, *, value=None, headers=None, **options):
    stream = changes_of(columns or COLUMNS, value=value or Debezium("postgresql"), **options)
    return decode_changes(stream, bronze(values, keys, headers))


def row(**members):
    return {"id": 1, "v": "x", "__op": "u", "__table": "t", "__deleted": "false"} | members


# Unwrapped


def test_unwrapped_rows_tell_their_operation_position_and_time():
    told = {"__lsn": 7, "__source_ts_ms": 1500, "__ts_ms": 9000}
    decoded = decode([row(**told), {"schema": None, "payload": row(__deleted="true", v=None, **told)}])
    assert decoded.rows.select("id", "v", "_op").rows() == [(1, "x", "u"), (1, None, "d")]
    assert [at.microsecond for at in decoded.rows["_valid_from"]] == [500_000, 500_000]
    assert decoded.rows["_position"].to_list() == [f"{7:020} {7:020} 2", f"{7:020} {7:020} 1"]
    assert decoded.unknown == {}


def test_unwrapped_rows_of_mysql_need_not_tell_their_place_in_the_event():
    """`add.fields=op,table,file,pos` is enough; what names no place in its file is refused."""
    told = {"__source_file": "binlog.000003", "__source_pos": 157}
    values = [row(**told), row(**told, __source_row=2), row(__file="binlog.000004", __pos=4)]
    decoded = decode([*values, row(__file="binlog.000004")], value=Debezium("mysql"))
    places = [(3, 157, 0), (3, 157, 2), (4, 4, 0)]
    assert [numbers("mysql", at) for at in decoded.rows["_position"].drop_nulls()] == places
    assert decoded.failures.select("_row", "stage").rows() == [(3, "key")]


def test_unwrapped_rows_may_have_members_that_envelopes_have():
    columns = dict.fromkeys(("op", "payload", "status", "before", "ts_ms", "type"), str) | {"id": int}
    value = dict.fromkeys(columns, "x") | {"id": 1, "__deleted": "false"}
    (told,) = decode([value], columns=columns).rows.select(*columns).to_dicts()
    assert told == dict.fromkeys(columns, "x") | {"id": 1}
    schema = {"schema": {"type": "struct", "fields": []}, "payload": value}
    assert decode([schema], columns=columns).rows.height == 1


def test_unwrapped_rows_are_read_by_their_schema():
    fields = [
        {"field": "id", "type": "int32"},
        {"field": "on", "type": "int32", "name": "io.debezium.time.Date"},
    ]
    value = {
        "schema": {"type": "struct", "fields": fields},
        "payload": {"id": 1, "on": 16850, "__deleted": "false"},
    }
    assert str(decode([value], columns={"id": int, "on": pl.Date}).rows["on"][0]) == "2016-02-19"


def test_where_sees_what_the_transformation_added():
    decoded = decode([row(), row(__table="other")], where={"__table": "t"})
    assert (decoded.rows.height, len(decoded.ignored)) == (1, 1)


@pytest.mark.parametrize("value", [{"id": 1, "v": "x"}, {"id": 1, "v": "x", "__op": "c"}])
def test_rows_whose_deletes_are_tombstones_need_a_word(value):
    """A tombstone after them would be lost silently."""
    assert decode([value]).failures["stage"].to_list() == ["decode"]
    assert decode([value], value=Debezium("postgresql", unwrapped=True)).rows.height == 1


def test_where_deletes_are_not_rewritten_tombstones_delete_in_the_order_of_the_log():
    of = Debezium("postgresql", unwrapped=True)
    values = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, None, {"id": 1, "v": "c", "status": "s"}, None, None]
    keys = ['{"id": 1}', '{"id": 2}', '{"id": 1}', '{"id": 1}', '{"id": 2}', "no key"]
    stream = changes_of(COLUMNS, value=of)
    records = bronze(values, keys)
    assert decode_changes(stream, records).failures["stage"].to_list() == ["key"]
    assert fold(decoded_silver(stream, records), stream).select("id", "v").rows() == [(1, "c")]


@pytest.mark.parametrize("nothing", [None, b"null", b'{"schema": null, "payload": null}'])
def test_a_tombstone_that_a_converter_wrote_deletes_too(nothing):
    """Connect's JSON converter without schemas writes a null that has one as the text `null`."""
    of = Debezium("postgresql", unwrapped=True)
    decoded = decode([{"id": 1, "v": "a"}, nothing], ['{"id": 1}'] * 2, value=of)
    assert decoded.rows.select("id", "_op").rows() == [(1, "u"), (1, "d")]
    assert decode([nothing], ['{"id": 1}']).rows.is_empty()  # the echo of a delete


def test_unwrapped_documents_are_plain_rows():
    columns = {"id": str, "at": pl.Datetime("us", "UTC"), "n": int}
    schema = type("Row", (pa.DataFrameModel,), {
        "__annotations__": columns, "id": pa.Field(metadata={"path": "_id"}),
        "at": pa.Field(nullable=True), "n": pa.Field(nullable=True),
    })  # fmt: skip
    oid = "67ab25755c0d5ac87eb8c632"
    values = [
        {"_id": oid, "at": 1500, "n": 2**40, "__deleted": "false", "__source_ts_ms": 3, "__source_ord": 1},
        {"__deleted": "true", "__source_ts_ms": 3, "__source_ord": 2},
    ]
    key = json.dumps({"id": json.dumps({"$oid": oid})})
    decoded = decode(values, [key] * 2, value=Debezium("mongodb"), schema=schema)
    assert decoded.rows.select("id", "n", "_op").rows() == [(oid, 2**40, "u"), (oid, None, "d")]
    assert decoded.rows["at"][0].microsecond == 500_000
    assert decoded.rows["_position"].is_sorted()


# CloudEvents


def test_cloud_events_carry_a_row():
    data = {"before": None, "after": {"id": 1, "v": "x"}}
    event = {"id": "x", "source": "/debezium/postgresql/a", "specversion": "1.0", "iodebeziumop": "r"}
    event |= {"iodebeziumconnector": "postgresql", "iodebeziumlsn": "7", "iodebeziumtsms": "1500"}
    decoded = decode([event | {"data": data}, event | {"data": {"schema": {}, "payload": data}}])
    assert decoded.rows.select("id", "v", "_op").rows() == [(1, "x", "r")] * 2
    assert decoded.rows["_position"][0] == f"{7:020} {7:020} 2"


# Change streams themselves


def stream_event(kind, index="29", **members):
    token = {"_data": f"82{5:08x}{1:08x}2b022c0100{index}6e5a1004"}
    stamp = {"$timestamp": {"t": 5, "i": 1}}
    event = {"_id": token, "operationType": kind, "clusterTime": stamp, "ns": {"db": "d", "coll": "c"}}
    return event | {"documentKey": {"_id": {"$numberInt": "1"}}} | members


class Kept(pa.DataFrameModel):
    id: int = pa.Field(metadata={"path": "_id"})
    v: int = pa.Field(nullable=True)
    rest: Document = pa.Field(nullable=True, metadata={"path": "*"})


KEPT = changes_of({}, value=Debezium("mongodb"), schema=Kept)


def test_events_of_a_change_stream_are_changes():
    whole = {"_id": 1, "v": {"$numberLong": "1"}, "w": {"x": 1}}
    changed = {"updatedFields": {"w.x": 2}, "removedFields": ["v"], "truncatedArrays": []}
    events = [
        stream_event("insert", fullDocument=whole),
        stream_event("update", "2b04", updateDescription=changed),
        stream_event("update", "2b06", fullDocumentBeforeChange=whole, updateDescription=changed),
        stream_event("delete", "2c0200"),
        stream_event("drop"),
        stream_event("rename"),
    ]
    decoded = decode_changes(KEPT, bronze(events))
    assert decoded.failures.to_dicts() == []
    assert decoded.rows.select("id", "_op").rows() == [(1, "c"), (1, "u"), (1, "u"), (1, "d"), (None, "t")]
    assert [int(p.split()[3]) for p in decoded.rows["_position"]] == [0, 2, 3, 256, 0]
    assert decoded.rows["rest"][2] == '{"w":{"x":{"$numberInt":"2"}}}'
    assert len(decoded.ignored) == 1
    image = fold(decoded_silver(KEPT, bronze(events[:2])), KEPT)
    assert image.select("id", "v", "rest").rows() == [(1, None, '{"w":{"x":{"$numberInt":"2"}}}')]


# Values that were not sent


TEXT = "not there"
HEX = "hex:" + b"\xff\x00gone".hex()


@pytest.mark.parametrize("placeholder", [UNAVAILABLE, TEXT])
@pytest.mark.parametrize(
    "kind", ["text", "json", "object text", "base64", "url", "hex", "list", "bytes", "map", "uuids"]
)
def test_unavailable_in_every_form(placeholder, kind):
    data = placeholder.encode()
    dtype, value = {
        "text": (str, placeholder),
        "json": (str, json.dumps(placeholder)),
        "object text": (str, json.dumps({placeholder: placeholder})),
        "base64": (pl.Binary, base64.b64encode(data).decode()),
        "url": (pl.Binary, base64.urlsafe_b64encode(data).decode()),
        "hex": (pl.Binary, data.hex()),
        "list": (pl.List(pl.String), [placeholder]),
        "bytes": (pl.List(pl.Int64), list(data)),
        "map": (str, {placeholder: placeholder}),
        "uuids": (pl.List(pl.String), [str(uuid.UUID(bytes=hashlib.md5(data).digest(), version=3))]),  # noqa: S324
    }[kind]
    of = Debezium("postgresql", unavailable=placeholder)
    event = {"op": "u", "after": {"id": 1, "v": value}, "source": {}}
    rows = decode([event], columns={"id": int, "v": dtype}, value=of).rows
    assert rows.select("v", "_unavailable").rows() == [(None, ["v"])]


def test_bytes_as_a_placeholder():
    of = Debezium("postgresql", unavailable=HEX)
    value = base64.b64encode(b"\xff\x00gone").decode()
    event = {"op": "u", "after": {"id": 1, "v": value}, "source": {}}
    assert decode([event], columns={"id": int, "v": pl.Binary}, value=of).rows["_unavailable"].to_list() == [
        ["v"]
    ]


@pytest.mark.parametrize(
    "text",
    [
        UNAVAILABLE + " ",
        UNAVAILABLE[:-1],
        f"{UNAVAILABLE}s",
        UNAVAILABLE.upper(),
        f'"{UNAVAILABLE}',
        f" {UNAVAILABLE}",
    ],
)
def test_a_text_that_only_looks_like_it_is_a_text(text):
    event = {"op": "u", "after": {"id": 1, "v": text, "w": [text, UNAVAILABLE]}, "source": {}}
    rows = decode([event], columns=COLUMNS | {"w": pl.List(pl.String)}).rows
    assert rows.select("v", "w", "_unavailable").rows() == [(text, [text, UNAVAILABLE], None)]


def test_what_where_asks_for_may_be_unavailable():
    """Then nothing is assumed: the change stays, and no column of `where` gets into silver."""
    event = {"op": "u", "after": {"id": 1, "v": UNAVAILABLE, "kind": UNAVAILABLE}, "source": {}}
    rows = decode([event], where={"kind": "a"}).rows
    assert rows["_unavailable"].to_list() == [["v"]]
