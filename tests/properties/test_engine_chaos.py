"""Whatever happened before, in whatever order, under whatever rules: bringing all tiles up to date heals."""

import tempfile

import pandera.polars as pa
import polars as pl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assets.ingest import Limits
from assets.replay import Choice, replay
from resources.lake import Lake
from tests.engine import (
    HOURS,
    Killed,
    Order,
    at_commit,
    both,
    decide,
    kill,
    oracle,
    orders,
    prove,
    send,
    told,
    value,
)
from tests.fake_kafka import FakeKafka

TILES = HOURS[:3]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes a second: shrinking takes minutes


class Cheap(Order):
    amount: pl.Decimal(12, 2) = pa.Field(ge=0, lt=5)


LAX, STRICT = orders(), orders(schema=Cheap)

facts = st.builds(
    value,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["1", "7", "-1"]),
    st.integers(0, 10).map(lambda n: n * 40),
)
logs = st.lists(st.tuples(facts, st.integers(0, 179)), min_size=3, max_size=20).map(
    lambda found: sorted(found, key=lambda record: record[1])
)
doings = st.lists(
    st.tuples(
        st.sampled_from(["both", "decide", "anew", "replay"]),
        st.sampled_from([LAX, STRICT]),
        st.sampled_from(TILES),
        st.integers(0, 6),  # at which commit it dies; 0: not at all
        st.booleans(),  # just after it
    ),
    max_size=6,
)


def do(lake: Lake, kafka: FakeKafka, what: str, stream, tile: str) -> None:
    if what == "replay":
        replay(lake, stream, Choice(), run_id="replay", limits=Limits(2, 2**40), say=lambda _text: None)
        return
    both(lake, kafka, stream, [tile], Limits(4, 2**40))
    if what == "anew":
        decide(lake, stream, [tile], Limits(3, 2**40), replace=True)


@settings(max_examples=4, phases=PHASES)
@given(logs, doings, st.permutations(TILES))
def test_after_any_past_all_tiles_brought_up_give_what_the_oracle_says(found, doings, order):
    """Other rules, replays, rebuilds, deaths, other orders (kafka-medallion 5, 7; kinesis 16, 43)."""
    kafka = FakeKafka()
    kafka.create("t", 2)
    for place, (raw, minutes) in enumerate(found):
        send(kafka, raw, minutes, place % 2)
    wanted = oracle([record for log in kafka.topics["t"] for record in log.records.values()])
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        for what, stream, tile, death, after in doings:
            try:
                with at_commit(death, kill, after=after):
                    do(lake, kafka, what, stream, tile)
            except Killed:
                continue
        for tile in order:
            both(lake, kafka, LAX, [tile])
        prove(lake, LAX)
        got = told(lake, LAX)
        assert got["silver"] == wanted["silver"]
        assert got["losers"] == wanted["losers"]
        assert wanted["quarantine"].items() <= got["quarantine"].items()  # besides what was resolved
