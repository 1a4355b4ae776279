"""The side tables of silver, quarantine and losers: written before silver's commit decides.

A batch that is tried again replaces whatever its earlier try left, by the same coordinates, so nothing is
there twice. Rows of quarantine that were resolved stay as a record, unless the same record is refused again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl
from deltalake import DeltaTable

from resources.exchange import exchange
from resources.lake import Lake, LostRace
from resources.transactions import transactions
from sluice import tables
from sluice.accounts import Slice
from sluice.tables import COORDINATES, Table


def within(slices: Sequence[Slice], prefix: str = "") -> pl.Expr:
    """Tell whether a row's coordinates lie in one of the slices."""
    epoch, partition, offset = (pl.col(prefix + name) for name in COORDINATES)
    terms = [
        (epoch == e) & (partition == p) & offset.is_between(first, stop, closed="left")
        for e, p, first, stop in joined(slices)
    ]
    return pl.any_horizontal(terms) if terms else pl.lit(value=False)


def joined(slices: Sequence[Slice]) -> list[tuple[int, int, int, int]]:
    """Join slices that follow each other, as those of neighbouring tiles do: thousands become a few."""
    joined: list[tuple[int, int, int, int]] = []
    for s in sorted(slices, key=lambda s: (s.epoch, s.partition, s.first_offset)):
        last = joined[-1] if joined else None
        if last and last[:2] == (s.epoch, s.partition) and last[3] == s.first_offset:
            joined[-1] = (*last[:3], s.next_offset)
        else:
            joined.append((s.epoch, s.partition, s.first_offset, s.next_offset))
    return joined


def put(  # the rest is told in the text
    lake: Lake,
    table: Table,
    rows: pl.DataFrame,
    *,
    slices: Sequence[Slice] = (),
    replaceable: pl.Expr | None = None,
    also: pl.DataFrame | None = None,
    progress: Mapping[str, int] | None = None,
    decided_on: DeltaTable | None = None,
    first: bool = False,
) -> int:
    """Write rows in place of what stands for the same records.

    What goes: rows in `slices` that are `replaceable` (all, if None), rows at the coordinates of `rows`,
    and rows at the coordinates of `also` (columns tile, epoch, partition, offset). Slices that are decided
    for the `first` time are looked for only where an earlier try got so far, as its transactions tell.

    Returns:
        the table's version after it.

    Raises:
        LostRace: the table that the rows were decided on (`decided_on`) has moved, or this one: decide again.
    """
    named = ["tile", *COORDINATES]
    at = rows.select(named) if also is None else pl.concat([rows.select(named), also.select(named)])

    def step() -> int:
        handle = lake.ensure(table)
        known = transactions(handle)
        tried = [s for s in slices if not first or known.get(_tried(s), -1) > s.first_offset]
        outside = at.filter(~(within(slices) & ~within(tried)))
        touched = sorted({s.tile for s in tried} | set(outside["tile"]))
        if not rows.height and not touched and not progress:
            return int(handle.version())
        if decided_on is not None and _moved(lake, decided_on):
            raise LostRace(f"{table.name}: another run decided meanwhile")
        there = lake.scan(handle).filter(pl.col("tile").is_in(touched))
        may = replaceable if replaceable is not None else pl.lit(value=True)
        going = there.filter(within(tried) & may).select(named)
        met = there.join(outside.lazy(), on=COORDINATES, how="semi").select(named)
        gone = pl.concat(pl.collect_all([going, met])).unique() if touched else rows.select(named).clear()
        ids = dict(progress or {})
        if rows.height:
            ids |= _trying(handle, slices)
        if not gone.height and not rows.height and not ids:
            return int(handle.version())
        fences = ["rewrite"]  # a rival may add the same
        return exchange(lake, handle, rows, gone, at=COORDINATES, progress=ids, fences=fences)

    return lake.retrying(table.name, step) if decided_on is None else step()


def _tried(piece: Slice) -> str:
    """Name the transaction that tells up to which offset rows of a tile's partition were written."""
    return f"tried/{piece.tile}/{piece.epoch}/{piece.partition}"


def _trying(handle: DeltaTable, slices: Sequence[Slice]) -> dict[str, int]:
    """Give the transactions that tell of a try, as far as none told of as much before."""
    ends: dict[str, int] = {}
    for piece in slices:
        ends[_tried(piece)] = max(piece.next_offset, ends.get(_tried(piece), 0))
    known = transactions(handle)
    return {name: end for name, end in ends.items() if end > known.get(name, -1)}


def _moved(lake: Lake, handle: DeltaTable) -> bool:
    newest = lake.open(handle.metadata().name or "")
    return newest is not None and newest.version() != handle.version()


def resolve(lake: Lake, table: Table, at: pl.DataFrame, progress: dict[str, int]) -> None:
    """Mark open rows of quarantine as resolved, at coordinates (columns tile, epoch, partition, offset)."""
    tiles = sorted(set(at["tile"]))

    def step() -> None:
        handle = lake.ensure(table)
        if any(transactions(handle).get(i, -1) >= v for i, v in progress.items()):
            return
        there = lake.scan(handle).filter(pl.col("tile").is_in(tiles))
        rows = there.join(at.lazy(), on=COORDINATES, how="semi").collect()
        stamp = pl.lit(datetime.now(UTC)).cast(tables.UTC_TIME)
        resolved = rows.with_columns(pl.col("resolved_at").fill_null(stamp))
        exchange(lake, handle, resolved, rows, at=COORDINATES, progress=progress, fences=["rewrite"])

    if tiles:
        lake.retrying(table.name, step)
