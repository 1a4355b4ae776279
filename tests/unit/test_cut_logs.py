"""A log that ends before what was read of it, under the same topic: refused wherever it is looked at."""

from datetime import timedelta
from threading import Event

import pytest

from assets import bounds
from assets.flow import Flow, Pace
from resources.lake import Lake
from sensors.arrivals import new_tiles
from sluice import tables
from sluice.errors import LogCutError
from tests.engine import HOURS, START, both, orders, prove, send, state, value
from tests.fake_kafka import FakeKafka

STREAM, SECOND = orders(), orders(epoch=2)
IN_THIRD = START + timedelta(minutes=125)
LATER_IN_THIRD = START + timedelta(minutes=160)
IN_FOURTH = START + timedelta(minutes=185)


def fill(kafka: FakeKafka, name: str, first: int, count: int) -> None:
    for minutes in range(first, first + count):
        send(kafka, value(f"{name}{minutes}", "1.00", minutes), minutes)


@pytest.fixture
def kafka() -> FakeKafka:
    kafka = FakeKafka()
    kafka.create("t")
    fill(kafka, "old", 0, 125)
    return kafka


@pytest.fixture
def lake(tmp_path, kafka) -> Lake:
    """Give a lake that has read two hours and the beginning of a third; its log was cut since, and grew."""
    lake = Lake(str(tmp_path))
    both(lake, kafka, STREAM, HOURS[:3], now=IN_THIRD)
    kafka.cut("t", 0, 0)
    fill(kafka, "new", 126, 30)
    return lake


def written(lake: Lake) -> tuple[list, list]:
    """Give the bounds that stand, and what bronze holds."""
    rows = lake.read(tables.bronze(STREAM)).collect().sort("offset")
    return bounds.stored(lake, STREAM).drop("closed_at").rows(), rows["offset"].to_list()


@pytest.mark.parametrize(
    ("tiles", "now"),
    [(HOURS[2:3], LATER_IN_THIRD), (HOURS[:1], LATER_IN_THIRD), (HOURS[2:4], IN_FOURTH)],
    ids=["the tile is open", "an old tile", "the tile has ended"],
)
def test_a_run_refuses_it_and_writes_nothing(lake, kafka, tiles, now):
    before = written(lake)
    with pytest.raises(LogCutError, match=r"partition 0: the log ends at offset 30.*up to 125.*epoch=2"):
        both(lake, kafka, STREAM, tiles, now=now)
    assert written(lake) == before


def test_the_sensor_says_it(lake, kafka):
    with pytest.raises(LogCutError):
        new_tiles(lake, kafka, STREAM, LATER_IN_THIRD)


def test_a_bound_that_was_written_and_is_not_in_the_log_is_refused(tmp_path, kafka):
    """No transaction is open: none is blamed."""
    lake = Lake(str(tmp_path))
    bounds.ensure(lake, kafka, STREAM, HOURS[:2], IN_THIRD)
    kafka.cut("t", 0, 90)
    with pytest.raises(LogCutError, match=r"ends at offset 90.*up to 120"):
        both(lake, kafka, STREAM, HOURS[:2], now=IN_THIRD)


def follow(lake: Lake, kafka: FakeKafka, told=lambda _done: None) -> None:
    pace = Pace(interval=0.01, rows=7)
    one = Flow(lake, kafka, STREAM, "run", pace, clock=lambda: LATER_IN_THIRD, say=_silent, told=told)
    one.run(Event())


def _silent(_text: str) -> None:
    """Say nothing."""


def test_a_worker_ends_with_it(lake, kafka):
    before = written(lake)
    with pytest.raises(LogCutError):
        follow(lake, kafka)
    assert written(lake) == before


def test_a_worker_that_was_following_ends_with_it(tmp_path, kafka, monkeypatch):
    monkeypatch.setattr("assets.flow._PAUSE", 0.0)
    lake = Lake(str(tmp_path))
    with pytest.raises(LogCutError):
        follow(lake, kafka, lambda _done: kafka.cut("t", 0, 5))


def test_the_next_epoch_reads_what_there_is_beside_what_was_kept(lake, kafka):
    kept = state(lake, STREAM)["silver"]
    both(lake, kafka, SECOND, HOURS[:4], now=IN_FOURTH)
    prove(lake, SECOND)
    rows = state(lake, SECOND)["silver"]
    assert rows.filter(_epoch=1).equals(kept)
    assert rows.filter(_epoch=2).height == 30
