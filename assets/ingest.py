"""From Kafka to bronze: each record of a tile exactly once, as it came.

Progress is an application transaction in the commit of the rows: one id per tile and Kafka partition, its
version the next offset to read. A run resumes from the table, never from a consumer group. Incomplete
tiles are appended to; a complete tile is verified, and replaced as a whole only where its rows and the
log disagree or the caller asks for it, never by less than it holds.
"""

from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl
from deltalake import DeltaTable

from assets import aftermath, bounds, logs
from assets.ahead import ahead
from assets.bounds import Bounds
from assets.progress import is_sealed, open_fence, position, progress_id
from assets.races import Races
from resources.kafka import Batch, KafkaResource, Watermarks
from resources.lake import Lake
from sluice import accounts, tables
from sluice.accounts import ACCOUNTS, Account, Slice
from sluice.contract import Stream
from sluice.errors import OpenTransactionError, StaleWriterError, TopicRecreatedError

__all__ = ["Ingested", "Limits", "append", "ingest", "position", "progress_id"]

Log = Callable[[str], None]
TILES_AT_ONCE = 250  # in one commit; the writer holds about 0.4 MB for each
_OWNER = ("partition", "offset", "stop", "epoch", "tile")


@dataclass(frozen=True)
class Limits:
    """What one batch may hold."""

    rows: int
    bytes: int


@dataclass
class Ingested:
    """What a run did to bronze, for people to read."""

    tiles: list[str]
    slices: list[Slice] = field(default_factory=list)
    rows: int = 0
    holes: int = 0
    version: int | None = None
    notes: list[str] = field(default_factory=list)


def ingest(  # the rest is told in the text
    lake: Lake,
    kafka: KafkaResource,
    stream: Stream,
    wanted: Sequence[str],
    *,
    run_id: str,
    limits: Limits,
    now: datetime | None = None,
    say: Log = print,
) -> Ingested:
    """Bring the tiles wanted up to the log: what is committed already is not read again.

    Returns:
        what was committed by this run.

    Raises:
        KafkaUnreachableError, TopicMissingError, KafkaReadError: as they say.
        TopicRecreatedError, LogCutError: the log is another one than before, or ends before what was read.
        OpenTransactionError: a tile's end is behind an open transaction; what could be read is committed.
        LakeError: the lake failed; all commits so far stand.
        RaceLostError: other runs commit the same tiles, and were always faster.
    """

    def look() -> tuple[list[Bounds], dict[int, Watermarks]]:
        found = bounds.ensure(lake, kafka, stream, wanted, now or datetime.now(UTC))
        return found, logs.watermarks(lake, kafka, stream, {b.partition for b in found})

    owned, marks = look()
    done = Ingested(sorted({b.tile for b in owned}))
    races = Races(f"bronze/{stream.name}", say)
    while True:
        stable = {partition: mark.stable for partition, mark in marks.items()}
        handle = lake.ensure(tables.bronze(stream))
        runs = _runs(stream, handle, owned, stable, limits.rows)
        if not runs:
            break
        try:
            for ranges in runs:
                begins = _merged(ranges)
                reading = kafka.read(stream.topic, begins, max_rows=limits.rows, max_bytes=limits.bytes)
                with closing(ahead(reading, f"read-{stream.name}")) as batches:
                    for batch in batches:
                        append(lake, stream, batch, ranges, run_id, done)
                        say(f"bronze/{stream.name}: {done.rows} records so far, in {_place(done, ranges)}")
        except StaleWriterError as error:  # another run commits the same tiles, or closed one: go on from it
            races.lose(error, len(done.slices))
            owned, marks = look()
    lows = {partition: mark.low for partition, mark in marks.items()}
    if before := _left_out(lake, stream, owned, lows):
        done.notes.append(f"{before} offsets before {stream.partitions.start} left out")
    done.version = handle.version()
    bounds.close(lake, stream, _complete(stream, handle, owned, stable))
    aftermath.finish(lake, stream, "bronze")
    _refuse_blocked(kafka, stream, owned, stable)
    if held := _held(kafka, stream, owned, marks):
        done.notes.append(f"an open transaction holds {held}")
    return done


