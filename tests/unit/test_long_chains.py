"""Keys that come again and again: near repeats that form one chain over many dates, and what they cost."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from assets import meet
from resources.lake import Lake
from sluice import tables
from sluice.dedupe import SameEvent
from tests.engine import HOURS, assert_same, both, orders, prove, send, state, value
from tests.fake_kafka import FakeKafka

DAY = 24 * 60
HALF_DAYS = orders(dedupe_within=timedelta(days=1))  # of a key that comes each half day every third stands


def chain(kafka: FakeKafka, days: int, *skipped: int) -> None:
    """Send a key each half day for so many days before the start, in the first tile; some are not sent."""
    for number in range(2 * days):
        if number not in skipped:
            send(kafka, value("o", "1.00", (number / 2 - days) * DAY), 1)


@pytest.fixture
def kafka() -> FakeKafka:
    kafka = FakeKafka()
    kafka.create("t", 1)
    return kafka


def test_a_chain_of_many_winners_is_decided_in_one_pass(monkeypatch):
    passes = []
    real = pl.DataFrame.join
    monkeypatch.setattr(pl.DataFrame, "join", lambda *a, **k: passes.append(1) or real(*a, **k))
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=40) * number for number in range(2000)]
    rows = pl.DataFrame({"id": "a", "at": times, "_epoch": 1, "_partition": 0, "_offset": range(2000)})
    decided = SameEvent(("id",), "at", timedelta(minutes=1), ("id", "at")).decide(rows, rows.clear())
    assert decided.filter("_kept").sort("_offset")["_offset"].to_list() == list(range(0, 2000, 2))
    losers = decided.filter(~pl.col("_kept"))
    assert losers.filter(pl.col("_winner_offset") == pl.col("_offset") - 1).height == losers.height == 1000
    assert len(passes) < 10


def test_one_more_of_a_long_chain_looks_at_its_neighbours_only(tmp_path, kafka, monkeypatch):
    lake = Lake(str(tmp_path / "lake"))
    chain(kafka, 20)
    both(lake, kafka, HALF_DAYS, HOURS[:1])
    looks, real = [], meet.meet

    def met(*given, **named):
        looks.append(real(*given, **named))
        return looks[-1]

    monkeypatch.setattr("assets.settle.meet", met)
    send(kafka, value("o", "1.00", 0), 61)
    both(lake, kafka, HALF_DAYS, HOURS[1:2])
    (look,) = looks
    assert len(look.partitions) <= 5
    assert look.rows.height <= 5
    prove(lake, HALF_DAYS)


@pytest.mark.parametrize("gap", [0, 1, 2, 17])
def test_what_fills_a_gap_of_a_long_chain_moves_all_that_follows(tmp_path, kafka, gap):
    chain(kafka, 12, gap)
    lake, whole = Lake(str(tmp_path / "lake")), Lake(str(tmp_path / "whole"))
    both(lake, kafka, HALF_DAYS, HOURS[:1])
    send(kafka, value("o", "2.00", (gap / 2 - 12) * DAY), 61)
    both(lake, kafka, HALF_DAYS, HOURS[1:2])
    both(whole, kafka, HALF_DAYS, HOURS[:2])
    assert_same(state(lake, HALF_DAYS), state(whole, HALF_DAYS))
    prove(lake, HALF_DAYS)
    assert lake.read(tables.silver(HALF_DAYS)).collect().height == 8


def test_a_time_may_be_part_of_the_key(tmp_path, kafka):
    """What is sent twice lost to itself only, also where it comes a third time later."""
    stream, lake = orders(key=("order_id", "at")), Lake(str(tmp_path / "lake"))
    for tile in range(3):
        for minutes in (0, 1):
            send(kafka, value("o", "1.00", minutes), 1 + 60 * tile)
        both(lake, kafka, stream, HOURS[tile : tile + 1])
    prove(lake, stream)
    assert lake.read(tables.silver(stream)).collect()["_offset"].sort().to_list() == [0, 1]
    losers = lake.read(tables.losers(stream)).collect().sort("offset")
    assert losers["winner_offset"].to_list() == [0, 1, 0, 1]
