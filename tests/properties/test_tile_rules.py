"""The rules of tiles, each on generated logs: whatever clocks, retention, growth and rivals do."""

from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from assets import bounds, equations, reingest
from assets.ingest import Limits
from resources.lake import Lake
from sluice import tables
from sluice.errors import OpenTransactionError
from sluice.tables import TILES_TABLE
from tests.engine import HOURS, NOW, START, at_commit, load, ms, orders, prove, without_pauses
from tests.fake_kafka import FakeKafka

STREAM = orders()
TILES = HOURS[:6]
LAST = 2**63 - 1
FEW = settings(max_examples=8)

minutes = st.one_of(
    st.integers(-120, 480).map(lambda m: ms(START + timedelta(minutes=m))),
    st.sampled_from([ms(START + timedelta(hours=2)), ms(START + timedelta(minutes=90))]),  # many equal ones
    st.sampled_from([-1, 0, 1, LAST, ms(NOW) + 10**12, ms(START) - 10**12]),  # none, overflowing, far away
)


@st.composite
def logs(draw: st.DrawFn, partitions: int = 2) -> FakeKafka:
    """Make a topic: stamps in any order or in order, gaps, and sometimes a broker that stamps."""
    kafka = FakeKafka()
    kafka.create("t", partitions)
    for partition, log in enumerate(kafka.topics["t"]):
        stamps = draw(st.lists(minutes, max_size=25))
        if draw(st.booleans()):
            stamps.sort()
        log.in_order = stamps == sorted(stamps) and min(stamps, default=0) >= 0 and draw(st.booleans())
        for stamp in stamps:
            produce(kafka, stamp, partition)
            if draw(st.integers(0, 9)) == 0:
                kafka.gap("t", partition, draw(st.integers(1, 3)))
    return kafka


def produce(kafka: FakeKafka, stamp: int, partition: int) -> None:
    offset = kafka.topics["t"][partition].high
    kafka.produce("t", b"%d/%d" % (partition, offset), stamp_ms=stamp, partition=partition)


@contextmanager
def new_lake():
    with TemporaryDirectory() as folder:
        yield Lake(folder)


def written(lake: Lake) -> dict[tuple[str, int], tuple[int, int]]:
    """Give the bounds that are written and closed."""
    rows = lake.read(TILES_TABLE).filter(pl.col("next_offset").is_not_null()).collect()
    return {
        (r[0], r[1]): r[2:] for r in rows.select("tile", "partition", "first_offset", "next_offset").rows()
    }


def placed(lake: Lake) -> list[tuple]:
    """Give bronze: which record is in which tile."""
    rows = lake.read(tables.bronze(STREAM)).collect().sort("partition", "offset")
    return rows.select("partition", "offset", "tile", "timestamp_ms", "value").rows()


def owned(lake: Lake, kafka: FakeKafka, tiles=TILES) -> list[tuple]:
    """Say from the bounds and the log alone what bronze must hold of some tiles."""
    return sorted(
        (p, o, tile, r["timestamp_ms"], r["value"])
        for (tile, p), (first, stop) in written(lake).items()
        for o, r in kafka.topics["t"][p].records.items()
        if tile in tiles and first <= o < stop
    )


def mend(lake: Lake, kafka: FakeKafka, tiles: list[str]) -> list[str]:
    """Replace tiles, whatever they hold."""
    return reingest.mend(lake, kafka, STREAM, tiles, run_id="again", limits=Limits(5, 2**40), every=True)


@FEW
@given(logs(), st.permutations(TILES), st.integers(1, 40))
def test_each_record_is_in_the_tile_that_owns_it_once(kafka, order, rows):
    """Stamps of all kinds, tiles asked for in any order, any batch; gaps are no holes (kinesis 15, 16)."""
    with new_lake() as lake:
        for tile in order:
            done = load(lake, kafka, STREAM, [tile], Limits(rows, 2**40))
            assert done.holes == 0
            asked = order[: order.index(tile) + 1]
            assert placed(lake) == owned(lake, kafka, asked), "the data of a tile comes with it, not before"
            assert {t for t, _ in written(lake)} == set(TILES[: TILES.index(max(asked)) + 1])
        for partition in range(2):
            chain = [bound for (_, p), bound in sorted(written(lake).items()) if p == partition]
            assert all(a[1] == b[0] for a, b in pairwise(chain))
        prove(lake, STREAM)


