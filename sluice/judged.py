"""A batch after decoding: silver's rows, quarantine's rows, and the accounts once duplicates are known.

Every record that was read is counted once: as accepted, duplicate, conflict, quarantined, tombstone or
ignored. A batch that does not add up is an error of this program and never committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from sluice import tables
from sluice.accounts import Account, Kind, Slice
from sluice.columns import to_storage
from sluice.contract import Events, Stream
from sluice.decoded import Decoded
from sluice.dedupe import placed
from sluice.tables import COORDINATES, QUARANTINE, ROW_COORDINATES, UTC_TIME

_ROW_OF = {
    "_topic": "topic",
    "_epoch": "epoch",
    "_partition": "partition",
    "_offset": "offset",
    "_tile": "tile",
    "_ingested_at": "ingested_at",
    "_timestamp": "timestamp",
}
_VERDICTS = ("accepted", "duplicates", "conflicts", "quarantined", "tombstones", "ignored")


@dataclass(frozen=True)
class Judged:
    """The records of a batch (`_row` and BRONZE) and what each of them is."""

    records: pl.DataFrame
    rows: pl.DataFrame  # in silver's columns
    failures: pl.DataFrame
    verdicts: pl.DataFrame  # `_row`, `verdict`: what is known without looking at tables
    unknown: dict[str, int]

    def refused(self, batch_id: str) -> pl.DataFrame:
        """Give the rows of quarantine: one a record, naming its first failure and listing all."""
        if not self.failures.height:
            return pl.DataFrame(schema=QUARANTINE)
        told = ("stage", "column", "rule", "reason")
        named = self.failures.group_by("_row", maintain_order=True).agg(
            *(pl.col(name).first() for name in told), failures=pl.struct(told)
        )
        stamp = pl.lit(datetime.now(UTC)).cast(UTC_TIME)
        return (
            self.records.join(named, on="_row", how="inner", maintain_order="left")
            .with_columns(batch_id=pl.lit(batch_id), quarantined_at=stamp, resolved_at=pl.lit(None, UTC_TIME))
            .select(pl.col(name).cast(dtype) for name, dtype in QUARANTINE.items())
        )

    def at(self, verdicts: Sequence[str]) -> pl.DataFrame:
        """Give the coordinates (`_tile`, `_epoch`, `_partition`, `_offset`) of records by verdict."""
        found = self.verdicts.filter(pl.col("verdict").is_in(list(verdicts)))
        chosen = self.records.join(found, on="_row", how="semi")
        return chosen.select(pl.col(c).alias(f"_{c}") for c in ("tile", *COORDINATES))

    def accounts(
        self,
        stream: Stream,
        decided: pl.DataFrame,
        slices: Sequence[Slice],
        *,
        generation: int,
        run_id: str,
        batch_id: str,
        kind: Kind = "batch",
    ) -> list[Account]:
        """Tell what became of each slice's records.

        `decided` has the batch's valid rows with `_kept` and `verdict` (duplicate, conflict or null).
        """
        told = pl.when("_kept").then(pl.lit("accepted")).otherwise(pl.col("verdict") + "s")
        settled = decided.select(*(pl.col(c).alias(c[1:]) for c in ROW_COORDINATES), _told=told)
        every = (
            self.records.select("_row", "tile", *COORDINATES)
            .join(self.verdicts, on="_row", how="left")
            .join(settled, on=COORDINATES, how="left")
            .with_columns(verdict=pl.coalesce("_told", "verdict"))
        )
        kept = self.rows.join(decided.filter("_kept"), on=ROW_COORDINATES, how="semi")
        return [
            self._account(stream, piece, every, kept, generation, run_id, batch_id, kind) for piece in slices
        ]

    def _account(
        self,
        stream: Stream,
        piece: Slice,
        every: pl.DataFrame,
        kept: pl.DataFrame,
        generation: int,
        run_id: str,
        batch_id: str,
        kind: Kind,
    ) -> Account:
        mine = every.filter(_inside(piece, ""))
        counts = {name: mine.filter(pl.col("verdict") == name).height for name in _VERDICTS}
        times = {}
        if isinstance(stream, Events):
            when, own = stream.event_time, kept.filter(_inside(piece, "_"))
            start = stream.partitions.window(piece.tile).start
            times = {
                "late": own.filter(pl.col(when) + stream.allowed_lateness < start).height,
                "min_event_time": own[when].min(),
                "max_event_time": own[when].max(),
                "touched_dates": tuple(own["_event_date"].unique().sort()),
            }
        account = Account(
            stream=stream.name,
            layer="silver",
            kind=kind,
            tile=piece.tile,
            generation=generation,
            code_version=stream.code_version,
            run_id=run_id,
            batch_id=batch_id,
            epoch=piece.epoch,
            partition=piece.partition,
            first_offset=piece.first_offset,
            next_offset=piece.next_offset,
            read=mine.height,
            gaps=piece.offsets - mine.height if kind == "batch" else 0,
            **counts,
            **times,
        )
        if not account.balanced:
            raise AssertionError(f"an account does not add up, nothing was committed: {account}")
        return account


def _inside(piece: Slice, prefix: str) -> pl.Expr:
    return (
        (pl.col(prefix + "tile") == piece.tile)
        & (pl.col(prefix + "epoch") == piece.epoch)
        & (pl.col(prefix + "partition") == piece.partition)
        & pl.col(prefix + "offset").is_between(piece.first_offset, piece.next_offset, closed="left")
    )


def judge(stream: Stream, records: pl.DataFrame, decoded: Decoded) -> Judged:
    """Put decoded rows into silver's columns, and give each record its verdict so far."""
    numbered = records.with_row_index("_row")
    origin = numbered.select("_row", *(pl.col(c).alias(name) for name, c in _ROW_OF.items()))
    rows = to_storage(decoded.rows, stream.columns).join(origin, on="_row", how="left", maintain_order="left")
    schema = tables.silver(stream).columns
    silver = placed(rows, stream).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    said = {
        "quarantined": decoded.failures["_row"].unique(),
        "tombstones": decoded.tombstones,
        "ignored": decoded.ignored,
    }
    verdicts = pl.concat(
        pl.DataFrame({"_row": place.cast(pl.UInt32)}).with_columns(verdict=pl.lit(name))
        for name, place in said.items()
    )
    return Judged(numbered, silver, decoded.failures, verdicts, decoded.unknown)
