"""The lake's side of a reconciliation: a stream's rows as of a position of its source.

What stands is the dimension (of events: silver). Changes that the source's position does not have yet are
left out: the keys that they touch are folded from the other changes in silver, and stand in for their rows.
"""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from assets.merge import merge
from resources.lake import Lake
from resources.table_sides import Side, delta_side
from sluice import tables
from sluice.contract import Changes, Stream
from sluice.envelopes.origins import FIRST, LAST
from sluice.history.closers import closers
from sluice.history.scd2 import fold
from sluice.tables import ROW_COORDINATES

_MARK = pl.col("_source").struct.field("snapshot")
_ENDS = (pl.col("_op") == "t") | (
    (pl.col("_op") == "r") & _MARK.is_in([*FIRST, *LAST]).fill_null(value=False)
)


def image(
    lake: Lake,
    stream: Stream,
    names: list[str],
    folder: Path,
    later: Callable[[], pl.DataFrame] | None = None,
) -> tuple[Side, int]:
    """Give the lake's side, and the version of the table that it is of.

    Args:
        lake: where the tables are.
        stream: the contract.
        names: columns of the contract, the keys among them.
        folder: for what must be copied to be read.
        later: gives the changes that do not count yet (columns ROW_COORDINATES), of all that bronze has
            when it is called: after the tables were opened, so nothing in them escapes it.
    """
    own = {name: name for name in names}
    if not isinstance(stream, Changes):
        silver = lake.ensure(tables.silver(stream))
        return delta_side(lake, silver, own, folder), int(silver.version())
    merge(lake, stream, say=lambda _: None)
    handle = lake.ensure(tables.dimension(stream))
    where, needs = ("is_current", ["is_current"]) if stream.history else ("true", [])
    side = delta_side(lake, handle, own, folder, where=where, needs=needs)
    if later is None:
        return side, int(handle.version())
    silver = lake.ensure(tables.silver(stream))
    hidden = later()
    if not hidden.height:
        return side, int(handle.version())
    keys, rows = _as_of(lake.scan(silver), stream, hidden)
    if keys is None:
        none = rows.select(stream.keys).clear()
        return Side([], own, instead=(none, rows.select(names))), int(handle.version())
    if keys.is_empty():  # what is later was refused or ignored
        return side, int(handle.version())
    return Side(side.files, own, where, (keys, rows.select(names))), int(handle.version())


def _as_of(
    silver: pl.LazyFrame, stream: Changes, later: pl.DataFrame
) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """Give the keys that later changes touch (None: they reach all keys), and their rows without those."""
    keys = list(stream.keys)
    counts = silver.join(later.lazy(), on=ROW_COORDINATES, how="anti")
    touching = silver.join(later.lazy(), on=ROW_COORDINATES, how="semi")
    renamed = pl.col("_previous_key").is_not_null()
    across = stream.snapshot is not None or bool(  # a value may stand under its old key, of any bucket
        touching.select(_ENDS.any()).collect().item() or silver.select(renamed.any()).collect().item()
    )
    touched = None
    if across:
        rows = fold(counts.collect(), stream)
    else:
        touched = touching.select(keys).unique().collect()
        ends = closers(counts.filter(_ENDS).collect(), stream)
        rows = fold(counts.join(touched.lazy(), on=keys, how="semi").collect(), stream, ends)
    return touched, rows.filter("is_current") if stream.history else rows


def beyond(lake: Lake, stream: Changes, source: Side, value: str) -> pl.DataFrame:
    """Give the keys of which source or lake tell a change whose first `sequence` is beyond a value.

    What the source said of them before is not known any more, so nothing can be held against it.
    """
    name, keys = stream.sequences[0], list(stream.keys)
    dtype = stream.column(name).storage
    limit = (
        pl.lit(value).str.to_datetime(time_zone="UTC") if dtype.is_temporal() else pl.lit(value).cast(dtype)
    )
    stored = {k: stream.column(k).storage for k in keys}
    silver = lake.scan(lake.ensure(tables.silver(stream))).filter(pl.col(name) > limit).select(keys)
    parts = [silver]
    if source.files:
        there = pl.scan_parquet(list(source.files)).filter(pl.col(source.names[name]) > limit)
        parts.append(there.select(pl.col(source.names[k]).cast(stored[k]).alias(k) for k in keys))
    return pl.concat(parts).drop_nulls().unique().collect()
