"""Deduplication and the fold where contracts and times are extreme; each case once stopped a whole batch."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from sluice.dedupe import SameEvent
from sluice.history.scd2 import fold
from tests.changes import changes_of, silver_rows

TIME = pl.Datetime("us", "UTC")
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def events(*times: datetime) -> pl.DataFrame:
    at = pl.Series("at", times, dtype=TIME)
    number = pl.Series("_offset", range(len(times)), dtype=pl.Int64)
    return pl.DataFrame([at, number]).with_columns(id=pl.lit("a"), _epoch=1, _partition=0)


def test_the_ends_of_time_have_neighbours_within_time():
    same = SameEvent(("id",), "at", timedelta(days=1), ("id", "at"))
    assert same.partitions(same.near(events(FIRST))) == {date(1, 1, 1), date(1, 1, 2)}
    assert same.partitions(same.near(events(LAST))) == {date(9999, 12, 30), date(9999, 12, 31)}
    assert same.decide(events(FIRST, LAST), events()).filter("_kept").height == 2


@pytest.mark.parametrize("within", [timedelta.max, timedelta(days=4_000_000)])
def test_an_endless_window_makes_one_fact_of_a_key(within: timedelta):
    same = SameEvent(("id",), "at", within, ("id", "at"))
    decided = same.decide(events(FIRST, datetime(2026, 1, 1, tzinfo=UTC), LAST), events())
    assert decided.filter("_kept")["at"].to_list() == [FIRST]


def test_a_window_of_years_has_few_fences():
    same = SameEvent(("id",), "at", timedelta(days=3650), ("id", "at"))
    dates = same.partitions(same.near(events(datetime(2026, 7, 1, tzinfo=UTC))))
    assert len(dates) == 7301
    assert {same.fence(day) for day in dates} == {f"_event_date/{year}" for year in range(2016, 2037)}
    narrow = SameEvent(("id",), "at", timedelta(days=1), ("id", "at"))
    assert narrow.fence(date(2026, 7, 1)) == "_event_date/2026-07-01"


def test_versions_of_a_contract_that_tracks_nothing_are_one_each():
    stream = changes_of({"id": str, "n": int, "at": TIME}, sequence="n", valid_from="at", history=True)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [{"id": key, "n": n, "at": at + timedelta(hours=n)} for n in range(3) for key in ("a", "b")]
    folded = fold(silver_rows(stream, rows), stream)
    assert folded.select("id", "n", "valid_from", "version").rows() == [("a", 2, at, 1), ("b", 2, at, 1)]