def _place(done: Ingested, ranges: Sequence[tuple[Bounds, Slice]]) -> str:
    """Tell how far a run has come, of how many tiles."""
    tile = ranges[-1][0].tile
    return f"{tile} (tile {bisect(done.tiles, tile)} of {len(done.tiles)})"


def _left_out(lake: Lake, stream: Stream, owned: Sequence[Bounds], lows: Mapping[int, int]) -> int:
    """Count the offsets before the first tile, as long as it is not closed: so it is said once."""
    first = stream.partitions.tile_at(stream.partitions.first)
    begins = {b.partition: b.first_offset for b in owned if b.tile == first}
    if not begins:
        return 0
    rows = bounds.stored(lake, stream).filter((pl.col("tile") == first) & pl.col("closed_at").is_null())
    return sum(max(0, begins[p] - lows[p]) for p in rows["partition"] if p in begins)


def _complete(
    stream: Stream, handle: DeltaTable, owned: Iterable[Bounds], stable: Mapping[int, int]
) -> list[Bounds]:
    return [
        b
        for b in owned
        if b.next_offset is not None and position(handle, stream, b) >= b.next_offset <= stable[b.partition]
    ]


def _refuse_blocked(
    kafka: KafkaResource, stream: Stream, owned: Iterable[Bounds], stable: Mapping[int, int]
) -> None:
    for bound in owned:
        limit = stable[bound.partition]
        if bound.next_offset is not None and bound.next_offset > limit:
            blocking = kafka.open_transactions(stream.topic, bound.partition)
            raise OpenTransactionError(stream.topic, bound.partition, bound.next_offset, limit, blocking)


def _held(
    kafka: KafkaResource, stream: Stream, owned: Iterable[Bounds], before: Mapping[int, Watermarks]
) -> str:
    """Say which open tiles an open transaction has held back since the run looked first."""
    waiting = {b.partition for b in owned if b.next_offset is None}
    waiting -= {p for p in waiting if before[p].stable == before[p].high}
    marks = kafka.watermarks(stream.topic, sorted(waiting)) if waiting else {}
    return logs.held(kafka, stream, {p: m for p, m in marks.items() if m.stable == before[p].stable})


def _runs(
    stream: Stream, handle: DeltaTable, owned: Iterable[Bounds], stable: Mapping[int, int], rows: int
) -> list[list[tuple[Bounds, Slice]]]:
    """Group what is to be read into runs of tiles whose ranges join, of about `rows` offsets each.

    A commit writes a file for each tile, each of which costs memory while it is written.
    """
    runs: list[list[tuple[Bounds, Slice]]] = []
    ends: dict[int, int] = {}
    tiles: set[str] = set()
    size = 0
    for bound in sorted(owned, key=lambda b: (b.tile, b.partition)):
        start = position(handle, stream, bound)
        end = stable[bound.partition]
        stop = end if bound.next_offset is None else min(end, bound.next_offset)
        if start >= stop:
            continue
        piece = Slice(bound.tile, bound.epoch, bound.partition, start, stop)
        fits = ends.get(bound.partition, start) == start and size < rows
        if not runs or not fits or (len(tiles) >= TILES_AT_ONCE and bound.tile not in tiles):
            runs.append([])
            ends, size, tiles = {}, 0, set()
        runs[-1].append((bound, piece))
        ends[bound.partition] = stop
        tiles.add(bound.tile)
        size += piece.offsets
    return runs


def _merged(ranges: Iterable[tuple[Bounds, Slice]]) -> dict[int, tuple[int, int]]:
    merged: dict[int, tuple[int, int]] = {}
    for _, piece in ranges:
        first, _ = merged.get(piece.partition, (piece.first_offset, 0))
        merged[piece.partition] = (first, piece.next_offset)
    return merged


