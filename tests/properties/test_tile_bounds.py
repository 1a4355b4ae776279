"""Bounds of tiles against the plainest way to find them, on made-up logs."""

from bisect import bisect_left
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from made_logs import MadeLog, brute_force

from sluice import tiles
from sluice.tiles import HOUR_MS, bounds, first_offset

START = 1_700_000_000_000
LAST = 2**63 - 1

stamps = st.one_of(
    st.integers(START, START + 20 * HOUR_MS),
    st.integers(START, START + 30),  # many equal ones
    st.sampled_from([-1, 0, 1, LAST, START + 10**12, START - 10**12]),
)


@st.composite
def logs(draw: st.DrawFn) -> MadeLog:
    values = draw(st.lists(stamps, max_size=60))
    if draw(st.booleans()):
        values.sort()
    gaps = draw(st.lists(st.integers(1, 4), min_size=len(values), max_size=len(values)))
    offset, offsets = draw(st.integers(0, 5)), []
    for gap in gaps:
        offset += gap
        offsets.append(offset)
    low = offsets[0] if offsets else offset
    return MadeLog(offsets, values, low=low, high=offset + 1 + draw(st.integers(0, 3)))


ends = st.lists(st.integers(START - HOUR_MS, START + 25 * HOUR_MS), min_size=1, max_size=8).map(sorted)
nows = st.integers(START, START + 40 * HOUR_MS)


@given(logs(), ends, nows, st.integers(0, 80))
def test_bounds_are_the_best_splits(log: MadeLog, ends_ms: list[int], now: int, first: int) -> None:
    """Medallion property 14 (incremental processing): each record is in the tile that fits it best."""
    first = min(first, log.high)
    assert bounds(log, first, ends_ms, now) == brute_force(log, first, ends_ms, now)


@given(logs(), ends, nows)
def test_bounds_tile_the_log(log: MadeLog, ends_ms: list[int], now: int) -> None:
    """Medallion property 14 (incremental processing): no record is in two tiles, none in no tile."""
    first = first_offset(log, START)
    found = [first, *bounds(log, first, ends_ms, now)]
    assert found == sorted(found)
    assert found[-1] <= log.high


@given(logs(), ends, nows, st.data())
def test_planning_in_steps_gives_the_same_bounds(
    log: MadeLog, ends_ms: list[int], now: int, data: st.DataObject
) -> None:
    """Medallion property 14 (incremental processing): tiles planned run by run are those planned at once."""
    at = data.draw(st.integers(0, len(ends_ms)))
    once = bounds(log, log.low, ends_ms, now)
    before = bounds(log, log.low, ends_ms[:at], now)
    after = bounds(log, before[-1] if before else log.low, ends_ms[at:], now)
    assert before + after == once


@given(logs(), ends, nows, st.integers(1, 40))
def test_what_was_read_and_what_is_asked_say_the_same(
    log: MadeLog, ends_ms: list[int], now: int, reach: int
) -> None:
    """However little is read ahead, or asked at once: the same bounds."""
    wanted = bounds(log, log.low, ends_ms, now)
    with patch.multiple(tiles, _REACH=reach, _MOST_ASKED=1):
        assert bounds(log, log.low, ends_ms, now) == wanted


@given(
    st.integers(1, 400),
    st.integers(0, 399),
    st.one_of(st.integers(0, LAST), st.integers(START, START + 20 * HOUR_MS)),
)
def test_one_wrong_clock_puts_at_most_its_own_record_into_a_neighbour(
    count: int, at: int, wrong: int
) -> None:
    """Each bound lies where it lay without the wrong stamp, or one record beside."""
    stamps = [START + i * HOUR_MS // 20 for i in range(count)]
    hours = [START + i * HOUR_MS for i in range(1, 21)]
    right = bounds(MadeLog(list(range(count)), stamps), 0, hours, LAST)
    stamps[min(at, count - 1)] = wrong
    found = bounds(MadeLog(list(range(count)), stamps), 0, hours, LAST)
    assert all(abs(a - b) <= 1 for a, b in zip(right, found, strict=True))


@settings(max_examples=40)
@given(st.integers(0, 500), st.integers(1, 300), st.integers(2 * HOUR_MS, 10**12), st.integers(1, 60))
def test_a_long_stretch_of_wrong_clocks_is_seen_through(
    begin: int, length: int, ahead: int, pace: int
) -> None:
    """Longer than what is read around a bound, shorter than lies between two samples of the log.

    Where the records of the tile that follow the stretch are thrice as many, or none.
    """
    stamps = [START + i * pace * 1_000 for i in range(begin + 5 * length + 400)]
    ahead += stamps[-1] - START  # an hour or more after the end of every tile
    wrong = [
        *stamps[:begin],
        *(stamp + ahead for stamp in stamps[begin : begin + length]),
        *stamps[begin + length :],
    ]
    hours = [START + i * HOUR_MS for i in range(1, 200) if START + i * HOUR_MS <= stamps[-1] + HOUR_MS]
    log = MadeLog(list(range(len(wrong))), wrong)
    with patch.multiple(tiles, HYSTERESIS=20, _REACH=25, SAMPLES=1, SAMPLE_OFFSETS=3):
        found = bounds(log, 0, hours, LAST)
    for bound, best, end in zip(found, brute_force(log, 0, hours, LAST), hours, strict=True):
        if not begin < bisect_left(stamps, end) < begin + 4 * length + 100:
            assert bound == best
