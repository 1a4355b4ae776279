"""Silver's one read-modify-write: which of a batch's rows stand for their facts, and what that changes.

New rows meet all rows of their keys, winners in silver and losers beside it, and the rule of
`sluice.dedupe` decides among them; so the outcome is that of one pass over everything, whatever the order
of tiles. Side tables are written first, silver's commit decides, and it carries the batch's accounts, its
progress and a fence for each date or bucket that was looked up: of two runs that meet, one reads again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl
from deltalake import DeltaTable

from assets import side_tables
from assets.aftermath import PROMOTED, RESOLVED, announce
from assets.meet import NOTHING, GivenUp, keys_of_silver, meet
from assets.whole_rows import AT, Contents, Rows, has_another_winner
from resources.exchange import exchange
from resources.key_index import hashed
from resources.lake import Lake
from resources.new_files import NewFile
from sluice import accounts, dedupe, tables
from sluice.accounts import ACCOUNTS, Account, Slice
from sluice.contract import Stream
from sluice.dedupe import WINNER, Identity
from sluice.tables import ROW_COORDINATES

Accounting = Callable[[pl.DataFrame, pl.DataFrame], list[Account]]  # of the rows that stand, and the rest


@dataclass(frozen=True)
class Batch:
    """What one commit of silver is to decide.

    Attributes:
        rows: the batch's valid rows, in silver's columns.
        refused: its rows of quarantine.
        slices: the ranges of records that it decides.
        progress: the new version of each progress id.
        fences: names that conflict with whoever decides the same tiles.
        anew: if the slices were decided before: all that was decided of their tile, of which they are a part.
        resolves: the records of quarantine that it takes (columns AT), if it is a replay.
        accounting: tells the accounts of the batch from its rows that stand (silver's columns), and from
            those that do not (columns AT, `verdict`).
        contents: reads a record's row again from bronze.
    """

    rows: pl.DataFrame
    refused: pl.DataFrame
    slices: Sequence[Slice]
    progress: Mapping[str, int]
    fences: Sequence[str]
    accounting: Accounting
    contents: Contents
    anew: Sequence[Slice] = ()
    resolves: pl.DataFrame | None = None


@dataclass
class Settled:
    """What a batch changed in silver."""

    version: int
    accounts: list[Account]
    touched: set[date] = field(default_factory=set)
    announced: bool = False  # something that other tables still have to do


def settle(lake: Lake, stream: Stream, handle: DeltaTable, batch: Batch) -> Settled:
    """Decide a batch against the silver that `handle` holds, and commit it.

    Raises:
        LostRace: another commit touched the same dates, buckets or tiles: decide again on a fresh handle.
    """
    same = dedupe.identity(stream)
    old = _old(lake, handle, same, batch)
    given_up = GivenUp(_again(batch), side_tables.within(batch.slices, "_"))
    rows = Rows(batch.contents, batch.rows.clear())
    met = meet(lake, stream, handle, same, batch.rows, rows, given_up if batch.anew else NOTHING)
    decided = rows.decided(same, met.rows)
    promoted = decided.filter(pl.col("_kept") & (pl.col("_from") == "loser")).select(AT)
    unseated = decided.filter(~pl.col("_kept") & (pl.col("_from") == "silver"))
    gone = pl.concat([old, dedupe.placed(unseated, stream).select(old.columns)])

    losing = _verdicts(stream, decided, rows)
    _put_side_tables(lake, stream, handle, batch, losing)

    lost = _lost(decided, losing)
    stands = _without(batch.rows.with_row_index("_place"), lost["_place"])
    stored = decided.filter(pl.col("_kept") & (pl.col("_from") == "silver"))["_place"].drop_nulls()
    entering = _without(stands, stored).drop("_place")
    back = rows.at(promoted)
    told = batch.accounting(stands, lost)
    touched = set(pl.concat([frame[same.stored_by].unique() for frame in (entering, back, gone)]))
    dates = {value for value in touched if isinstance(value, date)}
    metadata = {ACCOUNTS: accounts.dumps([told[0].touching(dates), *told[1:]] if told else [])}
    if promoted.height:
        metadata[PROMOTED] = announce(_plain(promoted))
    if batch.resolves is not None:
        metadata[RESOLVED] = announce(_plain(batch.resolves))
    fences = [*batch.fences, *map(same.fence, met.partitions | touched)]
    added = pl.concat([entering, back]) if back.height else entering
    version = store(
        lake, stream, handle, added, gone, progress=batch.progress, fences=fences, metadata=metadata
    )
    return Settled(version, told, dates, PROMOTED in metadata or RESOLVED in metadata)


def store(
    lake: Lake, stream: Stream, handle: DeltaTable, come: pl.DataFrame, go: pl.DataFrame, **told: Any
) -> int:
    """Exchange rows of silver (silver's columns), and let the index know what the new files hold."""
    same = dedupe.identity(stream)
    keys: list[tuple[object, str, pl.Series]] = []

    def wrote(new: NewFile) -> None:
        keys.append((new.values[same.stored_by], new.action.path, hashed(new.rows, same.fact)))

    version = exchange(lake, handle, come, go, at=AT, wrote=wrote, **told)
    keys_of_silver(lake, stream, same).remember(keys)
    return version


def _without(rows: pl.DataFrame, places: pl.Series) -> pl.DataFrame:
    """Give the rows without those at some of the batch's places."""
    return rows.filter(~pl.col("_place").is_in(places.implode())) if places.len() else rows


def _plain(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col(c).alias(c[1:]) for c in AT)


def _put_side_tables(
    lake: Lake, stream: Stream, handle: DeltaTable, batch: Batch, losing: pl.DataFrame
) -> None:
    is_open = pl.col("resolved_at").is_null()
    side_tables.put(
        lake,
        tables.quarantine(stream),
        batch.refused,
        replaceable=is_open,
        slices=batch.slices,
        decided_on=handle,
        first=not batch.anew,
    )
    again = _plain(batch.rows)  # whatever an earlier try said of these records
    side_tables.put(
        lake,
        tables.losers(stream),
        losing,
        also=again,
        slices=batch.slices,
        decided_on=handle,
        first=not batch.anew,
    )


def _lost(decided: pl.DataFrame, losing: pl.DataFrame) -> pl.DataFrame:
    """Give the batch's own rows that do not stand, with their verdict (null: it has none, which breaks)."""
    verdicts = losing.select(*(pl.col(c[1:]).alias(c) for c in ROW_COORDINATES), "verdict")
    own = decided.filter(~pl.col("_kept") & pl.col("_place").is_not_null())
    return own.select(*AT, "_place").join(verdicts, on=ROW_COORDINATES, how="left")


def _old(lake: Lake, handle: DeltaTable, same: Identity, batch: Batch) -> pl.DataFrame:
    """Give what silver holds of the slices already: all of it goes, and comes back if it is right."""
    if not batch.anew:
        return batch.rows.clear().select(*AT, same.stored_by)
    return lake.scan(handle).select(*AT, same.stored_by).filter(_again(batch)).collect()


def _again(batch: Batch) -> pl.Expr:
    """Tell the rows of silver that are decided anew: of the slices' records, and strangers in their tile."""
    tiles, epochs = {s.tile for s in batch.anew}, {s.epoch for s in batch.anew}
    in_tile = pl.col("_tile").is_in(list(tiles)) & pl.col("_epoch").is_in(list(epochs))
    strangers = in_tile & ~side_tables.within(batch.anew, "_")
    return side_tables.within(batch.slices, "_") | strangers


def _verdicts(stream: Stream, decided: pl.DataFrame, rows: Rows) -> pl.DataFrame:
    """Give the losers that are new or have another winner now, as rows of their table.

    A loser is a duplicate if its content equals the winner's, else a conflict.
    """
    table = tables.losers(stream)
    lost = decided.filter(has_another_winner())
    if not lost.height:
        return pl.DataFrame(schema=table.columns)
    contents = dedupe.identity(stream).contents
    losing = rows.at(lost.select(AT)).join(lost.select(*ROW_COORDINATES, *WINNER), on=ROW_COORDINATES)
    won = decided.join(lost, left_on=ROW_COORDINATES, right_on=WINNER, how="semi")
    winning = rows.at(won.select(AT)).select(
        *(pl.col(c).alias(w) for c, w in zip(ROW_COORDINATES, WINNER, strict=True)),
        *(pl.col(c).alias(c + "_of_winner") for c in contents),
    )
    verdict = pl.when(dedupe.equal_content(contents, "_of_winner"))
    return (
        losing.join(winning, on=WINNER, how="left")
        .with_columns(
            verdict=verdict.then(pl.lit("duplicate")).otherwise(pl.lit("conflict")),
            topic=pl.col("_topic"),
            **{c[1:]: pl.col(c) for c in (*AT, *WINNER)},
        )
        .select(pl.col(name).cast(dtype) for name, dtype in table.columns.items())
    )
