"""Freshness: percentiles of ages, too high by at most five percent, each told once."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.freshness import Freshness

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=200), st.integers(1, 4))
def test_percentiles_are_those_of_the_ages(ages, pieces):
    kept = Freshness()
    for start in range(pieces):
        kept.add(pl.Series([NOW_MS - age for age in ages[start::pieces]], dtype=pl.Int64), NOW)
    ordered = sorted(ages)
    for name, seconds in kept.told().items():
        share = int(name[1:]) / 100
        exact = next(age for i, age in enumerate(ordered, 1) if i >= share * len(ordered)) / 1000
        assert exact - 0.001 <= seconds <= exact * 1.05 + 0.003


def test_what_was_told_is_told_once():
    kept = Freshness()
    kept.add(pl.Series([NOW_MS - 500]), NOW)
    assert set(kept.told()) == {"p50", "p95", "p99"}
    assert kept.told() == {}


def test_no_stamp_does_not_count_and_a_stamp_ahead_of_us_is_no_age():
    kept = Freshness()
    kept.add(pl.Series([-1, -1], dtype=pl.Int64), NOW)
    assert kept.told() == {}
    kept.add(pl.Series([NOW_MS + 5000, 2**62], dtype=pl.Int64), NOW)
    assert kept.told()["p99"] == 0


def test_now_is_when_it_is_not_said():
    kept = Freshness()
    kept.add(pl.Series([int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1000)]))
    assert kept.told()["p50"] == pytest.approx(3600, rel=0.06)
