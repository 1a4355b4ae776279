"""A batch after decoding: silver's rows, quarantine's rows, and the accounts once duplicates are known.

Every record that was read is counted once: as accepted, duplicate, conflict, quarantined, tombstone or
ignored. A batch that does not add up is an error of this program and never committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from sluice import tables
from sluice.accounts import Account, Kind, Slice
from sluice.columns import to_storage
from sluice.contract import Events, Stream
from sluice.decoded import Decoded
from sluice.dedupe import placed
from sluice.tables import COORDINATES, QUARANTINE, ROW_COORDINATES, UTC_TIME

ROW_OF = {  # silver's own columns, by the column of bronze that each comes from
    "_topic": "topic",
    "_epoch": "epoch",
    "_partition": "partition",
    "_offset": "offset",
    "_tile": "tile",
    "_ingested_at": "ingested_at",
    "_timestamp": "timestamp",
}
_Place = tuple[str, int, int]  # tile, epoch, partition: a batch has one slice of each


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
        counts = _counted(every)
        kept = self.rows.join(decided.filter("_kept"), on=ROW_COORDINATES, how="semi")
        times = _times(stream, kept) if isinstance(stream, Events) else {}
        accounts = []
        for piece in slices:
            place = (piece.tile, piece.epoch, piece.partition)
            found = counts.get(place, {})
            read = sum(found.values())
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
                read=read,
                accepted=found.get("accepted", 0),
                duplicates=found.get("duplicates", 0),
                conflicts=found.get("conflicts", 0),
                quarantined=found.get("quarantined", 0),
                tombstones=found.get("tombstones", 0),
                ignored=found.get("ignored", 0),
                gaps=piece.offsets - read if kind == "batch" else 0,
                **times.get(place, {}),
            )
            if not account.balanced:
                raise AssertionError(f"an account does not add up, nothing was committed: {account}")
            accounts.append(account)
        return accounts


def _counted(every: pl.DataFrame) -> dict[_Place, dict[str, int]]:
    """Count records by place and verdict; a record without one is counted too, and breaks its account."""
    counts: dict[_Place, dict[str, int]] = {}
    grouped = every.group_by("tile", "epoch", "partition", pl.col("verdict").fill_null("unknown")).len()
    for tile, epoch, partition, verdict, count in grouped.iter_rows():
        counts.setdefault((tile, epoch, partition), {})[verdict] = count
    return counts


def _times(stream: Events, kept: pl.DataFrame) -> dict[_Place, dict[str, Any]]:
    """Tell, by place, the times and dates of the rows that were accepted, and how many were late."""
    when = pl.col(stream.event_time)
    starts = {tile: stream.partitions.window(tile).start for tile in kept["_tile"].unique()}
    if not starts:
        return {}
    opened = pl.col("_tile").replace_strict(starts, return_dtype=UTC_TIME)
    grouped = kept.group_by("_tile", "_epoch", "_partition").agg(
        late=(when + stream.allowed_lateness < opened).sum(),
        min_event_time=when.min(),
        max_event_time=when.max(),
        touched_dates=pl.col("_event_date").unique().sort(),
    )
    return {
        (row.pop("_tile"), row.pop("_epoch"), row.pop("_partition")): row
        | {"touched_dates": tuple(row["touched_dates"])}
        for row in grouped.iter_rows(named=True)
    }


def judge(stream: Stream, records: pl.DataFrame, decoded: Decoded) -> Judged:
    """Put decoded rows into silver's columns, and give each record its verdict so far."""
    numbered = records.with_row_index("_row")
    origin = numbered.select("_row", *(pl.col(c).alias(name) for name, c in ROW_OF.items()))
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
