"""A backfill of ten thousand tiles: one run, linear in its tiles, cancelled and resumed between batches."""

import time
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from assets import bounds, proofs, shell
from assets.ingest import TILES_AT_ONCE, Limits, ingest
from assets.refine import Refined
from assets.silver import _summary
from resources.lake import Lake
from sensors.arrivals import new_tiles
from sluice import tables
from sluice.tables import TILES_TABLE
from tests.engine import START, orders, send
from tests.fake_kafka import FakeKafka

STREAM = orders()
LIMITS = Limits(500_000, 2**40)
FEW, MANY = 1_000, 10_000


class Cancelled(BaseException):
    """As Dagster's termination: nothing in the program catches it."""


def hourly(count: int) -> tuple[FakeKafka, list[str], datetime]:
    """Make a log with a record an hour, its tiles, and a moment after them."""
    kafka = FakeKafka()
    kafka.create("t")
    for hour in range(count):
        send(kafka, b"x", 60 * hour + 5)
    tiles = [w.tile for w in STREAM.partitions.windows(START + timedelta(hours=count - 1))]
    return kafka, tiles, START + timedelta(hours=count + 2)


def backfill(lake: Lake, count: int) -> dict[str, float]:
    """Bring so many tiles into bronze, prove them, look for more; give the CPU seconds of each."""
    kafka, tiles, now = hourly(count)
    took: dict[str, float] = {}

    def timed(name, step):
        began = time.process_time()
        found = step()
        took[name] = time.process_time() - began
        return found

    said: list[str] = []
    timed("plan", lambda: bounds.ensure(lake, kafka, STREAM, tiles, now))
    timed(
        "ingest",
        lambda: ingest(lake, kafka, STREAM, tiles, run_id="r", limits=LIMITS, now=now, say=said.append),
    )
    assert len(said) == count // TILES_AT_ONCE
    assert timed("prove", lambda: proofs.unequal(lake, STREAM, "bronze", tiles)).is_empty()
    assert timed("prove again", lambda: proofs.unequal(lake, STREAM, "bronze")).is_empty()
    assert timed("sensor", lambda: new_tiles(lake, kafka, STREAM, now)).undecided[:2] == tiles[:2], (
        "silver has none"
    )
    return took


def test_ten_times_the_tiles_cost_about_ten_times_as_much(tmp_path):
    """Backfills of many tiles: nothing grows faster than they do."""
    few = backfill(Lake(str(tmp_path / "few")), FEW)
    many = backfill(Lake(str(tmp_path / "many")), MANY)
    for step, seconds in many.items():
        assert seconds <= 20 * max(few[step], 0.1), f"{step}: {few[step]:.2f} s became {seconds:.2f} s"
    lake = Lake(str(tmp_path / "many"))
    owned = bounds.stored(lake, STREAM)
    assert owned.filter(owned["closed_at"].is_not_null()).height == MANY
    rows = lake.read(tables.bronze(STREAM)).select("tile", "offset").collect()
    assert (rows["tile"].n_unique(), rows["offset"].n_unique(), rows.height) == (MANY, MANY, MANY)


@pytest.mark.parametrize("at", [1, 3])
def test_a_cancelled_backfill_goes_on_where_it_was(tmp_path: Path, at: int):
    """What was committed stands, nothing half, and no record of it is read again (event-streaming 6)."""
    lake, (kafka, tiles, now) = Lake(str(tmp_path)), hourly(FEW)
    said: list[str] = []

    def cancelling(text: str) -> None:
        said.append(text)
        if len(said) == at:
            raise Cancelled

    arguments = {"run_id": "r", "limits": LIMITS, "now": now}
    with pytest.raises(Cancelled):
        ingest(lake, kafka, STREAM, tiles, say=cancelling, **arguments)
    committed = lake.read(tables.bronze(STREAM)).collect()
    assert committed["tile"].n_unique() == at * TILES_AT_ONCE
    assert lake.read(TILES_TABLE).collect()["tile"].n_unique() == FEW
    done = ingest(lake, kafka, STREAM, tiles, say=said.append, **arguments)
    assert done.rows == FEW - committed.height
    assert lake.read(tables.bronze(STREAM)).collect()["offset"].n_unique() == FEW
    assert proofs.unequal(lake, STREAM, "bronze").is_empty()


def test_what_each_tile_is_told_with_does_not_grow_with_the_tiles():
    """The event of each tile carries what is told of the run: ten thousand tiles would be gigabytes."""

    def told(count: int) -> int:
        days = {date(2000, 1, 1) + timedelta(days=number) for number in range(count)}
        anew = {str(day): 2 for day in sorted(days)}
        done = Refined([], touched=days, unknown=Counter(f"m{n}" for n in range(count)), anew=anew)
        return len(str(_summary(done)))

    assert told(10_000) < told(100) * 1.1


def test_progress_is_said_at_a_bounded_rate(monkeypatch):
    clock, said = [0.0], []
    monkeypatch.setattr(shell, "monotonic", lambda: clock[0])
    say = shell.seldom(said.append)
    for number in range(1_000):
        clock[0] = number / 100
        say(str(number))
    assert said == [str(number) for number in range(0, 1_000, 100)]
