"""Mending bronze: a complete tile whose rows and bounds disagree is replaced, as a whole, in one commit.

From Kafka if every offset that bronze holds comes back, else from bronze itself (each record once, strangers
out, completed by what Kafka has), and it says which; a record that neither has any more is a hole. Good data
is never replaced by less. Also acknowledges losses, which nothing mends.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from assets import aftermath, bounds, equations, proofs
from assets.bounds import Bounds
from assets.ingest import refuse_another
from assets.progress import reached
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import accounts, tables
from sluice.accounts import ACCOUNTS, Slice
from sluice.contract import Stream
from sluice.tables import ACKNOWLEDGED, ACKNOWLEDGED_TABLE, UTC_TIME

_BATCH = {"max_rows": 2**62, "max_bytes": 2**62}  # a tile is replaced in one commit


def mend(
    lake: Lake, kafka: KafkaResource, stream: Stream, wanted: Sequence[str], *, run_id: str, every: bool
) -> list[str]:
    """Verify the tiles wanted, and replace those that do not add up (or all, with `every`).

    Returns:
        one sentence for each tile replaced.
    """
    broken = set(proofs.unequal(lake, stream, "bronze", wanted)["tile"])
    chosen = sorted(set(wanted) if every else broken)
    notes = []
    for tile in chosen:
        owned = [b for b in bounds.known(lake, stream, [tile]) if b.next_offset is not None]
        if owned:
            notes.append(_replace(lake, kafka, stream, tile, owned, run_id))
    if notes:
        aftermath.finish(lake, stream, "bronze")
    return notes


def _replace(
    lake: Lake, kafka: KafkaResource, stream: Stream, tile: str, owned: Sequence[Bounds], run_id: str
) -> str:
    def step() -> str:
        handle = lake.ensure(tables.bronze(stream))
        whole_tile = lake.scan(handle).filter(pl.col("tile") == tile).collect()
        held = whole_tile.filter(pl.col("epoch") == stream.epoch)
        pieces = [
            Slice(tile, b.epoch, b.partition, b.first_offset, reached(handle, stream, b)) for b in owned
        ]
        inside = pl.any_horizontal(
            (pl.col("partition") == p.partition)
            & pl.col("offset").is_between(p.first_offset, p.next_offset, closed="left")
            for p in pieces
        )
        own = held.filter(inside).unique(["partition", "offset"])
        fresh, lost = _from_kafka(kafka, stream, tile, owned, pieces)
        whole = own.join(fresh, on=["partition", "offset"], how="anti").height == 0
        rows, source = fresh, "Kafka"
        if not whole:
            more = fresh.join(own, on=["partition", "offset"], how="anti")
            rows, source = pl.concat([own, more]), "bronze itself: Kafka no longer has all of it"
            lost = _gone(lake, stream, pieces, rows)
        number = int(handle.transaction_version(_generation(stream, tile)) or 1) + 1
        read = dict(rows.group_by("partition").len().iter_rows())
        told = [
            accounts.of_bronze(
                stream.name, p, read.get(p.partition, 0), lost.get(p.partition, 0), run_id, number
            )
            for p in pieces
        ]
        kept = whole_tile.filter(pl.col("epoch") != stream.epoch)
        lake.commit(
            handle,
            pl.concat([kept.select(list(tables.BRONZE)), rows.select(list(tables.BRONZE))]),
            mode="overwrite",
            predicate=f"tile = '{tile}'",
            progress={_generation(stream, tile): number},
            metadata={ACCOUNTS: accounts.dumps(told)},
        )
        return f"replaced {tile} from {source}"

    return lake.retrying(f"bronze/{stream.name}", step)


def _generation(stream: Stream, tile: str) -> str:
    return f"generation/{stream.name}/{tile}"


def _from_kafka(
    kafka: KafkaResource, stream: Stream, tile: str, owned: Sequence[Bounds], pieces: Sequence[Slice]
) -> tuple[pl.DataFrame, dict[int, int]]:
    ranges = {p.partition: (p.first_offset, p.next_offset) for p in pieces if p.offsets}
    frames = [pl.DataFrame(schema=tables.BRONZE)]
    lost: dict[int, int] = {}
    for batch in kafka.read(stream.topic, ranges, **_BATCH) if ranges else ():
        refuse_another(stream, batch, owned)
        stamp = pl.lit(datetime.now(UTC)).cast(UTC_TIME)
        placed = batch.records.with_columns(
            epoch=pl.lit(stream.epoch, pl.Int32), tile=pl.lit(tile), ingested_at=stamp
        )
        frames.append(placed.select(list(tables.BRONZE)))
        for partition, (first, stop) in batch.holes.items():
            lost[partition] = lost.get(partition, 0) + stop - first
    return pl.concat(frames), lost


def _gone(lake: Lake, stream: Stream, pieces: Sequence[Slice], rows: pl.DataFrame) -> dict[int, int]:
    """Count by partition what neither bronze nor Kafka has, though it was no gap when it was read."""
    told = accounts.current(aftermath.ledger(lake, stream, "bronze"))
    lost: dict[int, int] = {}
    for piece in pieces:
        at = (pl.col("tile") == piece.tile) & (pl.col("epoch") == piece.epoch)
        gaps = told.filter(at & (pl.col("partition") == piece.partition))["gaps"].to_list()
        held = rows.filter(pl.col("partition") == piece.partition).height
        lost[piece.partition] = max(0, piece.offsets - held - sum(gaps))
    return lost


def acknowledge(lake: Lake, stream: Stream, reason: str) -> int:
    """Record that someone knows of a stream's losses; returns how many accounts that concerns."""
    lost = equations.holes(lake, stream)
    rows = lost.with_columns(
        stream=pl.lit(stream.name),
        reason=pl.lit(reason),
        acknowledged_at=pl.lit(datetime.now(UTC)).cast(UTC_TIME),
    ).select(list(ACKNOWLEDGED))
    if rows.height:
        lake.retrying(ACKNOWLEDGED_TABLE.name, lambda: lake.commit(lake.ensure(ACKNOWLEDGED_TABLE), rows))
    return rows.height
