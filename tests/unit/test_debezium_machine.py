"""Which change records machine code vouches for: the common ones, and no others beside them."""

import json

import polars as pl
import pytest
from changes import bronze, changes_of

from sluice import Debezium
from sluice.decode_changes import decode_changes
from sluice.envelopes import debezium_machine
from sluice.envelopes.debezium_machine import read_sure
from sluice.json.machine import machine_code

pytestmark = pytest.mark.skipif(machine_code() is None, reason="machine code was not built")

COLUMNS = {"id": int, "name": str, "price": pl.Decimal(12, 2), "at": pl.Datetime("us"), "tags": pl.List(str)}
FIELDS = [
    {"field": "id", "type": "int64"},
    {"field": "name", "type": "string"},
    {"field": "price", "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal"}
    | {"parameters": {"scale": "2", "connect.decimal.precision": "12"}},
    {"field": "at", "type": "int64", "name": "io.debezium.time.MicroTimestamp"},
    {"field": "tags", "type": "array", "items": {"type": "string"}},
]
BLOCK = {"fields": [{"field": side, "fields": FIELDS} for side in ("before", "after")]}
ROW = {"id": 1, "name": "é", "price": "BBo=", "at": 1709287200500000, "tags": ["x", None]}
POSTGRESQL = {
    "version": "3.7.0.Final",
    "connector": "postgresql",
    "ts_ms": 1795246712848,
    "snapshot": "false",
    "db": "shop",
    "sequence": '["44159280","44159281"]',
    "schema": "public",
    "table": "items",
    "lsn": 44159281,
    "origin": None,
}
MYSQL = {"connector": "mysql", "db": "shop", "table": "items", "server_id": 223344} | {
    "file": "binlog.000012",
    "pos": 4711,
    "row": 0,
    "gtid": "3e11fa47-71ca-11e1-9e33-c80aa9429562:15",
}


def value(op: str = "u", row: dict | None = None, source: dict = POSTGRESQL, **more) -> dict:
    sides = {"before": row or ROW, "after": None} if op == "d" else {"before": None, "after": row or ROW}
    return sides | {"source": source, "op": op, "ts_ms": 1795246712871, "transaction": None} | more


def written(given: dict, *, block: bool) -> bytes:
    whole = {"schema": BLOCK, "payload": given} if block else given
    return json.dumps(whole, separators=(",", ":")).encode()


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    monkeypatch.setattr(debezium_machine, "FEW", -1)


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("source", [POSTGRESQL, MYSQL], ids=["postgresql", "mysql"])
def test_common_changes_are_vouched_for(source, block):
    stream = changes_of(COLUMNS, value=Debezium(source["connector"]))
    given = [value(op, source=source) for op in "crud"] + [value(source=source | {"snapshot": "incremental"})]
    records = bronze([written(one, block=block) for one in given])
    told = read_sure(stream, stream.value, records)
    assert told is not None
    assert told.places.to_list() == [0, 1, 2, 3, 4]
    assert told.op.to_list() == ["c", "r", "u", "d", "u"]
    decoded = decode_changes(stream, records).rows
    assert decoded["price"].cast(pl.String).to_list() == ["10.50"] * 5
    assert decoded["tags"].to_list()[0] == ["x", None]
    place, read = "00000000000044159280 00000000000044159281", " 00001795246712848000"
    if source is MYSQL:
        place, read = "00000000000000000012 00000000000000004711 00000000000000000000", ""
    assert decoded["_position"].to_list() == [
        *(f"{place} {rank}" for rank in (2, 2, 2, 1)),
        f"{place} 3{read}",
    ]
    server = None if source is POSTGRESQL else "3e11fa47-71ca-11e1-9e33-c80aa9429562"
    assert decoded["_source"].struct.field("server").to_list() == [server] * 5


@pytest.mark.parametrize(
    "uncommon",
    [
        value("m"),
        value("t"),
        value("u", ROW | {"name": "__debezium_unavailable_value"}),
        value("u", ROW | {"id": None}),
        value("u", ROW | {"price": "12.50000"}),
        value("u", source=POSTGRESQL | {"lsn": None}),
        value("u", source=POSTGRESQL | {"sequence": "[5]"}),
        value("u", message="m"),
        ROW | {"__deleted": "false"},
    ],
    ids=[
        "message",
        "truncate",
        "not sent",
        "no key",
        "no decimal",
        "no place",
        "odd place",
        "a member more",
        "unwrapped",
    ],
)
def test_what_is_uncommon_is_left_to_the_strict_way(uncommon):
    stream = changes_of(COLUMNS, value=Debezium("postgresql"))
    records = bronze([written(one, block=True) for one in (value(), uncommon, value("d"))])
    told = read_sure(stream, stream.value, records)
    assert told is not None
    assert told.places.to_list() == [0, 2]


def test_unknown_members_are_counted_once():
    stream = changes_of({"id": int, "name": str}, value=Debezium("postgresql"))
    records = bronze(
        [written(one, block=False) for one in (value(), value("t"), value("u", ROW | {"id": []}))]
    )
    told = read_sure(stream, stream.value, records)
    assert told is not None
    assert told.read.unknown == {"price": 1, "at": 1, "tags": 1}
    assert decode_changes(stream, records).unknown == {"price": 2, "at": 2, "tags": 2}
