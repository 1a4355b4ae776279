"""Equations 2 and 3 for large lakes: what was proven once of files that never change is not counted again.

A tile's claim names all that its equation is counted from: its bounds, its progress, its accounts, and the
data files that may hold its records, which Delta never changes. A claim that stands in `system/proven` was
counted and found right; any other tile is counted from the tables. So a check costs a look at the logs of
the tables, and the counting of what changed. A claim is kept only when it is the same before and after it was
counted, and only of a complete tile: an open one changes again.
It refuses to speak of what the store did to a file: damage shows when the file is read.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import polars as pl
from deltalake import DeltaTable

from assets import aftermath, bounds, equations
from assets.progress import position
from resources.lake import Lake
from sluice import tables
from sluice.accounts import Layer
from sluice.contract import Stream
from sluice.tables import PROVEN, PROVEN_TABLE

_TIMES = 5  # that tiles are counted which others change meanwhile
_COUNTS: dict[Layer, Callable[[Lake, Stream, Sequence[str]], pl.DataFrame]] = {
    "bronze": equations.bronze_unequal,
    "silver": equations.silver_unequal,
}
_SUMMED = ["gaps", "holes", "tombstones", "ignored"]


def unequal(lake: Lake, stream: Stream, layer: Layer, wanted: Sequence[str] | None = None) -> pl.DataFrame:
    """Give the tiles, of those wanted or of all, that break the equation of a layer.

    Returns:
        as `equations.bronze_unequal` or `equations.silver_unequal`.
    """
    claims = _claims(lake, stream, layer, wanted)
    mine = (pl.col("stream") == stream.name) & (pl.col("layer") == layer)
    known = lake.read(PROVEN_TABLE).filter(mine).select("tile", "claim").collect()
    doubted = claims.join(known, on=["tile", "claim"], how="anti").sort("tile")
    broken = _counted(lake, stream, layer, doubted)
    right = doubted.filter("complete").join(broken, on="tile", how="anti")
    if right.height:
        still = _claims(lake, stream, layer, right["tile"].to_list())
        _keep(lake, stream, layer, right.join(still, on=["tile", "claim"], how="semi"))
    return broken


def _counted(lake: Lake, stream: Stream, layer: Layer, doubted: pl.DataFrame) -> pl.DataFrame:
    """Count tiles; those that break their equation again, where the tables moved while it was counted."""
    for _ in range(_TIMES):
        before = _versions(lake, stream, layer)
        broken = _COUNTS[layer](lake, stream, doubted["tile"].to_list())
        if not broken.height or before == _versions(lake, stream, layer):
            break
        doubted = doubted.join(broken, on="tile", how="semi")
    return broken


def _versions(lake: Lake, stream: Stream, layer: Layer) -> list[int | None]:
    """Give the versions of the tables that an equation is counted from."""
    named = [tables.bronze(stream)]
    if layer == "silver":
        named += [tables.silver(stream), tables.losers(stream), tables.quarantine(stream)]
    handles = [lake.open(table.name) for table in named]
    return [None if handle is None else int(handle.version()) for handle in handles]


def _claims(lake: Lake, stream: Stream, layer: Layer, wanted: Sequence[str] | None) -> pl.DataFrame:
    """Name what the equation of each tile wanted is counted from (columns tile, claim, complete)."""
    mine = pl.lit(value=True) if wanted is None else pl.col("tile").is_in(list(wanted))
    handle = lake.open(f"{layer}/{stream.name}")
    known = bounds.every_epoch(lake, stream, wanted)
    places = [(b, position(handle, stream, b)) for b in known]
    owned = pl.DataFrame(
        [
            (b.tile, f"{b.epoch} {b.partition} {b.first_offset} {b.next_offset} {at}", at == b.next_offset)
            for b, at in places
        ],
        schema={"tile": pl.String, "fact": pl.String, "complete": pl.Boolean},
        orient="row",
    )
    stored = owned.select("tile")
    told = aftermath.current(lake, stream, layer, mine, _SUMMED)
    ends = pl.len(), pl.col("next_offset", "generation").max(), pl.col(_SUMMED).sum()
    summed = told.group_by("tile", "epoch", "partition").agg(*ends).collect(engine="streaming").rechunk()
    names = summed.columns[1:]
    facts = [owned.select("tile", "fact"), summed.select("tile", fact=pl.format("{} " * len(names), *names))]
    by_tile = ("partition.tile", "partition.tile")
    facts.append(_holding(_files(lake.open(tables.bronze(stream).name), *by_tile), stored))
    if layer == "silver":
        facts.append(_holding(_files(handle, "min._tile", "max._tile"), stored))
        sides = [lake.open(table.name) for table in (tables.losers(stream), tables.quarantine(stream))]
        facts += [_holding(_files(side, *by_tile), stored) for side in sides]
    return (
        pl.concat(facts)
        .filter(mine)
        .group_by("tile")
        .agg(fact=pl.col("fact").sort().str.join("\n"))
        .with_columns(claim=pl.col("fact").map_elements(_digest, pl.String))
        .join(owned.group_by("tile").agg(pl.col("complete").all()), on="tile", how="left")
        .select("tile", "claim", pl.col("complete").fill_null(value=False))
    )


def _files(handle: DeltaTable | None, first: str, last: str) -> pl.DataFrame:
    """List a table's files: path, and the first and last tile that they may hold records of."""
    schema = {"path": pl.String, "first": pl.String, "last": pl.String}
    files = pl.DataFrame() if handle is None else pl.DataFrame(handle.get_add_actions(flatten=True))
    if not files.height:
        return pl.DataFrame(schema=schema)
    return files.select(
        "path",
        first=pl.col(first) if first in files.columns else pl.lit(None, pl.String),  # no statistics
        last=pl.col(last) if last in files.columns else pl.lit(None, pl.String),
    )


def _holding(files: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Pair files with the tiles that they may hold records of (columns tile, fact): all, if nothing tells."""
    one = files.filter(pl.col("first") == pl.col("last")).select(tile="first", fact="path")
    more = files.filter((pl.col("first") == pl.col("last")).fill_null(value=False).not_())
    wide = more.with_columns(pl.col("first").fill_null(""), pl.col("last").fill_null("~"))
    tiles = stored.select(pl.col("tile").unique())
    pairs = tiles.join_where(wide, pl.col("tile") >= pl.col("first"), pl.col("tile") <= pl.col("last"))
    return pl.concat([one, pairs.select("tile", fact="path")])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _keep(lake: Lake, stream: Stream, layer: Layer, right: pl.DataFrame) -> None:
    rows = right.select(
        "tile",
        "claim",
        stream=pl.lit(stream.name),
        layer=pl.lit(layer),
        proven_at=pl.lit(datetime.now(UTC)).cast(PROVEN["proven_at"]),
    ).select(list(PROVEN))
    if rows.height:
        lake.retrying(PROVEN_TABLE.name, lambda: lake.commit(lake.ensure(PROVEN_TABLE), rows))
