"""The bounds of tiles: written once and before they are used, whatever clocks, retention and topics do."""

from datetime import timedelta
from itertools import pairwise

import polars as pl
import pytest

from assets import bounds
from resources.lake import Lake
from sluice import Daily, Hourly, tables
from sluice.errors import OpenTransactionError, PartitionsChangedError, TopicMissingError, TopicRecreatedError
from sluice.tables import TILES_TABLE
from tests.engine import (
    HOURS,
    NOW,
    START,
    both,
    busy_log,
    load,
    meeting_everywhere,
    orders,
    prove,
    send,
    state,
    told,
    value,
)
from tests.fake_kafka import FakeKafka

STREAM = orders()


def written(lake: Lake) -> pl.DataFrame:
    """Give the bounds as they stand, without when they were closed."""
    return lake.read(TILES_TABLE).collect().sort("epoch", "tile", "partition").drop("closed_at")


def test_the_ranges_of_all_tiles_tile_the_log(lake):
    """Each tile begins where the one before it ends; together they own all offsets (event-streaming 6)."""
    kafka = busy_log()
    found = bounds.ensure(lake, kafka, STREAM, HOURS, NOW)
    for partition, log in enumerate(kafka.topics["t"]):
        own = [b for b in found if b.partition == partition]
        assert [b.tile for b in own] == HOURS
        assert own[0].first_offset == 0
        assert own[-1].next_offset == log.high
        assert all(a.next_offset == b.first_offset for a, b in pairwise(own))


def test_what_concerns_all_partitions_is_asked_once(lake, monkeypatch):
    """However many partitions a topic has, and not at all where no bound is due."""
    kafka = FakeKafka()
    kafka.create("t", 64)
    for i in range(128):
        send(kafka, value(f"o{i}", "1.00", i), i, i % 64)
    asked: list[int] = []
    logs = kafka.logs
    monkeypatch.setattr(kafka, "logs", lambda name, some: asked.append(len(some)) or logs(name, some))
    for _ in range(2):
        found = bounds.ensure(lake, kafka, STREAM, HOURS[:2], NOW)
        assert {b.partition for b in found} == set(range(64))
    assert asked == [64, 0]


def test_asking_for_a_tile_writes_the_bounds_before_it_and_no_data(lake):
    load(lake, busy_log(), STREAM, [HOURS[2]])
    assert written(lake)["tile"].unique().sort().to_list() == HOURS[:3]
    rows = lake.read(tables.bronze(STREAM)).collect()
    assert set(rows["tile"]) == {HOURS[2]}


@pytest.mark.parametrize("later", [timedelta(hours=-20), timedelta(days=400)])
def test_other_clocks_and_retention_move_no_bound(lake, later):
    """A restart with a clock that is wrong, after retention took records, finds the same tiles."""
    kafka = busy_log()
    bounds.ensure(lake, kafka, STREAM, HOURS[:3], NOW)
    before = written(lake)
    kafka.expire("t", 0, 20)
    bounds.ensure(lake, kafka, STREAM, HOURS[:3], NOW + later)
    assert written(lake).equals(before)
    bounds.ensure(lake, kafka, STREAM, HOURS[:4], NOW + timedelta(days=1))
    assert written(lake).filter(pl.col("tile").is_in(HOURS[:3])).equals(before)


def test_records_that_come_late_to_the_log_do_not_move_a_written_bound(lake):
    kafka = busy_log()
    both(lake, kafka, STREAM, HOURS[:4])
    before = written(lake)
    send(kafka, value("old", "1", 5), 5)  # stamped within the first hour, appended after the last
    both(lake, kafka, STREAM, HOURS[:4])
    assert written(lake).equals(before)


def test_an_open_tile_has_no_end_and_grows_until_its_time_has_passed(lake):
    kafka = busy_log(1)
    in_third = START + timedelta(hours=2, minutes=30)
    both(lake, kafka, STREAM, HOURS[:3], now=in_third)
    last = bounds.known(lake, STREAM, [HOURS[2]])[0]
    assert last.next_offset is None
    assert lake.read(TILES_TABLE).filter(pl.col("tile") == HOURS[2]).collect()["closed_at"][0] is None
    send(kafka, value("new", "1", 155), 155)
    both(lake, kafka, STREAM, HOURS[:3], now=in_third)
    send(kafka, value("newer", "1", 300), 300)
    both(lake, kafka, STREAM, HOURS[:3], now=NOW)
    closed = bounds.known(lake, STREAM, [HOURS[2]])[0]
    assert (closed.first_offset, closed.next_offset is not None) == (last.first_offset, True)
    assert lake.read(TILES_TABLE).filter(pl.col("tile") == HOURS[2]).collect()["closed_at"][0] is not None
    prove(lake, STREAM)


def test_a_partition_added_later_belongs_to_the_tiles_open_from_then_on(lake):
    kafka = busy_log(1)
    both(lake, kafka, STREAM, HOURS[:2], now=START + timedelta(hours=2))
    added = kafka.grow("t")
    offset = send(kafka, value("young", "1", 10), 10, added)  # stamped in the first hour, but read later
    both(lake, kafka, STREAM, HOURS[:4])
    mine = [b.tile for b in bounds.known(lake, STREAM, HOURS) if b.partition == added]
    assert HOURS[0] not in mine
    assert HOURS[1] not in mine
    assert (1, added, offset) in told(lake, STREAM)["silver"]
    prove(lake, STREAM)


