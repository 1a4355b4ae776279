"""The whole way of changes: random histories in any order, any batches, with deaths, equal the model."""

import json
import random
import tempfile

import pandera.polars as pa
import polars as pl
import pytest
from changes import model, same
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assets.ingest import Limits
from assets.merge import merge
from resources.lake import Lake
from sluice import Changes, Hourly, Json, tables
from sluice.history.scd2 import fold, intervals_broken
from tests.engine import HOURS, Killed, assert_same, at_commit, both, decide, kill, prove, send, state
from tests.fake_kafka import FakeKafka

TILES = HOURS[:3]
KEYS = 125  # histories of an example
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes seconds: shrinking takes minutes
VALUES = ("city", "score", "note")


class Row(pa.DataFrameModel):
    shop: int
    name: str
    n: int
    at: int
    city: str = pa.Field(nullable=True)
    score: float = pa.Field(nullable=True)
    note: str = pa.Field(nullable=True)


def contract(**options) -> Changes:
    """Entities of two key columns; `note` is not tracked."""
    given_ = {
        "name": "rows",
        "topic": "t",
        "value": Json(),
        "schema": Row,
        "key": ("shop", "name"),
        "sequence": "n",
        "valid_from": "at",
        "delete_when": pl.col("op") == "d",
        "truncate_when": pl.col("op") == "t",
        "track": ("city", "score"),
        "history": True,
        "partitions": Hourly(start="2026-01-01"),
        "max_quarantined": 1.0,
    }
    return Changes(**(given_ | options))


def histories(rng: random.Random) -> list[dict]:
    """Make the histories of many keys: updates, deletes, truncates, nulls, ties of sequence and of time."""
    told = []
    for key in range(KEYS):
        for _ in range(rng.randrange(1, 7)):
            row = {"shop": key % 5, "name": f"k{key}", "n": rng.randrange(12), "at": rng.randrange(8)}
            row |= {"city": rng.choice(["x", "y", "", None]), "score": rng.choice([0.0, 1.5, None])}
            told.append(row | {"note": rng.choice(["n", "m", None]), "op": rng.choice("uuuucd")})
    truncates = rng.randrange(3)
    return told + [{"n": rng.randrange(12), "at": rng.randrange(8), "op": "t"} for _ in range(truncates)]


