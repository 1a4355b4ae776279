"""On the same input continuous, scheduled and one-shot give equal tables, whatever dies in between."""

import json
import tempfile
from datetime import timedelta
from threading import Event

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assets.flow import Flow, Pace
from assets.ingest import Limits
from assets.merge import merge
from assets.upkeep import Upkeep
from resources.lake import Lake
from sluice import Changes, tables
from sluice.contract import Stream
from tests.engine import (
    HOURS,
    NOW,
    START,
    Killed,
    assert_same,
    at_commit,
    both,
    kill,
    orders,
    prove,
    send,
    state,
    value,
    without_pauses,
)
from tests.fake_kafka import FakeKafka
from tests.properties.test_fold_engine import contract

TILES = HOURS[:3]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes a second: shrinking takes minutes

EVENTS, CHANGES = orders(), contract(topic="t")

order = st.builds(
    value,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["1", "7", "-1"]),
    st.integers(0, 12).map(lambda n: n * 30),
)
change = st.builds(
    lambda name, n, at, city, op: json.dumps(
        {"shop": 1, "name": name, "n": n, "at": at, "city": city, "score": None, "note": None, "op": op}
    ).encode(),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 9),
    st.integers(0, 5),
    st.sampled_from(["x", "y", None]),
    st.sampled_from("uuuudt"),
)
raw = st.tuples(order, change, st.sampled_from([None, b"", b"{}", b"garbage"]), st.integers(0, 5))
records = st.tuples(raw, st.integers(0, 1), st.booleans())  # its partition; whether a gap follows
stretches = st.lists(  # what comes between two looks: minutes that pass, and records
    st.tuples(st.integers(1, 70), st.lists(records, max_size=6)), min_size=2, max_size=4
)
deaths = st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=2)
runs = st.lists(st.tuples(st.integers(1, 5), deaths, st.sampled_from("wfb")), min_size=4, max_size=4)


def follow(lake: Lake, kafka: FakeKafka, stream: Stream, minutes: float, rows: int, share: str = "w") -> None:
    """Catch up with the whole stream, or as two workers with a partition each."""
    shares = {"w": [{0, 1}], "f": [{0}, {1}], "b": [{1}, {0, 1}]}[share]
    for mine in shares:
        one = Flow(
            lake,
            kafka,
            stream,
            "run",
            Pace(interval=0.01, rows=rows),
            share=lambda partitions, mine=mine: mine & set(partitions),
            clock=lambda: START + timedelta(minutes=minutes),
            say=lambda _text: None,
        )
        one.run(Event(), caught_up=True)
    Upkeep(one.lake, one, lambda _text: None).once()


def scheduled(kafka: FakeKafka, stream: Stream, folder: str, tiles: list[list[str]]) -> Lake:
    lake = Lake(folder)
    for some in tiles:
        both(lake, kafka, stream, some, Limits(5, 2**40))
        if isinstance(stream, Changes):
            merge(lake, stream, say=lambda _text: None)
    return lake


def everything(lake: Lake, stream: Stream) -> dict[str, pl.DataFrame]:
    """Give the tables that are equal whatever way they came about."""
    found = state(lake, stream)
    if isinstance(stream, Changes):
        rows = lake.read(tables.dimension(stream)).collect()
        found["dimension"] = rows.sort(*stream.keys, "version")
    return found


@pytest.mark.parametrize("stream", [EVENTS, CHANGES], ids=["events", "changes"])
@settings(max_examples=6, phases=PHASES)
@given(stretches, runs, st.permutations(TILES))
def test_continuous_scheduled_and_one_shot_give_equal_tables(stream, found, pieces, order):
    """Rows, losers, quarantine, dimension; all equations (event-streaming 18; mongodb T071)."""
    kafka, passed = FakeKafka(), 0
    kafka.create("t", 2)
    with tempfile.TemporaryDirectory() as folder, without_pauses():
        lake = Lake(f"{folder}/continuous")
        for (minutes, batch), (rows, dying, share) in zip(found, pieces, strict=False):
            for place, ((event, changed, odd, chance), partition, gap) in enumerate(batch):
                good = changed if isinstance(stream, Changes) else event
                at = min(passed + minutes * place / len(batch), 179)
                send(kafka, odd if chance == 0 else good, at, partition)
                if gap:
                    kafka.gap("t", partition)
            passed += minutes
            for number, after in dying:
                try:
                    with at_commit(number, kill, after=after):
                        follow(lake, kafka, stream, passed, rows, share)
                except Killed:
                    continue
            follow(lake, kafka, stream, passed, rows, share)
        follow(lake, kafka, stream, (NOW - START) / timedelta(minutes=1), 100)
        prove(lake, stream)
        one_shot = scheduled(kafka, stream, f"{folder}/one-shot", [TILES])
        by_tiles = scheduled(kafka, stream, f"{folder}/scheduled", [[tile] for tile in order])
        for other in (one_shot, by_tiles):
            assert_same(everything(lake, stream), everything(other, stream))