def test_an_open_tile_says_which_transaction_holds_it(lake):
    """Not only when it ends, which may be a day later."""
    kafka, in_third = busy_log(1), START + timedelta(hours=2, minutes=30)
    kafka.topics["t"][0].stable = 40
    done = load(lake, kafka, STREAM, HOURS[:3], now=in_third)
    assert done.notes == ["an open transaction holds partition 0 at offset 40: producer 7"]
    watermarks = kafka.watermarks

    def going_on(name, partitions):
        """One ends and another begins while the run is at work: nothing hangs."""
        kafka.topics["t"][0].stable += 1
        return watermarks(name, partitions)

    kafka.watermarks = going_on
    assert load(lake, kafka, STREAM, HOURS[:3], now=in_third).notes == []


def test_what_lies_before_the_start_is_left_out_and_counted_once(lake):
    kafka = FakeKafka()
    kafka.create("t")
    for minutes in (-90, -60, -30, 5, 10):
        send(kafka, value(f"o{minutes}", "1", minutes), minutes)
    done = load(lake, kafka, STREAM, HOURS[:1])
    assert (done.rows, done.notes) == (2, ["3 offsets before 2026-01-01 left out"])
    assert load(lake, kafka, STREAM, HOURS[:2]).notes == []
    prove(lake, STREAM)


def test_a_topic_made_again_is_refused_and_a_new_epoch_reads_it_beside_the_old(lake):
    kafka = busy_log()
    both(lake, kafka, STREAM, HOURS[:4])
    old = state(lake, STREAM)["silver"]
    kafka.create("t", 1, topic_id="id-2")
    send(kafka, value("after", "3", 61), 61)
    with pytest.raises(TopicRecreatedError, match="epoch=2"):
        load(lake, kafka, STREAM, HOURS[:4])
    again = orders(epoch=2)
    both(lake, kafka, again, HOURS[:4])
    prove(lake, again)
    rows = state(lake, again)["silver"]
    assert rows.filter(pl.col("_epoch") == 1).equals(old)
    assert rows.filter(pl.col("_epoch") == 2)["order_id"].to_list() == ["after"]
    done = both(lake, kafka, again, HOURS[:4])
    assert done.accounts == []  # the other epoch's tiles of the same names were decided by another contract
    assert state(lake, again)["silver"].equals(rows)


@pytest.mark.parametrize("partitions", [Hourly(start="2025-12-31"), Daily(start="2026-01-01")])
def test_other_partitions_are_refused_by_name(lake, partitions):
    kafka = busy_log()
    load(lake, kafka, STREAM, HOURS[:1])
    before = written(lake)
    with pytest.raises(PartitionsChangedError, match=r"2026-01-01-00:00.*restore `partitions`"):
        bounds.ensure(lake, kafka, orders(partitions=partitions), [partitions.tile_at(START)], NOW)
    assert written(lake).equals(before)


def test_a_topic_that_does_not_exist_is_named(lake):
    with pytest.raises(TopicMissingError, match="'t'"):
        load(lake, FakeKafka(), STREAM, HOURS[:1])


def test_an_open_transaction_keeps_a_tile_open_until_it_ends(lake):
    """What is stable is read; the tile closes when the transaction has ended, and misses nothing."""
    kafka = busy_log(1)
    kafka.topics["t"][0].stable = 10
    with pytest.raises(OpenTransactionError, match="producer 7"):
        load(lake, kafka, STREAM, HOURS[:1])
    assert lake.read(tables.bronze(STREAM)).collect()["offset"].max() < 10
    assert lake.read(TILES_TABLE).collect()["closed_at"].null_count() == 1
    kafka.topics["t"][0].stable = None
    both(lake, kafka, STREAM, HOURS[:1])
    assert lake.read(TILES_TABLE).collect()["closed_at"].null_count() == 0
    prove(lake, STREAM)


def early_records() -> FakeKafka:
    """Make a log whose second and third record are stamped a little after the hour in which they came."""
    kafka = FakeKafka()
    kafka.create("t")
    for minutes in (10, 61, 62):
        send(kafka, value(f"o{minutes}", "1", minutes), minutes)
    return kafka


def once_each(lake: Lake, kafka: FakeKafka) -> None:
    rows = lake.read(tables.bronze(STREAM)).collect()
    assert sorted(rows["offset"]) == sorted(kafka.topics["t"][0].records)
    prove(lake, STREAM)


def test_what_an_open_tile_has_taken_stays_its_own(lake):
    """A producer's clock is a minute ahead: its record is read before the hour ends (kinesis 15)."""
    kafka = early_records()
    load(lake, kafka, STREAM, HOURS[:1], now=START + timedelta(minutes=59))
    send(kafka, value("next", "1", 63), 63)
    load(lake, kafka, STREAM, HOURS[:2])
    assert [b.next_offset for b in bounds.known(lake, STREAM, HOURS[:2])] == [3, 4]
    once_each(lake, kafka)


def test_a_writer_that_slept_over_the_end_of_its_tile_takes_nothing_from_the_next(tmp_path):
    """Stopped before any of its commits while another closes the tile and reads on (kafka-medallion 41)."""
    start, kafka = tmp_path / "start", early_records()
    start.mkdir()

    def sleeper(lake: Lake) -> None:
        load(lake, kafka, STREAM, HOURS[:1], now=START + timedelta(minutes=59))

    def other(lake: Lake) -> None:
        load(lake, kafka, STREAM, HOURS[:3])

    def check(lake: Lake) -> None:
        once_each(lake, kafka)

    assert meeting_everywhere(start, tmp_path, sleeper, other, check) >= 2
