"""Bounds of tiles against the plainest way to find them, on made-up logs."""

from hypothesis import given
from hypothesis import strategies as st
from made_logs import MadeLog, brute_force

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