def append(
    lake: Lake,
    stream: Stream,
    batch: Batch,
    ranges: Sequence[tuple[Bounds, Slice]],
    run_id: str,
    done: Ingested,
) -> pl.DataFrame:
    """Append one batch with its progress and its accounts: the only way into bronze for new records.

    Returns:
        the rows that were committed (columns: BRONZE), in the order of the batch.

    Raises:
        StaleWriterError: another run has committed these records, a tile that was open takes no more, or the
            table was put back: look at the bounds and the progress again.
        TopicRecreatedError: the batch may have records of another topic than its bounds are of.
        LakeError, RaceLostError: the lake failed.
    """
    table = tables.bronze(stream)
    refuse_another(stream, batch, [bound for bound, _ in ranges])

    def step() -> tuple[pl.DataFrame, list[Account], int]:
        handle = lake.ensure(table)
        owned = []
        for bound, planned in ranges:
            start = position(handle, stream, bound)
            stop = min(planned.next_offset, batch.next_offsets.get(bound.partition, 0))
            if start >= stop:
                continue
            back = start < min(batch.first_offsets[bound.partition], stop)  # the table was put back meanwhile
            if back or (bound.next_offset is None and is_sealed(handle, stream, bound)):
                raise StaleWriterError(table.name, progress_id(stream, bound), start, stop)
            owned.append((bound, Slice(bound.tile, bound.epoch, bound.partition, start, stop)))
        if not owned:
            raise StaleWriterError(table.name, "every id", 0, 0)
        pieces = [piece for _, piece in owned]
        rows = _placed(batch.records, pieces)
        read = rows.group_by("partition", "tile").len()
        counts = {(partition, tile): count for partition, tile, count in read.iter_rows()}
        told = [
            accounts.of_bronze(
                stream.name, p, counts.get((p.partition, p.tile), 0), _overlap(batch, p), run_id
            )
            for p in pieces
        ]
        version = lake.commit(
            handle,
            rows,
            progress={progress_id(stream, bound): piece.next_offset for bound, piece in owned},
            fences=[open_fence(stream, bound) for bound, _ in owned if bound.next_offset is None],
            metadata={ACCOUNTS: accounts.dumps(told)},
        )
        return rows, told, version

    rows, told, done.version = lake.retrying(table.name, step)
    done.rows += sum(a.read for a in told)
    done.holes += sum(a.holes for a in told)
    done.slices += [Slice(a.tile, a.epoch, a.partition, a.first_offset, a.next_offset) for a in told]
    return rows


def refuse_another(stream: Stream, batch: Batch, owned: Iterable[Bounds]) -> None:
    """Refuse a batch that was fetched when another topic had the name than the one the bounds are of.

    Raises:
        TopicRecreatedError: so it is.
    """
    for known in {bound.topic_id for bound in owned}:
        if batch.topic_id not in (None, known):
            raise TopicRecreatedError(stream.name, stream.topic, known, str(batch.topic_id), stream.epoch)


def _placed(records: pl.DataFrame, pieces: Sequence[Slice]) -> pl.DataFrame:
    """Put each record into the slice that owns its offset, as rows of bronze; without those of no slice."""
    owners = pl.DataFrame(
        [(p.partition, p.first_offset, p.next_offset, p.epoch, p.tile) for p in pieces],
        schema={name: tables.BRONZE.get(name, pl.Int64()) for name in _OWNER},
        orient="row",
    ).sort("offset")
    stamp = pl.lit(datetime.now(UTC)).cast(tables.UTC_TIME)
    return (
        records.join_asof(owners, on="offset", by="partition", check_sortedness=False)  # a log is in order
        .filter(pl.col("offset") < pl.col("stop"))
        .select(pl.col(name) if name != "ingested_at" else stamp.alias(name) for name in tables.BRONZE)
    )


def _overlap(batch: Batch, piece: Slice) -> int:
    first, stop = batch.holes.get(piece.partition, (0, 0))
    return max(0, min(stop, piece.next_offset) - max(first, piece.first_offset))
