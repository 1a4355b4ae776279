"""Mending bronze: a complete tile whose rows and bounds disagree is replaced, as a whole, in one commit.

Its files are written before that, batch by batch, so a tile may have any size. From Kafka if every offset
that bronze holds comes back, else what Kafka lacks from bronze itself (each record once, strangers out), and
it says which; a record that neither has any more is a hole. Good data is never replaced by less. Also
acknowledges losses, which nothing mends.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import polars as pl
from deltalake.transaction import AddAction, RemoveAction

from assets import aftermath, bounds, equations, proofs, side_tables
from assets.bounds import Bounds
from assets.ingest import Limits, refuse_another
from assets.progress import reached
from resources.data_files import DataFiles
from resources.kafka import Batch, KafkaResource
from resources.lake import Lake
from sluice import accounts, tables
from sluice.accounts import ACCOUNTS, Slice
from sluice.contract import Stream
from sluice.tables import ACKNOWLEDGED, ACKNOWLEDGED_TABLE, UTC_TIME

_AT = list(tables.COORDINATES)


def mend(  # the rest is told in the text
    lake: Lake,
    kafka: KafkaResource,
    stream: Stream,
    wanted: Sequence[str],
    *,
    run_id: str,
    limits: Limits,
    every: bool,
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
            notes.append(_replace(lake, kafka, stream, owned, run_id, limits))
    if notes:
        aftermath.finish(lake, stream, "bronze")
    return notes


def _replace(
    lake: Lake, kafka: KafkaResource, stream: Stream, owned: Sequence[Bounds], run_id: str, limits: Limits
) -> str:
    """Replace a tile, by its bounds; says from where."""
    tile = owned[0].tile

    def step() -> str:
        handle = lake.ensure(tables.bronze(stream))
        files = DataFiles(lake, handle)
        standing = files.listed().filter(value=tile)
        held = files.read(standing["path"].to_list())
        pieces = [
            Slice(tile, b.epoch, b.partition, b.first_offset, reached(handle, stream, b)) for b in owned
        ]
        ranges = {p.partition: (p.first_offset, p.next_offset) for p in pieces if p.offsets}
        mine = held.filter(side_tables.within(pieces)).select(_AT).unique().collect()
        actions: list[AddAction | RemoveAction] = []

        def add(rows: pl.DataFrame) -> None:
            actions.extend(new.action for new in files.write(rows.select(list(tables.BRONZE)), tile))

        reading = kafka.read(stream.topic, ranges, max_rows=limits.rows, max_bytes=limits.bytes)
        came = _from_kafka(reading if ranges else (), stream, owned, add)
        kept = mine.join(came, on=_AT, how="anti")
        source = "bronze itself: Kafka no longer has all of it" if kept.height else "Kafka"
        read = dict(pl.concat([came, kept]).group_by("partition").len().iter_rows())
        lost = _gone(lake, stream, pieces, read)
        others = held.filter(pl.col("epoch") != stream.epoch).select(_AT).collect()
        _keep(files, standing["path"].to_list(), pl.concat([kept, others]), tile, add)
        actions += [files.gone(*row) for row in standing.select("path", "size", "value").iter_rows()]
        number = int(handle.transaction_version(_generation(stream, tile)) or 1) + 1
        told = [
            accounts.of_bronze(
                stream.name, p, read.get(p.partition, 0), lost.get(p.partition, 0), run_id, number
            )
            for p in pieces
        ]
        lake.commit(
            handle,
            actions,
            progress={_generation(stream, tile): number},
            metadata={ACCOUNTS: accounts.dumps(told)},
        )
        return f"replaced {tile} from {source}"

    return lake.retrying(f"bronze/{stream.name}", step)


def _keep(
    files: DataFiles, paths: Sequence[str], at: pl.DataFrame, tile: str, add: Callable[[pl.DataFrame], None]
) -> None:
    """Write the records at some coordinates again, each once, a piece of a file at a time."""
    for path in paths:
        for piece in files.pieces(path) if at.height else ():
            rows = piece.join(at, on=_AT, how="semi").unique(_AT, maintain_order=True)
            at = at.join(rows, on=_AT, how="anti")
            add(rows.with_columns(tile=pl.lit(tile)))


def _generation(stream: Stream, tile: str) -> str:
    return f"generation/{stream.name}/{tile}"


def _from_kafka(
    reading: Iterable[Batch], stream: Stream, owned: Sequence[Bounds], add: Callable[[pl.DataFrame], None]
) -> pl.DataFrame:
    """Write what Kafka has of a tile; give the coordinates of what came."""
    came = [pl.DataFrame(schema={name: tables.BRONZE[name] for name in _AT})]
    for batch in reading:
        refuse_another(stream, batch, owned)
        stamp = pl.lit(datetime.now(UTC)).cast(UTC_TIME)
        placed = batch.records.with_columns(
            epoch=pl.lit(stream.epoch, pl.Int32), tile=pl.lit(owned[0].tile), ingested_at=stamp
        )
        add(placed)
        came.append(placed.select(_AT))
    return pl.concat(came)


def _gone(lake: Lake, stream: Stream, pieces: Sequence[Slice], read: Mapping[int, int]) -> dict[int, int]:
    """Count by partition what neither bronze nor Kafka has, though it was no gap when it was read.

    What Kafka passes over now does not tell: compaction leaves no hole, and retention takes gaps, too.
    """
    here = pl.col("tile").is_in({piece.tile for piece in pieces})
    told = aftermath.current(lake, stream, "bronze", here, ["gaps"]).collect()
    lost: dict[int, int] = {}
    for piece in pieces:
        at = (pl.col("tile") == piece.tile) & (pl.col("epoch") == piece.epoch)
        gaps = told.filter(at & (pl.col("partition") == piece.partition))["gaps"].to_list()
        lost[piece.partition] = max(0, piece.offsets - read.get(piece.partition, 0) - sum(gaps))
    return lost


def acknowledge(lake: Lake, stream: Stream, reason: str) -> int:
    """Record that someone knows of a stream's losses; returns of how many tiles and partitions."""

    def step() -> int:
        handle = lake.ensure(ACKNOWLEDGED_TABLE)
        rows = equations.holes(lake, stream).with_columns(
            stream=pl.lit(stream.name),
            reason=pl.lit(reason),
            acknowledged_at=pl.lit(datetime.now(UTC)).cast(UTC_TIME),
        )
        if rows.height:  # the fence: counts add up, so none may be acknowledged twice
            fence = f"acknowledged/{stream.name}"
            lake.commit(handle, rows.select(list(ACKNOWLEDGED)), fences=[fence])
        return rows.height

    return lake.retrying(ACKNOWLEDGED_TABLE.name, step)
