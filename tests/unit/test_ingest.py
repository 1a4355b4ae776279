"""Bronze under crashes at every commit and rivals at every commit: each record once, in its own tile."""

from pathlib import Path

import polars as pl
import pytest

from assets import bounds
from assets.ingest import Limits, position, progress_id
from resources.lake import Lake, LostRace
from sluice import tables
from sluice.errors import KafkaReadError, StaleWriterError
from sluice.tables import TILES_TABLE
from tests.engine import (
    HOURS,
    NOW,
    START,
    at_commit,
    busy_log,
    dying_everywhere,
    load,
    meeting_everywhere,
    orders,
    prove,
    send,
    value,
)
from tests.fake_kafka import FakeKafka

STREAM = orders()
TILES = HOURS[:4]
FEW = Limits(20, 2**40)
BRONZE = tables.bronze(STREAM)


@pytest.fixture
def empty(tmp_path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def everything(lake: Lake) -> None:
    load(lake, busy_log(), STREAM, TILES, FEW)


def records(lake: Lake) -> pl.DataFrame:
    return lake.read(BRONZE).drop("ingested_at").collect().sort("partition", "offset")


def is_whole(lake: Lake) -> None:
    """Hold bronze against the log: every record once, and the equations."""
    kafka = busy_log()
    sent = sorted((p, o) for p, log in enumerate(kafka.topics["t"]) for o in log.records)
    assert records(lake).select("partition", "offset").rows() == sent
    tiles = lake.read(TILES_TABLE).collect()
    assert tiles.select("tile", "partition").is_unique().all()
    assert tiles["closed_at"].null_count() == 0
    prove(lake, STREAM)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_at_any_commit_loses_and_doubles_nothing(empty, tmp_path, after):
    """Bounds, batches, closing, the ledger: each commit in turn (event-streaming 6, kinesis 15, 16)."""
    assert dying_everywhere(empty, tmp_path, everything, is_whole, after=after) >= 5


def test_a_rival_on_the_same_tiles_meets_at_every_commit(empty, tmp_path):
    """The same records are committed by one of them (kafka-medallion 40, 41, 43)."""
    assert meeting_everywhere(empty, tmp_path, everything, everything, is_whole) >= 5


def test_a_rival_on_other_tiles_meets_at_every_commit(empty, tmp_path):
    """Bounds are written by whoever is first; appends of both stand (kafka-medallion 40)."""

    def mine(lake: Lake) -> None:
        load(lake, busy_log(), STREAM, TILES[:2], FEW)

    def other(lake: Lake) -> None:
        load(lake, busy_log(), STREAM, TILES[2:], FEW)

    def check(lake: Lake) -> None:
        other(lake)
        is_whole(lake)

    assert meeting_everywhere(empty, tmp_path, mine, other, check) >= 3


def test_a_zombie_cannot_commit_what_others_went_past(tmp_path):
    """With the handle that it read it loses the race, with a fresh one it is refused (kafka-medallion 41)."""
    lake = Lake(str(tmp_path))
    bound = bounds.ensure(lake, busy_log(), STREAM, TILES[:1], NOW)[0]
    zombie = lake.ensure(BRONZE)
    load(lake, busy_log(), STREAM, TILES[:1])
    stands = position(lake.open(BRONZE.name), STREAM, bound)
    rows = lake.read(BRONZE).collect()
    progress = {progress_id(STREAM, bound): stands}
    with pytest.raises(LostRace):
        lake.commit(zombie, rows, progress=progress)
    with pytest.raises(StaleWriterError):
        lake.commit(lake.ensure(BRONZE), rows, progress=progress)
    assert lake.read(BRONZE).collect().height == rows.height


def test_a_run_resumes_where_the_last_one_failed(tmp_path):
    """The broker fails after the first batch: that batch stands and is not read again (event-streaming 6)."""
    lake, kafka = Lake(str(tmp_path)), busy_log()
    whole, asked = kafka.read, []

    def failing(name, ranges, **limits):
        for number, batch in enumerate(whole(name, ranges, **limits)):
            if number == 1:
                raise KafkaReadError(name, "it went away")
            yield batch

    kafka.read = failing
    with pytest.raises(KafkaReadError):
        load(lake, kafka, STREAM, TILES, Limits(10, 2**40))
    before = set(records(lake).select("partition", "offset").rows())
    assert before

    def noting(name, ranges, **limits):
        asked.append(ranges)
        return whole(name, ranges, **limits)

    kafka.read = noting
    done = load(lake, kafka, STREAM, TILES)
    assert done.rows == len([r for log in kafka.topics["t"] for r in log.records]) - len(before)
    read = {(p, o) for ranges in asked for p, (first, stop) in ranges.items() for o in range(first, stop)}
    assert read.isdisjoint(before)
    is_whole(lake)


def test_a_tile_that_is_complete_is_not_read_again(tmp_path):
    """(kafka-medallion 5, 14)."""
    lake, kafka = Lake(str(tmp_path)), busy_log()
    load(lake, kafka, STREAM, TILES)
    kafka.read = None  # whoever reads fails
    with at_commit(0, lambda: None) as seen:
        done = load(lake, kafka, STREAM, TILES)
    assert (done.rows, done.slices, seen["commits"]) == (0, [], 0)


def test_an_empty_topic_and_an_empty_tile_are_no_failure(tmp_path):
    lake, kafka = Lake(str(tmp_path)), FakeKafka()
    kafka.create("t", 3)
    assert load(lake, kafka, STREAM, TILES[:2]).rows == 0
    send(kafka, value("a", "1", 150), 150, 2)
    assert load(lake, kafka, STREAM, TILES).rows == 1
    assert set(records(lake)["tile"]) == {TILES[2]}
    prove(lake, STREAM)


def test_a_tile_of_the_future_owns_nothing_yet(tmp_path):
    lake = Lake(str(tmp_path))
    done = load(lake, busy_log(), STREAM, ["2026-01-02-00:00"], now=START)
    assert (done.tiles, done.rows) == ([], 0)


def test_what_a_batch_lost_is_told_in_the_account_that_passes_it(tmp_path):
    """Holes at the border of tiles: each tile tells its own part."""
    lake, kafka = Lake(str(tmp_path)), busy_log(1)
    owned = bounds.ensure(lake, kafka, STREAM, TILES, NOW)
    low = owned[1].first_offset + 3
    kafka.expire("t", 0, low)
    done = load(lake, kafka, STREAM, TILES, Limits(5, 2**40))
    assert done.holes == low
    ledger = lake.read(tables.LEDGER_TABLE).collect()
    by_tile = dict(ledger.group_by("tile").agg(pl.col("holes").sum()).rows())
    assert by_tile[TILES[0]] == owned[0].next_offset - owned[0].first_offset
    assert by_tile[TILES[1]] == 3
    prove(lake, STREAM)