@FEW
@given(logs())
def test_what_lies_before_the_start_belongs_to_no_tile_and_is_said_once(kafka):
    """The first tile begins at the first record stamped at the start or later."""
    with new_lake() as lake:
        done = load(lake, kafka, STREAM, TILES[:1])
        begins = {p: first for (_, p), (first, _) in written(lake).items()}
        for partition, log in enumerate(kafka.topics["t"]):
            later = [o for o, r in log.records.items() if r["timestamp_ms"] >= ms(START)]
            assert begins[partition] == min(later, default=log.high)
        left = sum(begins.values())
        assert done.notes == ([f"{left} offsets before 2026-01-01 left out"] if left else [])
        assert load(lake, kafka, STREAM, TILES[:2]).notes == []


actions = st.lists(
    st.one_of(
        st.tuples(st.just("produce"), st.integers(0, 1), st.lists(minutes, min_size=1, max_size=6)),
        st.tuples(st.just("run"), st.integers(1, 6), st.integers(-3, 30)),
        st.tuples(st.just("expire"), st.integers(0, 1), st.floats(0, 1)),
        st.tuples(st.just("grow")),
        st.tuples(st.just("rebuild"), st.sampled_from(TILES)),
    ),
    min_size=3,
    max_size=9,
)


@FEW
@given(logs(), actions)
def test_a_bound_once_written_never_moves_and_nothing_but_the_expired_is_missing(kafka, todo):
    """Clocks that jump, retention, growth, late records, rebuilds: the bounds stand (event-streaming 6)."""
    with new_lake() as lake:
        stands: dict = {}
        expired: set[tuple[int, int]] = set()
        for action, *told in [*todo, ("run", 6, 48)]:
            if action == "produce":
                for stamp in told[1]:
                    produce(kafka, stamp, told[0])
            elif action == "run":
                load(lake, kafka, STREAM, TILES[: told[0]], now=START + timedelta(hours=told[1]))
            elif action == "expire":
                log = kafka.topics["t"][told[0]]
                log.low = max(log.low, int(log.high * told[1]))
                expired |= {(told[0], o) for o in log.records if o < log.low}
            elif action == "grow" and len(kafka.topics["t"]) < 4:
                produce(kafka, ms(START), kafka.grow("t"))
            elif action == "rebuild":
                before = placed(lake)
                mend(lake, kafka, [told[0]])
                assert placed(lake) == before
            now_written = written(lake)
            assert stands.items() <= now_written.items()
            stands = now_written
        missing = set(owned(lake, kafka)) - set(placed(lake))
        assert {row[:2] for row in missing} <= expired
        assert set(placed(lake)) <= set(owned(lake, kafka))
        assert len({row[:2] for row in placed(lake)}) == len(placed(lake))
        prove(lake, STREAM)


@FEW
@given(logs(), st.lists(minutes, max_size=6), st.integers(0, 30), st.integers(1, 6), st.integers(1, 6))
def test_of_two_that_write_bounds_the_first_wins(kafka, more, hours, mine, others):
    """A rival with another clock, who sees a longer log, writes first (kafka-medallion 40)."""
    with new_lake() as lake:
        first: dict = {}

        def rival() -> None:
            for stamp in more:
                produce(kafka, stamp, 0)
            bounds.ensure(lake, kafka, STREAM, TILES[:others], START + timedelta(hours=hours))
            first.update(written(lake))

        with without_pauses(), at_commit(1, rival):
            bounds.ensure(lake, kafka, STREAM, TILES[:mine], NOW)
        assert first.items() <= written(lake).items()
        for partition in range(2):
            chain = [bound for (_, p), bound in sorted(written(lake).items()) if p == partition]
            assert all(a[1] == b[0] for a, b in pairwise(chain))


