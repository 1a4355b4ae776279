"""Silver's one read-modify-write: which of a batch's rows stand for their facts, and what that changes.

New rows meet all rows of their keys, winners in silver and losers beside it, and the rule of
`sluice.dedupe` decides among them; so the outcome is that of one pass over everything, whatever the order
of tiles. Side tables are written first, silver's commit decides, and it carries the batch's accounts, its
progress and a fence for each date or bucket that was looked up: of two runs that meet, one reads again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl
from deltalake import DeltaTable

from assets import side_tables
from assets.aftermath import PROMOTED, RESOLVED, announce
from resources.lake import Lake
from sluice import accounts, dedupe, tables
from sluice.accounts import ACCOUNTS, Account, Slice
from sluice.contract import Stream
from sluice.dedupe import WINNER, Identity
from sluice.tables import ROW_COORDINATES

AT = ["_tile", *ROW_COORDINATES]
Contents = Callable[[pl.DataFrame], pl.DataFrame]  # rows of silver for coordinates (columns AT), from bronze
Accounting = Callable[[pl.DataFrame], list[Account]]  # accounts for the decided rows of the batch


@dataclass(frozen=True)
class Batch:
    """What one commit of silver is to decide.

    Attributes:
        rows: the batch's valid rows, in silver's columns.
        refused: its rows of quarantine.
        slices: the ranges of records that it decides.
        progress: the new version of each progress id.
        fences: names that conflict with whoever decides the same tiles.
        rebuild: whether the slices were decided before and are decided anew.
        resolves: the records of quarantine that it takes (columns AT), if it is a replay.
        accounting: tells the accounts of the batch from its decided rows (`_kept`, `verdict`).
        contents: reads a record's row again from bronze.
    """

    rows: pl.DataFrame
    refused: pl.DataFrame
    slices: Sequence[Slice]
    progress: Mapping[str, int]
    fences: Sequence[str]
    accounting: Accounting
    contents: Contents
    rebuild: bool = False
    resolves: pl.DataFrame | None = None


@dataclass
class Settled:
    """What a batch changed in silver."""

    version: int
    accounts: list[Account]
    touched: set[date] = field(default_factory=set)


def settle(lake: Lake, stream: Stream, handle: DeltaTable, batch: Batch) -> Settled:
    """Decide a batch against the silver that `handle` holds, and commit it.

    Raises:
        LostRace: another commit touched the same dates, buckets or tiles: decide again on a fresh handle.
    """
    same = dedupe.identity(stream)
    old = _old(lake, handle, same, batch)
    met, partitions = _meet(lake, stream, handle, same, batch)
    rows = _Rows(lake, stream, handle, batch)
    decided = same.decide(met)
    while (lacking := rows.lacking(decided)).height:  # losers of tiles that other rules decided
        met = met.join(lacking, on=ROW_COORDINATES, how="anti")
        decided = same.decide(met)
    stands = decided.filter("_kept")
    unseated = decided.filter(~pl.col("_kept") & (pl.col("_from") == "silver"))
    gone = pl.concat([old, dedupe.placed(unseated, stream).select(old.columns)])
    promoted = stands.filter(pl.col("_from") == "loser").select(AT)

    losing = _verdicts(stream, decided, rows)
    _put_side_tables(lake, stream, handle, batch, losing)

    entering = stands.filter(pl.col("_from") == "batch")
    added = pl.concat(
        [batch.rows.join(entering, on=ROW_COORDINATES, how="semi").select(rows.columns), rows.at(promoted)]
    )
    told = batch.accounting(_with_verdicts(decided, batch, losing))
    touched = set(pl.concat([added, gone], how="diagonal")[same.stored_by])
    dates = {value for value in touched if isinstance(value, date)}
    metadata = {ACCOUNTS: accounts.dumps([told[0].touching(dates), *told[1:]] if told else [])}
    if promoted.height:
        metadata[PROMOTED] = announce(_plain(promoted))
    if batch.resolves is not None:
        metadata[RESOLVED] = announce(_plain(batch.resolves))
    fences = [*batch.fences, *map(same.fence, partitions | touched)]
    version = _commit(lake, handle, same, added, gone, batch.progress, fences, metadata)
    return Settled(version, told, dates)


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
    )
    again = _plain(batch.rows)  # whatever an earlier try said of these records
    side_tables.put(lake, tables.losers(stream), losing, also=again, slices=batch.slices, decided_on=handle)


def _with_verdicts(decided: pl.DataFrame, batch: Batch, losing: pl.DataFrame) -> pl.DataFrame:
    """Give the batch's own rows as they were decided, the losers among them with their verdict."""
    verdicts = losing.select(*(pl.col(c[1:]).alias(c) for c in ROW_COORDINATES), "verdict")
    own = decided.join(batch.rows, on=ROW_COORDINATES, how="semi")
    return own.join(verdicts, on=ROW_COORDINATES, how="left")