def sent(told: list[dict], rng: random.Random) -> tuple[FakeKafka, list[dict]]:
    """Send the changes shuffled, some twice, over two partitions; gives what the model is to be told."""
    kafka, modelled = FakeKafka(), []
    kafka.create("t", 2)
    stream = told + rng.sample(told, len(told) // 4)
    rng.shuffle(stream)
    for place, row in enumerate(stream):
        partition = rng.randrange(2)
        offset = send(kafka, json.dumps(row).encode(), 180 * place / len(stream), partition)
        own = {"_position": f"{row['n']:04}", "_op": row["op"], "_valid_from": row["at"]}
        modelled.append(dict.fromkeys(Row.to_schema().columns) | row | own | {"_offset": (partition, offset)})
    return kafka, modelled


def somehow(rng: random.Random, work) -> None:
    """Do some work, which may die at a commit, before it or after, and is then done again or not."""
    if rng.random() < 0.4:
        try:
            with at_commit(rng.randrange(1, 6), kill, after=rng.random() < 0.5):
                work()
        except Killed:
            return
    else:
        work()


def dimension(lake: Lake, stream: Changes) -> pl.DataFrame:
    order = [*stream.keys, "version"] if stream.history else stream.keys
    return lake.read(tables.dimension(stream)).collect().sort(order)


@pytest.mark.parametrize("ignore_null", [False, True])
@settings(max_examples=4, phases=PHASES, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_delivery_gives_what_the_model_gives(ignore_null, seed):
    """kafka-medallion 7, 12; kinesis-iceberg 25, 37: 1,000 histories a run, and everything sent again."""
    rng = random.Random(seed)  # noqa: S311  # a seeded test
    stream, told = contract(ignore_null=ignore_null), histories(rng)
    kafka, modelled = sent(told, rng)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        for _ in range(rng.randrange(4)):
            tile, limits = rng.choice(TILES), Limits(rng.choice([60, 300, 10_000]), 2**40)
            somehow(rng, lambda tile=tile, limits=limits: both(lake, kafka, stream, [tile], limits))
            somehow(rng, lambda: merge(lake, stream, say=str))
        both(lake, kafka, stream, TILES)
        merge(lake, stream, say=str)
        prove(lake, stream)
        got = dimension(lake, stream)
        agree(got, modelled, stream)
        image = contract(ignore_null=ignore_null, history=False)
        folded = fold(lake.read(tables.silver(stream)).collect(), image).sort(image.keys)
        assert folded.equals(got.filter("is_current").select(folded.columns).sort(image.keys))
        again(kafka)
        both(lake, kafka, stream, HOURS[3:4])
        merge(lake, stream, say=str)
        assert dimension(lake, stream).equals(got)


def agree(got: pl.DataFrame, modelled: list[dict], stream: Changes) -> None:
    """Hold a dimension against the model."""
    assert intervals_broken(got, stream.keys, history=True, track=stream.track).is_empty()
    expected = model(modelled, stream, ("city", "score"), VALUES)
    rows = got.to_dicts()
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, sorted(expected, key=lambda v: (v["key"], v["version"])), strict=True):
        assert (row["shop"], row["name"]) == wanted["key"]
        assert same(row, wanted, ("valid_from", "valid_to", "version", *VALUES))


def again(kafka: FakeKafka) -> None:
    """Deliver everything once more, in the order of the log."""
    for partition, log in enumerate(kafka.topics["t"]):
        for number, record in enumerate([log.records[offset] for offset in sorted(log.records)]):
            send(kafka, record["value"], 181 + number / 100, partition)


def stands(kafka: FakeKafka) -> dict[tuple, tuple[int, list[int]]]:
    """Tell by hand which telling of each change stands, and which are its duplicates."""
    of: dict[tuple, list[tuple[int, bytes]]] = {}
    for offset, record in sorted(kafka.topics["t"][0].records.items()):
        row = json.loads(record["value"])
        of.setdefault((row.get("shop"), row.get("name"), row["n"]), []).append((offset, record["value"]))
    alike = {fact: [offset for offset, value in told if value == told[-1][1]] for fact, told in of.items()}
    return {fact: (offsets[0], offsets[1:]) for fact, offsets in alike.items()}


@settings(max_examples=4, phases=PHASES, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_told_again_later_changes_nothing(seed):
    """kafka-medallion 7, kinesis-iceberg 37: Kafka's stamps date versions, and a change keeps its first."""
    rng = random.Random(seed)  # noqa: S311  # a seeded test
    stream, kafka = contract(valid_from=None), FakeKafka()
    kafka.create("t")
    names = [{"shop": 1, "name": f"k{rng.randrange(6)}", "op": rng.choice("uuud")} for _ in range(40)]
    told = [row | {"n": rng.randrange(5), "at": 0, "city": rng.choice("xy")} for row in names]
    for place, row in enumerate([*told, {"n": 2, "at": 0, "op": "t"}]):
        send(kafka, json.dumps(row).encode(), 178 * place / len(told))
    with tempfile.TemporaryDirectory() as once, tempfile.TemporaryDirectory() as folder:
        first, lake = Lake(once), Lake(folder)
        both(first, kafka, stream, TILES)
        merge(first, stream, say=str)
        again(kafka)
        again(kafka)
        for tile in rng.sample([*TILES, HOURS[3]], 4) + rng.choices([*TILES, HOURS[3]], k=2):
            both(lake, kafka, stream, [tile], Limits(rng.choice([7, 10_000]), 2**40))
            refined = decide(lake, stream, [tile], replace=True) if rng.random() < 0.5 else None
            assert refined is None or refined.accounts
            merge(lake, stream, say=str)
        both(first, kafka, stream, HOURS[3:4])
        before = dimension(first, stream)
        merge(first, stream, say=str)
        assert dimension(first, stream).equals(before)
        assert dimension(lake, stream).equals(before)
        assert_same(state(first, stream), state(lake, stream))
        found = state(lake, stream)
        rows = found["silver"].select("shop", "name", "n", "_offset").rows()
        assert {row[:3]: row[3] for row in rows} == {fact: one for fact, (one, _) in stands(kafka).items()}
        duplicates = found["losers"].filter(verdict="duplicate")["offset"].to_list()
        assert sorted(duplicates) == sorted(o for _, offsets in stands(kafka).values() for o in offsets)
        prove(lake, stream)
