"""A source that adds, drops, renames and retypes columns in mid-stream keeps flowing."""

import json

import pandera.polars as pa
import polars as pl
import pytest

from assets.merge import merge
from resources.lake import Lake
from sluice import Changes, Debezium, Hourly, Json, tables
from tests.engine import HOURS, assert_same, both, prove, send, state
from tests.fake_kafka import FakeKafka


class Customer(pa.DataFrameModel):
    id: int
    name: str = pa.Field(nullable=True)
    age: int = pa.Field(nullable=True)
    city: str


# What the table looks like, time after time: what the source says of a row, with the types of its columns.
BEFORE = {"id": ("int64", 1), "name": ("string", "Ann"), "age": ("int32", 30), "city": ("string", "Rome")}
ADDED = BEFORE | {"id": ("int64", 2), "email": ("string", "a@b")}
DROPPED = {name: told for name, told in BEFORE.items() if name != "age"} | {"id": ("int64", 3)}
RENAMED = {("full_name" if n == "name" else n): told for n, told in BEFORE.items()} | {"id": ("int64", 4)}
RETYPED = BEFORE | {"id": ("int64", 5), "age": ("string", "31")}
MISFIT = BEFORE | {"id": ("int64", 6), "age": ("string", "thirty")}
LACKING = {name: told for name, told in BEFORE.items() if name != "city"} | {"id": ("int64", 7)}
LATER = BEFORE | {"id": ("int64", 1), "age": ("int32", 31)}
TABLES = [BEFORE, ADDED, DROPPED, RENAMED, RETYPED, MISFIT, LACKING, LATER]


def plain(table: dict, _place: int) -> bytes:
    return json.dumps({name: value for name, (_, value) in table.items()}).encode()


def envelope(table: dict, place: int, *, schema: bool) -> bytes:
    source = {"connector": "postgresql", "lsn": 100 + place, "sequence": None, "ts_ms": place * 1000}
    payload = {"op": "u", "before": None, "after": {n: v for n, (_, v) in table.items()}, "source": source}
    if not schema:
        return json.dumps(payload).encode()
    fields = [{"field": name, "type": kind, "optional": True} for name, (kind, _) in table.items()]
    block = {"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": fields}]}
    return json.dumps({"schema": block, "payload": payload}).encode()


FORMS = {
    "json": (Json(), plain),
    "debezium": (Debezium("postgresql"), lambda table, place: envelope(table, place, schema=False)),
    "debezium with schema": (
        Debezium("postgresql"),
        lambda table, place: envelope(table, place, schema=True),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_stream_keeps_flowing(tmp_path, form):
    """kafka-medallion 14: unknown members are named, absent ones null or refused, retyped ones read."""
    value, written = FORMS[form]
    stream = Changes(
        name="customers",
        topic="t",
        value=value,
        schema=Customer,
        key="id",
        history=True,
        partitions=Hourly(start="2026-01-01"),
        max_quarantined=1.0,
    )
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t")
    for place, table in enumerate(TABLES):
        send(kafka, written(table, place), 20 * place)
    unknown: dict[str, int] = {}
    for tile in HOURS[:3]:
        unknown |= {n: unknown.get(n, 0) + c for n, c in both(lake, kafka, stream, [tile]).unknown.items()}
        merge(lake, stream, say=str)
    prove(lake, stream)
    assert unknown == {"email": 1, "full_name": 1}
    refused = lake.read(tables.quarantine(stream)).collect().sort("offset")
    assert refused.select("stage", "column").rows() == [("schema", "age"), ("schema", "city")]
    assert refused["reason"][0].startswith("found the text 'thirty'; Int64 accepts")  # new and old type
    rows = lake.read(tables.dimension(stream)).collect().sort("id", "version")
    assert rows.select("id", "name", "age", "city", "is_current").rows() == [
        (1, "Ann", 30, "Rome", False),
        (1, "Ann", 31, "Rome", True),
        (2, "Ann", 30, "Rome", True),
        (3, "Ann", None, "Rome", True),
        (4, None, 30, "Rome", True),
        (5, "Ann", 31, "Rome", True),
    ]


class Narrow(Customer):
    id: pl.Int32


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"schema": Narrow, "key": "id"}, {"schema": Customer, "key": "id"}),
        ({"schema": Customer, "key": "id"}, {"schema": Customer, "key": "city"}),
        ({"schema": Customer, "key": "id"}, {"schema": Customer, "key": ("city", "id")}),
    ],
)
def test_a_key_may_become_wider_or_another_one(tmp_path, before, after):
    """All tables are what building them from scratch gives, that of losers among them."""
    shared = {"name": "t", "topic": "t", "value": Json(), "partitions": Hourly(start="2026-01-01")}
    shared |= {"sequence": "age", "history": True}
    old, new = Changes(**shared | before), Changes(**shared | after)
    kafka, lake, fresh = FakeKafka(), Lake(str(tmp_path / "lake")), Lake(str(tmp_path / "fresh"))
    kafka.create("t")
    for minutes, (number, city) in enumerate([(1, "x"), (1, "x"), (1, "y"), (2, "x"), (1, "x")]):
        row = {"id": number, "name": "n", "age": number, "city": city}
        send(kafka, json.dumps(row).encode(), minutes * 20)
    both(lake, kafka, old, HOURS[:1])
    merge(lake, old, say=str)
    for one in (lake, fresh):
        both(one, kafka, new, HOURS[:2])
        merge(one, new, say=str)
        prove(one, new)
    assert_same(state(fresh, new), state(lake, new))
    is_, must = (
        one.read(tables.dimension(new)).collect().sort(*new.keys, "version") for one in (lake, fresh)
    )
    assert is_.select(must.columns).equals(must)


def test_an_adopted_member_is_read_again_from_bronze(tmp_path):
    """What came before the contract knew it is not lost."""

    class WithEmail(Customer):
        email: str = pa.Field(nullable=True)

    def stream(schema):
        return Changes(
            name="customers",
            topic="t",
            value=Json(),
            schema=schema,
            key="id",
            partitions=Hourly(start="2026-01-01"),
            max_quarantined=1.0,
        )

    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t")
    send(kafka, plain(ADDED, 0), 1)
    both(lake, kafka, stream(Customer), HOURS[:1])
    merge(lake, stream(Customer), say=str)
    both(lake, kafka, stream(WithEmail), HOURS[:1])
    merge(lake, stream(WithEmail), say=str)
    rows = lake.read(tables.dimension(stream(WithEmail))).select("id", pl.col("email")).collect()
    assert rows.rows() == [(2, "a@b")]