@FEW
@given(logs(1), st.floats(0, 1), st.integers(1, 6))
def test_a_tile_whose_end_an_open_transaction_hides_stays_open(kafka, share, count):
    """What is stable is read; the rest comes when the transaction has ended, and nothing twice."""
    (log,) = kafka.topics["t"]
    log.stable = int(log.high * share)
    with new_lake() as lake:
        try:
            load(lake, kafka, STREAM, TILES[:count])
            blocked = False
        except OpenTransactionError:
            blocked = True
        ends = {tile: stop for (tile, _), (_, stop) in written(lake).items()}
        assert blocked == (max(ends.values()) > log.stable)
        assert placed(lake) == [row for row in owned(lake, kafka) if row[1] < log.stable]
        closed = lake.read(TILES_TABLE).filter(pl.col("closed_at").is_not_null()).collect()
        assert set(closed["tile"]) == {tile for tile, stop in ends.items() if stop <= log.stable}
        log.stable = None
        load(lake, kafka, STREAM, TILES[:count])
        assert placed(lake) == owned(lake, kafka)
        prove(lake, STREAM)


@FEW
@given(logs(), st.floats(0, 1), st.sets(st.integers(0, 40)))
def test_a_complete_tile_is_replaced_by_itself(kafka, share, compacted):
    """From Kafka while it has all, from bronze where it has less, and it says which (event-streaming 6)."""
    with new_lake() as lake:
        load(lake, kafka, STREAM, TILES)
        before, ledger_holds = placed(lake), equations.holes(lake, STREAM)
        notes = mend(lake, kafka, TILES)
        assert notes == [f"replaced {tile} from Kafka" for tile in TILES]
        assert placed(lake) == before
        log = kafka.topics["t"][0]
        gone = {o for o in log.records if o < int(log.high * share) or o in compacted}
        log.low = int(log.high * share)
        for offset in compacted & set(log.records):
            del log.records[offset]
        notes = mend(lake, kafka, TILES)
        less = {tile for partition, offset, tile, *_ in before if partition == 0 and offset in gone}
        for tile, note in zip(TILES, notes, strict=True):
            assert note.startswith(f"replaced {tile} from {'bronze itself' if tile in less else 'Kafka'}")
        assert placed(lake) == before
        assert equations.holes(lake, STREAM).equals(ledger_holds)
        prove(lake, STREAM)


@FEW
@given(logs(1), st.floats(0, 1), st.floats(0, 1))
def test_what_was_lost_before_it_was_read_is_a_hole_until_someone_acknowledges_it(kafka, early, late):
    """Its range is told, the check is red, the reason is kept; a new loss is red again."""
    (log,) = kafka.topics["t"]
    with new_lake() as lake:
        owns = {b.tile: b for b in bounds.ensure(lake, kafka, STREAM, TILES, NOW)}
        for share, asked, reason in ((early, TILES[:3], "retention"), (late, TILES, "a longer break")):
            log.low = max(log.low, int(log.high * share))
            load(lake, kafka, STREAM, asked)
            new = [owns[tile] for tile in asked] if asked != TILES else [owns[tile] for tile in TILES[3:]]
            lost = [(b.tile, min(b.next_offset, log.low) - b.first_offset) for b in new]
            lost = [(tile, count) for tile, count in lost if count > 0]
            red = equations.holes(lake, STREAM)
            assert red.select("tile", "holes").rows() == lost
            assert all(
                first <= owns[tile].first_offset for tile, first in red.select("tile", "first_offset").rows()
            )
            assert reingest.acknowledge(lake, STREAM, reason) == len(lost)
            assert equations.holes(lake, STREAM).is_empty()
            kept = lake.read(tables.ACKNOWLEDGED_TABLE).filter(pl.col("reason") == reason).collect()
            assert sorted(kept.select("tile", "holes").rows()) == lost
        prove(lake, STREAM)
