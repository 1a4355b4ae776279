"""The checks of a dimension look at one bucket at a time, and find what they must."""

import polars as pl
import pytest

import assets.dimensions
from assets.dimensions import broken_intervals, spread_keys
from assets.merge import merge
from resources.lake import Lake
from sluice import tables
from tests.reconciling import customers, filled, row


@pytest.mark.parametrize("history", [False, True])
def test_a_check_holds_one_bucket_at_a_time(tmp_path, monkeypatch, history):
    stream = customers(None, history=history)
    rows = [row(n, seq=1) for n in range(400)] + [row(n, seq=2, name="other") for n in range(0, 400, 3)]
    lake = filled(tmp_path, stream, rows)
    merge(lake, stream, say=lambda _: None)
    whole = lake.read(tables.dimension(stream)).collect()
    seen = []
    broken = assets.dimensions.intervals_broken

    def watched(part, *arguments, **options):
        seen.append(part)
        return broken(part, *arguments, **options)

    monkeypatch.setattr(assets.dimensions, "intervals_broken", watched)
    assert broken_intervals(lake, stream).is_empty()
    assert sum(part.height for part in seen) == whole.height
    assert max(part.height for part in seen) < whole.height / 8, "of sixteen buckets"
    assert {"_position", "_op", "_bucket"}.isdisjoint(seen[0].columns)


def test_what_is_broken_is_told_wherever_it_lies(tmp_path):
    stream = customers(None, history=True)
    lake = filled(tmp_path, stream, [row(n) for n in range(40)])
    merge(lake, stream, say=lambda _: None)
    table = tables.dimension(stream)
    handle = lake.ensure(table)
    rows = lake.scan(handle).collect()
    twice = rows.filter(pl.col("id") == 7)
    moved = rows.filter(pl.col("id") == 9).with_columns((pl.col("_bucket") + 1) % tables.BUCKETS)
    lake.commit(handle, pl.concat([twice, moved]).select(list(table.columns)))
    found = broken_intervals(lake, stream)
    assert set(found["id"]) == {7, 9}
    assert found.filter(id=9)["broken"].to_list() == ["a key in another bucket than its own"]


def test_keys_in_two_partitions_are_looked_for_bucket_by_bucket(tmp_path, monkeypatch):
    stream = customers(None, sequence=None)
    lake = filled(tmp_path, stream, [row(n) for n in range(40)])
    handle = lake.ensure(tables.silver(stream))
    again = lake.scan(handle).filter(pl.col("id").is_in([7, 9])).collect()
    moved = again.with_columns(_partition=1 - pl.col("_partition"), _offset=pl.col("_offset") + 1000)
    lake.commit(handle, moved.select(list(tables.silver(stream).columns)))
    asked = []
    group = pl.LazyFrame.group_by
    monkeypatch.setattr(
        pl.LazyFrame, "group_by", lambda rows, *by: asked.append(rows.explain()) or group(rows, *by)
    )
    found = spread_keys(lake, stream)
    assert sorted(found["id"]) == [7, 9]
    assert set(found["partitions"]) == {2}
    assert len(asked) > 8
    assert all("_bucket" in plan for plan in asked)


def test_a_dimension_without_rows_holds(tmp_path):
    stream = customers(None)
    lake = Lake(str(tmp_path))
    lake.ensure(tables.dimension(stream))
    assert broken_intervals(lake, stream).is_empty()