def _old(lake: Lake, handle: DeltaTable, same: Identity, batch: Batch) -> pl.DataFrame:
    """Give what silver holds of the slices already: all of it goes, and comes back if it is right."""
    return lake.scan(handle).select(*AT, same.stored_by).filter(_again(batch)).collect()


def _again(batch: Batch) -> pl.Expr:
    """Tell the rows of silver that a rebuild decides anew: its records', and strangers in its tiles."""
    if not batch.rebuild:
        return pl.lit(value=False)
    tiles, epochs = {s.tile for s in batch.slices}, {s.epoch for s in batch.slices}
    in_tile = pl.col("_tile").is_in(list(tiles)) & pl.col("_epoch").is_in(list(epochs))
    return side_tables.within(batch.slices, "_") | in_tile


def _meet(
    lake: Lake, stream: Stream, handle: DeltaTable, same: Identity, batch: Batch
) -> tuple[pl.DataFrame, set[object]]:
    """Bring together all rows that could be the same fact as one of the batch, or of what it gives up.

    Returns:
        the rows (key, when, AT, `_from`: silver, batch or loser, `_beaten_by`), and the dates or buckets
        that were looked at.
    """
    columns = list(dict.fromkeys([*same.keys, same.when, *AT]))
    mine = batch.rows.select(columns)
    stored = lake.scan(handle).select(*columns, *({same.stored_by} - set(columns)))
    beaten = _losers(lake, stream).select(*columns, "_beaten_by")
    inside = side_tables.within(batch.slices, "_") if batch.rebuild else pl.lit(value=False)
    keys = mine
    if batch.rebuild:
        given_up = stored.filter(_again(batch)).select(columns).collect()
        keys = pl.concat([mine, given_up, beaten.filter(inside).select(columns).collect()])
    affected = keys.select(same.keys).unique().lazy()
    partitions: set[object] = set()
    looked = keys
    found = mine.clear()  # a batch without a valid row has nothing to look up
    unfit = found.with_columns(pl.lit(None, pl.String).alias("_beaten_by"))
    while more := same.partitions(looked) - partitions:  # rows found may lie near dates not looked at yet
        partitions |= more
        winners = stored.filter(pl.col(same.stored_by).is_in(list(partitions)) & ~_again(batch))
        losing = beaten.filter(same.stored_in(partitions) & ~inside)
        found, unfit = pl.collect_all(
            rows.join(affected, on=same.keys, how="semi", nulls_equal=True) for rows in (winners, losing)
        )
        looked = pl.concat([keys, found.select(columns), unfit.select(columns)])
    known = [
        found.select(*columns, _from=pl.lit("silver"), _beaten_by=pl.lit(None, pl.String)),
        mine.with_columns(_from=pl.lit("batch"), _beaten_by=pl.lit(None, pl.String)),
        unfit.select(*columns, _from=pl.lit("loser"), _beaten_by="_beaten_by"),
    ]
    # equal coordinates are the same record, never a duplicate
    return pl.concat(known).unique(ROW_COORDINATES, keep="first", maintain_order=True), partitions


