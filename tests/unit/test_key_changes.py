"""Keys that change: the value stands under the old key, in another bucket and another Kafka partition."""

import json
from dataclasses import replace

import polars as pl
import pytest
from changes import changes_of, row_model

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


def merged(lake, kafka, tile, stream=STREAM):
    """Bring a tile up to the dimension; it must be what folding all of silver gives."""
    both(lake, kafka, stream, [tile])
    done = merge(lake, stream, say=str)
    prove(lake, stream)
    rows = lake.read(tables.dimension(stream)).collect().sort("id", "version")
    whole = fold(lake.read(tables.silver(stream)).collect(), stream)
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


@pytest.mark.parametrize("many", [1, 100])
def test_a_key_that_is_none_of_the_source_moves_by_updates(tmp_path, many):
    """An update whose `before` has another key: the connector tells no delete, and no old key."""
    stream = changes_of(
        {"id": int, "code": str, "rev": int},
        key="code",
        topic="t",
        value=Debezium("postgresql"),
        history=True,
        partitions=Hourly("2026-01-01"),
    )
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t", 3)

    def moved(minutes, lsn, number, old, new):
        source = {"connector": "postgresql", "lsn": lsn, "sequence": None, "ts_ms": lsn * 1000}
        sides = {"before": old and {"id": number, "code": old, "rev": 0}}
        sides |= {"after": {"id": number, "code": new, "rev": lsn}}
        raw = json.dumps({"op": "u" if old else "c", "source": source} | sides).encode()
        send(kafka, raw, minutes, number % 3)

    def states():
        rows = lake.read(tables.dimension(stream)).collect().sort("code", "version")
        whole = fold(lake.read(tables.silver(stream)).collect(), stream)
        assert rows.select(whole.columns).equals(whole)
        return rows

    for number in range(many):
        moved(0, 10 + number, number, None, f"a{number}")
        moved(1, 1000 + number, number, f"a{number}", f"a{number}")
        moved(70, 3000 + number, number, f"b{number}", f"c{number}")  # it comes before what it changes
    for tile in HOURS[:2]:
        both(lake, kafka, stream, [tile])
        merge(lake, stream, say=str)
    assert set(states().filter("is_current")["code"].str.head(1)) == {"a", "c"}
    for number in range(many):
        moved(130, 2000 + number, number, f"a{number}", f"b{number}")
    both(lake, kafka, stream, [HOURS[2]])
    merge(lake, stream, say=str)
    prove(lake, stream)
    of_first = states().filter(id=0).sort("valid_from").select("code", "rev", "is_current").rows()
    assert of_first == [("a0", 10, False), ("a0", 1000, False), ("b0", 2000, False), ("c0", 3000, True)]
    assert states().filter("is_current")["code"].sort().to_list() == sorted(f"c{n}" for n in range(many))


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


KEYS = {  # the column's type, and two keys as the connector writes them
    "date": (pl.Date, 19000, 19001),
    "timestamp": (pl.Datetime("us"), 1_700_000_000_000_001, 1_700_000_000_000_002),
    "zoned timestamp": (pl.Datetime("us", "UTC"), "2024-01-01T02:00:00+02:00", "2024-01-01T00:00:01Z"),
    "time": (pl.Time, 0, 86_399_999_999),
    "decimal": (pl.Decimal(10, 2), "MDk=", "+Q=="),
    "decimal of any scale": (pl.Decimal(20, 3), {"scale": 1, "value": "fQ=="}, {"scale": 0, "value": "CQ=="}),
    "bytes": (pl.Binary, "AP8=", ""),
    "boolean": (bool, True, False),
    "unsigned": (pl.UInt64, 1, 2**64 - 1),
    "enum": (pl.Enum(["a", "b"]), "a", "b"),
    "uuid": (str, "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "6f9619ff-8b86-d011-b42d-00cf4fc964fe"),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("split", [False, True], ids=["at once", "followed"])
def test_a_key_of_any_type_may_change(tmp_path, name, split):
    """The header tells the old key in the connector's encoding, as the row does its own."""
    dtype, old, new = KEYS[name]
    stream = replace(STREAM, schema=row_model({"id": dtype, "body": str, "rev": int}))
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t")
    header = [("__debezium.oldkey", json.dumps({"id": old}).encode())]
    told = [("c", old, "kept", []), ("d", old, None, []), ("c", new, UNSENT, header), ("u", new, UNSENT, [])]
    for hour, (op, key, body, headers) in enumerate(told):
        source = {"connector": "postgresql", "lsn": 10 + hour, "ts_ms": hour * 1000}
        side = "before" if op == "d" else "after"
        envelope = {"op": op, side: {"id": key, "body": body, "rev": hour}, "source": source}
        send(kafka, json.dumps(envelope).encode(), 60 * hour * split, headers=headers)
    for tile in HOURS[: 4 if split else 1]:
        rows, _ = merged(lake, kafka, tile, stream)
    assert rows.sort("rev").select("body", "rev", "is_current").rows() == [
        ("kept", 0, False),
        ("kept", 2, False),
        ("kept", 3, True),
    ]
