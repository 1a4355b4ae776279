"""A ledger of days of half-second commits: what is asked each minute, or for a plan, holds little of it."""

from datetime import UTC, datetime

import polars as pl
import pytest

from assets import equations, touched
from assets.anew import in_doubt
from assets.progress import Bounds
from resources.lake import Lake
from sluice import tables
from sluice.tables import LEDGER, LEDGER_TABLE
from tests.engine import HOURS, orders

STREAM = orders()
COUNT, PARTITIONS = 20_000, 64
OWNED = [Bounds(tile, 0, "id", 1, 0, 1_000_000) for tile in HOURS]
N = pl.col("n")


def accounts(layer: str, **told: pl.Expr) -> pl.DataFrame:
    """Make the accounts of many commits, two hours of which are in each tile."""
    same = {"stream": STREAM.name, "layer": layer, "kind": "batch", "code_version": STREAM.code_version}
    values: dict[str, pl.Expr] = {name: pl.lit(value) for name, value in same.items()} | {
        "tile": pl.lit(pl.Series(HOURS)).gather(N * len(HOURS) // COUNT),
        "generation": pl.lit(1),
        "epoch": pl.lit(1),
        "partition": N % PARTITIONS,
        "first_offset": N // PARTITIONS * 10,
        "next_offset": N // PARTITIONS * 10 + 10,
        "read": pl.lit(10),
        "accepted": pl.lit(10),
        "committed_at": pl.lit(datetime(2026, 1, 1, tzinfo=UTC)),
        "table_version": N // PARTITIONS,
        **told,
    }
    counts = {n: pl.lit(0) for n, dtype in LEDGER.items() if dtype == pl.Int64() and n not in values}
    rows = pl.DataFrame({"n": range(COUNT)}).select(**(values | counts))
    rest = [pl.lit(None).alias(name) for name in LEDGER if name not in rows.columns]
    return rows.with_columns(rest).select(pl.col(name).cast(dtype) for name, dtype in LEDGER.items())


@pytest.fixture
def collected(monkeypatch) -> list[int]:
    """Note how many rows anything collects."""
    heights: list[int] = []
    collect = pl.LazyFrame.collect

    def counted(self, **arguments):
        found = collect(self, **arguments)
        heights.append(found.height)
        return found

    monkeypatch.setattr(pl.LazyFrame, "collect", counted)
    return heights


def test_what_is_asked_again_and_again_holds_only_what_it_finds(tmp_path, collected):
    lake = Lake(str(tmp_path))
    lossy = accounts("bronze", holes=pl.when(N == 7_000).then(3).otherwise(0))
    wrong = accounts("silver", read=pl.when(N == 5).then(11).otherwise(10))
    lake.commit(lake.ensure(LEDGER_TABLE), pl.concat([lossy, wrong]))
    silver = lake.ensure(tables.silver(STREAM))
    assert equations.unbalanced(lake, STREAM, "silver")["first_offset"].to_list() == [0]
    assert equations.unbalanced(lake, STREAM, "bronze").is_empty()
    assert equations.holes(lake, STREAM).select("tile", "holes").rows() == [(HOURS[8], 3)]
    assert equations.over_quarantined(lake, STREAM).is_empty()
    assert in_doubt(lake, silver, STREAM, OWNED, ()).is_empty()
    assert touched.by_rows(lake, STREAM, 0, COUNT) == set()
    assert max(collected) <= len(HOURS)
    again = in_doubt(lake, silver, STREAM, OWNED, {HOURS[2]})
    assert set(again["tile"]) == {HOURS[2]}
    assert max(collected) == again.height < COUNT // 20
