"""The checks of a dimension look at one bucket at a time, and find what they must."""

import polars as pl
import pytest

import assets.dimensions
from assets.dimensions import broken_intervals
from assets.merge import merge
from resources.lake import Lake
from sluice import tables
from tests.unit.test_reconcile_tables import customers, filled, row


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


def test_a_dimension_without_rows_holds(tmp_path):
    stream = customers(None)
    lake = Lake(str(tmp_path))
    lake.ensure(tables.dimension(stream))
    assert broken_intervals(lake, stream).is_empty()
