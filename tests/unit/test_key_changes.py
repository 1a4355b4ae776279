"""Keys that change: the value stands under the old key, in another bucket and another Kafka partition."""

import json

import polars as pl
from changes import changes_of

from assets.merge import merge
from resources.lake import Lake
from sluice import Debezium, Hourly, tables
from sluice.history.scd2 import fold
from tests.engine import HOURS, both, prove, send
from tests.fake_kafka import FakeKafka

UNSENT = "__debezium_unavailable_value"
STREAM = changes_of(
    {"id": int, "body": str, "rev": int},
    topic="t",
    value=Debezium("postgresql"),
    history=True,
    partitions=Hourly("2026-01-01"),
)


def change(kafka, minutes, lsn, key, body, op="u", old=None, rev=None):
    """Send a change to the partition of its key; `old` is the key that the row had before."""
    source = {"connector": "postgresql", "lsn": lsn, "sequence": None, "ts_ms": lsn * 1000}
    row = {"id": key, "body": body, "rev": lsn if rev is None else rev}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    headers = [] if old is None else [("__debezium.oldkey", json.dumps({"id": old}).encode())]
    raw = json.dumps({"op": op, "source": source} | sides).encode()
    send(kafka, raw, minutes, key % 3, headers=headers)


def renamed(kafka, minutes, lsn, old, new):
    change(kafka, minutes, lsn, old, None, "d")
    change(kafka, minutes, lsn, new, UNSENT, "c", old=old)


def merged(lake, kafka, tile):
    """Bring a tile up to the dimension; it must be what folding all of silver gives."""
    both(lake, kafka, STREAM, [tile])
    done = merge(lake, STREAM, say=str)
    prove(lake, STREAM)
    rows = lake.read(tables.dimension(STREAM)).collect().sort("id", "version")
    whole = fold(lake.read(tables.silver(STREAM)).collect(), STREAM)
    assert rows.select(whole.columns).equals(whole.sort("id", "version"))
    return rows, done


def bodies(rows):
    return dict(rows.filter("is_current").select("id", "body").iter_rows())


def test_a_late_change_of_the_old_key_reopens_the_new_one(tmp_path):
    """Chains of keys, too; whatever bucket and partition they are in."""
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t", 3)
    change(kafka, 1, 10, 1, "first", "c")
    renamed(kafka, 2, 20, 1, 2)
    renamed(kafka, 3, 30, 2, 6)
    change(kafka, 4, 40, 6, UNSENT)
    for key in range(100, 140):
        change(kafka, 5, 50 + key, key, "other", "c")
    rows, _ = merged(lake, kafka, HOURS[0])
    assert {key: body for key, body in bodies(rows).items() if key < 100} == {6: "first"}
    before = rows
    change(kafka, 61, 15, 1, "late")  # before its key changed
    rows, done = merged(lake, kafka, HOURS[1])
    assert {key: body for key, body in bodies(rows).items() if key < 100} == {6: "late"}
    concerned = set(rows.filter(pl.col("id").is_in([1, 2, 6]))["_bucket"])
    assert done.buckets == len(concerned)  # those of its keys, no others
    others = ~pl.col("id").is_in([1, 2, 6])
    assert rows.filter(others).equals(before.filter(others))


def test_a_change_of_key_that_comes_before_what_it_changes(tmp_path):
    """The value is unknown until the old key's row is there."""
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t", 3)
    renamed(kafka, 1, 20, 4, 5)
    rows, _ = merged(lake, kafka, HOURS[0])
    assert bodies(rows) == {5: None}
    change(kafka, 61, 10, 4, "kept", "c")
    rows, _ = merged(lake, kafka, HOURS[1])
    assert bodies(rows) == {5: "kept"}


def test_keys_that_are_swapped(tmp_path):
    """By way of a third one."""
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t", 3)
    change(kafka, 1, 10, 1, "a", "c")
    change(kafka, 1, 11, 2, "b", "c")
    renamed(kafka, 2, 20, 1, 9)
    renamed(kafka, 2, 21, 2, 1)
    renamed(kafka, 2, 22, 9, 2)
    rows, _ = merged(lake, kafka, HOURS[0])
    assert bodies(rows) == {1: "b", 2: "a"}
