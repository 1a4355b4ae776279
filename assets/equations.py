"""The three equations that hold after every run, counted from the tables themselves.

1. Every account: read = accepted + duplicates + conflicts + quarantined + tombstones + ignored.
2. Every tile and Kafka partition: records in bronze + gaps + holes = the range in `system/tiles`, each
   offset once and inside it.
3. Every tile: records in bronze = rows in silver + losers + open quarantine + tombstones + ignored, each
   record in one place. Tombstones and ignored records leave no row: their number comes from the ledger.

Each function gives what breaks its equation, so an empty frame is the proof. Records are counted some at a
time, so that a tile may have any number of them.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil

import polars as pl
from deltalake import DeltaTable

from assets import aftermath, bounds
from assets.progress import position, reached
from resources.lake import Lake
from sluice import accounts, tables
from sluice.accounts import Layer
from sluice.contract import Stream
from sluice.tables import ACKNOWLEDGED_TABLE, Table

COUNTED_AT_ONCE = 1_000_000  # offsets
_AT = ["tile", "epoch", "partition", "offset"]
_TILE = ["tile", "epoch", "partition"]


def unbalanced(lake: Lake, stream: Stream, layer: Layer) -> pl.DataFrame:
    """Give the accounts of a layer that break the first equation."""
    return accounts.unbalanced(aftermath.told(lake, stream, layer)).collect(engine="streaming")


def holes(lake: Lake, stream: Stream) -> pl.DataFrame:
    """Give where records were gone before they were read, more of them than were acknowledged there.

    Counts are compared: a tile that is replaced has other accounts, and may have lost more.

    Returns:
        `tile, epoch, partition, first_offset, next_offset, holes`: the range in which they were, and how many
        nobody acknowledged.
    """
    lossy = aftermath.told(lake, stream, "bronze", pl.col("holes") > 0).select("tile").unique()
    tiles = lossy.collect(engine="streaming")["tile"]
    here = pl.col("tile").is_in(tiles.implode())
    current = aftermath.current(lake, stream, "bronze", here, ["holes"])
    counted = pl.col("first_offset").min(), pl.col("next_offset").max(), pl.col("holes").sum()
    lost = current.filter(pl.col("holes") > 0).group_by(_TILE).agg(*counted)
    known = lake.read(ACKNOWLEDGED_TABLE).filter((pl.col("stream") == stream.name) & here)
    told = lost.join(known.group_by(_TILE).agg(known=pl.col("holes").sum()), on=_TILE, how="left")
    left = told.with_columns(pl.col("holes") - pl.col("known").fill_null(0)).filter(pl.col("holes") > 0)
    columns = (*_TILE, "first_offset", "next_offset", "holes")
    return left.select(columns).collect(engine="streaming").sort(_TILE)


def bronze_unequal(lake: Lake, stream: Stream, tiles: Sequence[str] | None = None) -> pl.DataFrame:
    """Give the tiles and partitions whose bronze breaks the second equation.

    Returns:
        `tile, epoch, partition, expected, records, gaps, holes, twice, outside`.
    """
    handle = lake.open(tables.bronze(stream).name)
    known = bounds.every_epoch(lake, stream, tiles)
    stops = pl.DataFrame(
        [(b.tile, b.epoch, b.partition, b.first_offset, reached(handle, stream, b)) for b in known],
        schema={**{c: tables.TILES[c] for c in _TILE}, "first": pl.Int64, "stop": pl.Int64},
        orient="row",
    )
    mine = pl.lit(value=True) if tiles is None else pl.col("tile").is_in(list(tiles))
    rows = _scan(lake, handle, tables.bronze(stream))
    version = -1 if handle is None else int(handle.version())  # others may commit as this is counted
    seen = mine & (pl.col("table_version") <= version)
    told = aftermath.current(lake, stream, "bronze", seen, ["gaps", "holes"])
    inside = pl.col("offset").is_between(pl.col("first"), pl.col("stop"), closed="left")

    def counts(part: pl.Expr) -> pl.DataFrame:
        told = rows.filter(part).select(_AT).join(stops.lazy(), on=_TILE, how="left").group_by(_TILE)
        return told.agg(
            records=pl.len().cast(pl.Int64),
            twice=(pl.len() - pl.col("offset").n_unique()).cast(pl.Int64),
            outside=(~inside).fill_null(value=True).sum().cast(pl.Int64),
        ).collect()

    parts = [counts(part) for part in _parts(stops)]
    if tiles is None:
        parts.append(counts(~pl.col("tile").is_in(stops["tile"].unique().implode())))
    counted = pl.concat(parts).group_by(_TILE).sum() if parts else counts(pl.lit(value=False))
    missing = told.group_by(_TILE).agg(pl.col("gaps", "holes").sum()).collect(engine="streaming")
    joined = (
        stops.join(counted, on=_TILE, how="full", coalesce=True)
        .join(missing, on=_TILE, how="left")
        .with_columns(pl.col("records", "gaps", "holes", "twice", "outside").fill_null(0))
        .with_columns(expected=(pl.col("stop") - pl.col("first")).fill_null(0))
    )
    adds_up = pl.col("records") + pl.col("gaps") + pl.col("holes") == pl.col("expected")
    broken = joined.filter(~adds_up | (pl.col("twice") > 0) | (pl.col("outside") > 0))
    return broken.drop("first", "stop").sort(_TILE)


def silver_unequal(lake: Lake, stream: Stream, tiles: Sequence[str] | None = None) -> pl.DataFrame:
    """Give the tiles that break the third equation, as far as silver has decided them.

    Returns:
        `tile, records, rows, losers, quarantined, rest, twice, strangers`: `rest` is tombstones and
        ignored; `twice` counts records in two places; `strangers` those that bronze does not have there.
    """
    silver = lake.open(tables.silver(stream).name)
    known = bounds.every_epoch(lake, stream, tiles)
    stops = pl.DataFrame(
        [
            (b.tile, b.epoch, b.partition, b.first_offset, position(silver, stream, b), b.next_offset)
            for b in known
        ],
        schema={**{c: tables.TILES[c] for c in _TILE}, "first": pl.Int64, "stop": pl.Int64, "end": pl.Int64},
        orient="row",
    )
    losers, refused = (lake.open(table(stream).name) for table in (tables.losers, tables.quarantine))
    records = _scan(lake, lake.open(tables.bronze(stream).name), tables.bronze(stream))
    beaten = _scan(lake, losers, tables.losers(stream))
    is_open = pl.col("resolved_at").is_null()
    places = {
        "rows": _scan(lake, silver, tables.silver(stream)).select(pl.col(f"_{c}").alias(c) for c in _AT),
        "losers": beaten,
        "quarantined": _scan(lake, refused, tables.quarantine(stream)).filter(is_open),
    }
    offset = pl.col("offset")  # a batch's side tables are written before it counts
    undecided = (offset >= pl.col("stop")) & (offset < pl.col("end")).fill_null(value=True)

    def counts(part: pl.Expr) -> pl.DataFrame:
        decided = records.filter(part).select(_AT).join(stops.lazy(), on=_TILE)
        placed = (
            pl.concat(
                rows.select(_AT).filter(part).with_columns(place=pl.lit(name))
                for name, rows in places.items()
            )
            .join(stops.lazy(), on=_TILE, how="left")
            .filter(~undecided.fill_null(value=False))
        )
        bronze, found = pl.collect_all([decided.filter(offset < pl.col("stop")).select(_AT), placed])
        moving = _on_the_way(lake, stream, silver, found, places["rows"], beaten)
        found = found.join(moving, on=[*_AT, "place"], how="anti")
        own = found.group_by("tile").agg(
            *((pl.col("place") == name).sum().cast(pl.Int64).alias(name) for name in places),
            twice=(pl.len() - pl.struct(_AT[1:]).n_unique()).cast(pl.Int64),
        )
        strange = found.join(bronze, on=_AT, how="anti").group_by("tile")
        return (
            bronze.group_by("tile")
            .agg(records=pl.len().cast(pl.Int64))
            .join(own, on="tile", how="full", coalesce=True)
            .join(strange.agg(strangers=pl.len().cast(pl.Int64)), on="tile", how="left")
            .fill_null(0)
        )

    parts = [counts(part) for part in _parts(stops)] or [counts(pl.lit(value=False))]
    of_tile = pl.concat(parts).group_by("tile").sum()
    here = pl.col("tile").is_in(of_tile["tile"].implode())
    told = aftermath.current(lake, stream, "silver", here, ["tombstones", "ignored"])
    joined = of_tile.join(_rest(told), on="tile", how="left").fill_null(0)
    adds_up = pl.col("records") == pl.sum_horizontal("rows", "losers", "quarantined", "rest")
    broken = joined.filter(~adds_up | (pl.col("twice") > 0) | (pl.col("strangers") > 0))
    columns = ("tile", "records", "rows", "losers", "quarantined", "rest", "twice", "strangers")
    return broken.select(columns).sort("tile")


def _scan(lake: Lake, handle: DeltaTable | None, table: Table) -> pl.LazyFrame:
    """Read one version of a table, in parts: others may commit as this is counted."""
    return pl.LazyFrame(schema=table.columns) if handle is None else lake.scan(handle)


def _parts(ranges: pl.DataFrame) -> Iterator[pl.Expr]:
    """Cut the records of tiles into parts that can be counted in memory; conditions on `_AT`.

    Args:
        ranges: `tile, epoch, partition, first, stop`: what tiles own.
    """
    size = (pl.col("stop") - pl.col("first")).clip(0).sum()
    group, together = list[str](), 0
    for tile, offsets in ranges.group_by("tile", maintain_order=True).agg(size).iter_rows():
        if offsets > COUNTED_AT_ONCE:
            yield from _cut(ranges.filter(tile=tile), ceil(offsets / COUNTED_AT_ONCE))
            continue
        if together + offsets > COUNTED_AT_ONCE:
            yield pl.col("tile").is_in(group)
            group, together = [], 0
        group.append(tile)
        together += offsets
    if group:
        yield pl.col("tile").is_in(group)


def _cut(ranges: pl.DataFrame, count: int) -> Iterator[pl.Expr]:
    """Cut a tile by the offsets of each partition; what lies outside of its ranges is in the ends."""
    offset = pl.col("offset")
    own = [
        ((pl.col("epoch") == epoch) & (pl.col("partition") == partition), first, stop)
        for epoch, partition, first, stop in ranges.select(*_TILE[1:], "first", "stop").iter_rows()
    ]
    for number, (begin, end) in enumerate(pairwise(range(count + 1))):
        terms = [] if number else [~pl.any_horizontal(place for place, _, _ in own)]
        for place, first, stop in own:
            after = offset >= first + (stop - first) * begin // count if number else pl.lit(value=True)
            before = offset < first + (stop - first) * end // count if end < count else pl.lit(value=True)
            terms.append(place & after & before)
        yield (pl.col("tile") == ranges["tile"][0]) & pl.any_horizontal(terms)


def _on_the_way(
    lake: Lake,
    stream: Stream,
    silver: DeltaTable | None,
    found: pl.DataFrame,
    rows: pl.LazyFrame,
    beaten: pl.LazyFrame,
) -> pl.DataFrame:
    """Give the losers that silver holds, too, and whose winner is on its way (columns `_AT`, place).

    They are written before the commit of silver that unseats them, which decides their winner; and where a
    commit seated them, it announces that they are to be taken out. A loser whose winner was decided, and
    that nobody announced, is on no way: a run that died left it.
    """
    coordinates = _AT[1:]
    twice = found.filter(pl.struct(coordinates).is_duplicated() & (pl.col("place") == "losers"))
    if not twice.height or silver is None:
        return twice.select(*_AT, "place")
    winner = [f"winner_{name}" for name in coordinates]
    told = beaten.join(twice.lazy(), on=_AT, how="semi").select(*_AT, *winner).collect()
    winners = told.select(pl.col(w).alias(c) for w, c in zip(winner, coordinates, strict=True)).unique()
    gone = rows.join(winners.lazy(), on=coordinates, how="semi").select(coordinates).collect()
    if not aftermath.announced(lake, stream, "silver", silver):
        gone = pl.concat([gone, _decided(lake, stream, silver, winners)])
    unseated = told.join(gone, left_on=winner, right_on=coordinates, how="anti")
    return twice.join(unseated, on=_AT, how="semi").select(*_AT, "place")


def _decided(lake: Lake, stream: Stream, silver: DeltaTable, at: pl.DataFrame) -> pl.DataFrame:
    """Give those of some records (columns epoch, partition, offset) that silver has decided."""
    known = bounds.every_epoch(lake, stream)
    ends = pl.DataFrame(
        [(b.epoch, b.partition, b.first_offset, position(silver, stream, b)) for b in known],
        schema={**{c: tables.TILES[c] for c in _TILE[1:]}, "first": pl.Int64, "stop": pl.Int64},
        orient="row",
    )
    inside = pl.col("offset").is_between(pl.col("first"), pl.col("stop"), closed="left")
    return at.join(ends, on=_TILE[1:]).filter(inside).select(at.columns)


def _rest(told: pl.LazyFrame) -> pl.DataFrame:
    """Count the records that leave no row, by tile."""
    rest = (pl.col("tombstones") + pl.col("ignored")).sum()
    return told.group_by("tile").agg(rest=rest).collect(engine="streaming")


def over_quarantined(lake: Lake, stream: Stream) -> pl.DataFrame:
    """Give the tiles with a greater share in open quarantine than the contract allows.

    Returns:
        `tile, records, quarantined, share`.
    """
    rows = lake.read(tables.quarantine(stream)).filter(pl.col("resolved_at").is_null())
    refused = rows.group_by("tile").agg(quarantined=pl.len().cast(pl.Int64)).collect(engine="streaming")
    here = pl.col("tile").is_in(refused["tile"].implode())
    told = aftermath.current(lake, stream, "silver", here, ["read"]).filter(pl.col("kind") == "batch")
    read = told.group_by("tile").agg(records=pl.col("read").sum()).collect(engine="streaming")
    return (
        refused.join(read, on="tile")
        .with_columns(share=pl.col("quarantined") / pl.col("records"))
        .filter(pl.col("share") > stream.max_quarantined)
        .select("tile", "records", "quarantined", "share")
        .sort("tile")
    )
