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
from sluice.tables import QUARANTINE, UTC_TIME

ROW_OF = {  # silver's own columns, by the column of bronze that each comes from
    "_topic": "topic",
    "_epoch": "epoch",
    "_partition": "partition",
    "_offset": "offset",
    "_tile": "tile",
    "_ingested_at": "ingested_at",
    "_timestamp": "timestamp",
}
_Place = tuple[str, int, int]
_PLACE = ("tile", "epoch", "partition")  # a batch has one slice of each


@dataclass(frozen=True)
class Judged:
    """What each record of a batch is; `_row` is its place in the batch.

    The records themselves, which are large, are not held, only those that are refused.
    """

    at: pl.DataFrame  # of each record: tile, epoch, partition, offset, timestamp_ms
    rows: pl.DataFrame  # in silver's columns, in the order of the records
    refusals: pl.DataFrame  # in quarantine's columns: one a record, with its first failure and all of them
    verdicts: pl.DataFrame  # `_row`, `verdict`: of what has no row, known without looking at tables
    unknown: dict[str, int]

    def refused(self, batch_id: str) -> pl.DataFrame:
        """Give the rows of quarantine, as refused now."""
        stamp = pl.lit(datetime.now(UTC)).cast(UTC_TIME)
        return self.refusals.with_columns(batch_id=pl.lit(batch_id), quarantined_at=stamp)

    def passing(self, records: pl.DataFrame) -> pl.DataFrame:
        """Give those of the batch's records that are not refused."""
        refused = self.verdicts.filter(pl.col("verdict") == "quarantined")["_row"]
        places = pl.int_range(records.height, dtype=pl.UInt32, eager=True)
        return records.filter(~places.is_in(refused.implode()))

    def accounts(
        self,
        stream: Stream,
        kept: pl.DataFrame,
        lost: pl.DataFrame,
        slices: Sequence[Slice],
        *,
        generation: int,
        run_id: str,
        batch_id: str,
        kind: Kind = "batch",
    ) -> list[Account]:
        """Tell what became of each slice's records.

        `kept` are those of the valid rows that stand, `lost` the others: with `_tile`, `_epoch`,
        `_partition` and their `verdict` (duplicate, conflict).
        """
        at = self.at.select(*_PLACE)
        read = {(t, e, p): count for t, e, p, count in at.group_by(_PLACE).len().iter_rows()}
        without_row = at[self.verdicts["_row"]].with_columns(self.verdicts["verdict"])
        lots = lost.select(*(pl.col("_" + c).alias(c) for c in _PLACE), pl.col("verdict") + "s")
        counts = _counted(pl.concat([without_row, lots]))
        stands = _standing(stream, kept)
        accounts = []
        for piece in slices:
            place = (piece.tile, piece.epoch, piece.partition)
            found = counts.get(place, {})
            account = Account(
                stream=stream.name,
                layer="silver",
                kind="repair" if piece.tile.startswith(tables.REPAIR) else kind,
                tile=piece.tile,
                generation=generation,
                code_version=stream.code_version,
                run_id=run_id,
                batch_id=batch_id,
                epoch=piece.epoch,
                partition=piece.partition,
                first_offset=piece.first_offset,
                next_offset=piece.next_offset,
                read=read.get(place, 0),
                duplicates=found.get("duplicates", 0),
                conflicts=found.get("conflicts", 0),
                quarantined=found.get("quarantined", 0),
                tombstones=found.get("tombstones", 0),
                ignored=found.get("ignored", 0),
                gaps=piece.offsets - read.get(place, 0) if kind == "batch" else 0,
                **{"accepted": 0} | stands.get(place, {}),
            )
            if not account.balanced:
                raise AssertionError(f"an account does not add up, nothing was committed: {account}")
            accounts.append(account)
        return accounts


def _counted(told: pl.DataFrame) -> dict[_Place, dict[str, int]]:
    """Count records by place and verdict."""
    counts: dict[_Place, dict[str, int]] = {}
    for tile, epoch, partition, verdict, count in told.group_by(*_PLACE, "verdict").len().iter_rows():
        counts.setdefault((tile, epoch, partition), {})[verdict] = count
    return counts


def _standing(stream: Stream, kept: pl.DataFrame) -> dict[_Place, dict[str, Any]]:
    """Count, by place, the rows that were accepted; of events also the late ones, and tell times, dates."""
    told = {"accepted": pl.len()}
    if isinstance(stream, Events):
        when = pl.col(stream.event_time)
        tiles = (tile for tile in kept["_tile"].unique() if not tile.startswith(tables.REPAIR))
        starts = {tile: stream.partitions.window(tile).start for tile in tiles}
        opened = pl.col("_tile").first().replace_strict(starts, default=None, return_dtype=UTC_TIME)
        told |= {
            "late": (when + stream.allowed_lateness < opened).sum(),
            "min_event_time": when.min(),
            "max_event_time": when.max(),
            "touched_dates": pl.col("_event_date").unique().sort(),
        }
    grouped = kept.group_by(*(f"_{c}" for c in _PLACE)).agg(**told)
    return {
        (row.pop("_tile"), row.pop("_epoch"), row.pop("_partition")): row
        | ({"touched_dates": tuple(row["touched_dates"])} if "touched_dates" in row else {})
        for row in grouped.iter_rows(named=True)
    }


def judge(stream: Stream, records: pl.DataFrame, decoded: Decoded) -> Judged:
    """Put decoded rows into silver's columns, and give each record its verdict so far."""
    places = decoded.rows["_row"]
    origin = records.select(pl.col(c).alias(name) for name, c in ROW_OF.items())
    own = origin if places.len() == records.height else origin[places]  # each record is decoded at most once
    rows = pl.concat([to_storage(decoded.rows.drop("_row"), stream.columns), own], how="horizontal")
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
    at = records.select(*_PLACE, "offset", "timestamp_ms")
    return Judged(at, silver, _refusals(records, decoded.failures), verdicts, decoded.unknown)


def _refusals(records: pl.DataFrame, failures: pl.DataFrame) -> pl.DataFrame:
    """Give the records that failed, with their failures, as quarantine has them."""
    told = ("stage", "column", "rule", "reason")
    named = failures.group_by("_row", maintain_order=True).agg(
        *(pl.col(name).first() for name in told), failures=pl.struct(told)
    )
    found = pl.concat([records[named["_row"]], named.drop("_row")], how="horizontal")
    return found.select(
        (pl.col(name) if name in found.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in QUARANTINE.items()
    )
