"""Where tiles end: wrong clocks, long logs, real edits, and what the search costs."""

import gzip
import json
import random
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from made_logs import MadeLog, brute_force

from sluice.tiles import HOUR_MS, bounds, first_offset

START = 1_700_000_000_000
DAY_MS = 24 * HOUR_MS
LATER = START + 10_000 * DAY_MS


def log_of(stamps: list[int], **more: int) -> MadeLog:
    return MadeLog(list(range(len(stamps))), stamps, **more)


def hourly(count: int) -> list[int]:
    return [START + i * HOUR_MS for i in range(1, count + 1)]


def test_first_offset_is_the_look_up() -> None:
    log = log_of([START - 2, START - 1, START, START + 1])
    assert first_offset(log, START) == 2
    assert first_offset(log, START + 9) == 4


def test_no_record_after_an_end_makes_the_high_watermark_the_bound() -> None:
    log = log_of([START, START + 1], high=9)
    assert bounds(log, 0, hourly(2), LATER) == [9, 9]
    assert bounds(log_of([]), 0, hourly(2), LATER) == [0, 0]


def test_a_tile_that_begins_beyond_the_log_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot begin at offset 3: the log ends at 2"):
        bounds(log_of([START, START + 1]), 3, hourly(1), LATER)


def test_topics_without_stamps_belong_to_the_tile_open_when_read() -> None:
    assert bounds(log_of([-1] * 5), 0, hourly(2), LATER) == [5, 5]


def test_one_clock_in_the_future_moves_nothing_live() -> None:
    now = START + HOUR_MS + 60_000
    log = log_of([START + 1, now + 5 * DAY_MS, START + 2, START + HOUR_MS + 1, START + HOUR_MS + 2])
    assert bounds(log, 0, [START + HOUR_MS], now) == [3]


def test_in_the_live_hour_a_record_up_to_an_hour_ahead_counts() -> None:
    now = START + HOUR_MS + 60_000
    log = log_of([START + 1, now + HOUR_MS, now + HOUR_MS])
    assert bounds(log, 0, [START + HOUR_MS], now) == [1]


def test_one_clock_in_the_past_or_future_moves_nothing_in_history() -> None:
    stamps = [START + i * 60_000 for i in range(600)]
    stamps[5], stamps[330] = START + 900 * DAY_MS, START - 900 * DAY_MS
    assert bounds(log_of(stamps), 0, hourly(9), LATER) == [60 * i for i in range(1, 10)]


@pytest.mark.parametrize("wrong", [0, 40_000, 199_000])
def test_a_wrong_clock_anywhere_in_a_long_log_moves_nothing(wrong: int) -> None:
    stamps = [START + i * 1_000 for i in range(200_000)]
    stamps[wrong] = START + 900 * DAY_MS
    log = log_of(stamps)
    assert bounds(log, 0, hourly(50), LATER) == [3_600 * i for i in range(1, 51)]
    assert log.read < 2 * len(stamps)


def test_a_long_stretch_of_wrong_clocks_is_not_taken_for_the_end() -> None:
    stamps = [START + i * 1_000 for i in range(400_000)]
    stamps[50_000:70_000] = [START + 900 * DAY_MS] * 20_000
    log = log_of(stamps)
    found = bounds(log, 0, [START + 300_000_000, START + 350_000_000], LATER)
    assert found == brute_force(log, 0, [START + 300_000_000, START + 350_000_000], LATER)
    assert found == [300_000, 350_000]


def test_late_and_early_records_around_a_bound_are_split_best() -> None:
    chance = random.Random(4)  # noqa: S311  # the same each time
    stamps = [START + i * 1_000 + chance.randint(-300_000, 300_000) for i in range(20_000)]
    log = log_of(stamps)
    assert bounds(log, 0, hourly(5), LATER) == brute_force(log, 0, hourly(5), LATER)


def test_a_log_that_the_broker_stamped_needs_look_ups_only() -> None:
    log = log_of([START + i * 1_000 for i in range(50_000)], in_order=True)
    assert bounds(log, 0, hourly(10), LATER) == [3_600 * i for i in range(1, 11)]
    assert (log.read, log.look_ups) == (0, 10)


def test_sparse_logs_are_read_in_long_strides() -> None:
    """A compacted log keeps few of its offsets."""
    offsets = list(range(0, 50_000_000, 50_000))
    log = MadeLog(offsets, [START + i * 60_000 for i in range(len(offsets))])
    began = time.perf_counter()
    assert bounds(log, 0, hourly(10), LATER) == [offsets[60 * i] for i in range(1, 11)]
    assert time.perf_counter() - began < 60


@pytest.mark.parametrize("wrong", [None, 0])
def test_ten_thousand_tiles_take_seconds(wrong: int | None) -> None:
    stamps = [START + i * 36_000 for i in range(1_000_000)]
    if wrong is not None:
        stamps[wrong] = START + 10**12
    log = log_of(stamps)
    began = time.perf_counter()
    found = bounds(log, 0, hourly(10_000), LATER)
    assert time.perf_counter() - began < 120  # seconds; 6 were measured on two busy cores
    assert found == [min(100 * i, 1_000_000) for i in range(1, 10_001)]


def test_edits_of_wikipedia_stay_in_their_day_though_some_clocks_are_wrong(shared_data: Path) -> None:
    file = shared_data / "streams" / "wikipedia-edits" / "wikiticker-2015-09-12-sampled.json.gz"
    with gzip.open(file) as lines:
        times = [json.loads(line)["time"] for line in lines]
    log = log_of([int(datetime.fromisoformat(text).timestamp() * 1000) for text in times])
    days = [int(datetime(2015, 9, day, tzinfo=UTC).timestamp() * 1000) for day in range(8, 16)]
    first = first_offset(log, days[0])
    found = [first, *bounds(log, first, days[1:], LATER)]
    assert found[1:] == brute_force(log, first, days[1:], LATER)
    assert found[5] - found[4] > 39_100, "the tile of 2015-09-12"