def _losers(lake: Lake, stream: Stream) -> pl.LazyFrame:
    """Read the table of losers with silver's names, and the winner's coordinates as text."""
    winner = pl.concat_str(*(w[1:] for w in WINNER), separator="/")
    return lake.read(tables.losers(stream)).with_columns(
        *(pl.col(c[1:]).alias(c) for c in AT), _beaten_by=winner
    )


class _Rows:
    """Finds whole rows by their coordinates: in the batch, in silver, else again from bronze."""

    def __init__(self, lake: Lake, stream: Stream, handle: DeltaTable, batch: Batch) -> None:
        self._stored, self._batch = lake.scan(handle), batch
        self.columns = list(tables.silver(stream).columns)
        self._again = batch.rows.clear()  # read again from bronze, under today's contract

    def at(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Give the rows at coordinates (columns AT), in silver's columns."""
        wanted = wanted.unique(ROW_COORDINATES)
        own = self._batch.rows.join(wanted, on=ROW_COORDINATES, how="semi")
        again = self._again.join(wanted, on=ROW_COORDINATES, how="semi")
        there = pl.concat([own.select(self.columns), again.select(self.columns)])
        missing = wanted.join(there, on=ROW_COORDINATES, how="anti")
        if not missing.height:
            return there
        stored = self._stored.join(missing.lazy(), on=AT, how="semi").select(self.columns)
        return pl.concat([there, stored.collect().unique(ROW_COORDINATES)])

    def lacking(self, decided: pl.DataFrame) -> pl.DataFrame:
        """Read the losers whose lot changed again; give those that break today's contract."""
        moved = decided.filter((pl.col("_from") == "loser") & (pl.col("_kept") | _has_another_winner()))
        new = moved.select(AT).join(self._again, on=ROW_COORDINATES, how="anti")
        if not new.height:
            return new
        self._again = pl.concat([self._again, self._batch.contents(new).select(self._again.columns)])
        return new.join(self._again, on=ROW_COORDINATES, how="anti")


def _has_another_winner() -> pl.Expr:
    """Tell losers that are new, or whose winner is another than before."""
    return ~pl.col("_kept") & pl.concat_str(*WINNER, separator="/").ne_missing(pl.col("_beaten_by"))


def _verdicts(stream: Stream, decided: pl.DataFrame, rows: _Rows) -> pl.DataFrame:
    """Give the losers that are new or have another winner now, as rows of their table.

    A loser is a duplicate if all the contract's columns equal the winner's, else a conflict.
    """
    table = tables.losers(stream)
    lost = decided.filter(_has_another_winner())
    if not lost.height:
        return pl.DataFrame(schema=table.columns)
    contents = [c.name for c in stream.columns] + [c for c in rows.columns if c == "_op"]
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


def _commit(
    lake: Lake,
    handle: DeltaTable,
    same: Identity,
    added: pl.DataFrame,
    gone: pl.DataFrame,
    progress: Mapping[str, int],
    fences: Sequence[str],
    metadata: Mapping[str, str],
) -> int:
    """Append what is new; where rows go, write their dates or buckets anew, all in one commit."""
    if not gone.height:
        return lake.commit(handle, added, progress=progress, fences=fences, metadata=metadata)
    rewritten = sorted(set(added[same.stored_by]) | set(gone[same.stored_by]))
    there = lake.scan(handle).filter(pl.col(same.stored_by).is_in(rewritten))
    rest = there.join(gone.lazy(), on=AT, how="anti").collect().select(added.columns)
    values = ", ".join(f"'{value}'" if isinstance(value, date) else str(value) for value in rewritten)
    return lake.commit(
        handle,
        pl.concat([rest, added]),
        mode="overwrite",
        predicate=f"{same.stored_by} IN ({values})",
        progress=progress,
        fences=fences,
        metadata=metadata,
    )
