"""Bronze against the Kafka log: offsets, counts and checksums a tile and partition, then single records.

Compared is what bronze has committed and the log still has. Records of bronze that the log has let go, by
retention or compaction, are no difference: bronze keeps them. It refuses topics made again under their name.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import polars as pl

from assets import bounds, logs
from assets.progress import reached
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import tables
from sluice.compare.compared import DIFFERENT, EXTRA, KINDS, MISSING, Compared
from sluice.contract import Stream
from sluice.errors import TopicRecreatedError
from sluice.tables import BRONZE

_AT = ["tile", "partition"]
_TOLD = ["offset", "timestamp_ms", "timestamp_type", "key", "value", "headers"]
_ROWS, _BYTES = 200_000, 64 << 20  # of a batch
_NONE = pl.DataFrame(schema={name: BRONZE[name] for name in _TOLD})


def compare_log(
    lake: Lake,
    kafka: KafkaResource,
    stream: Stream,
    *,
    most: int,
    say: Callable[[str], None] = print,
) -> tuple[Compared, str, int]:
    """Compare bronze with the log; give the outcome, the log's position, and bronze's version.

    Raises:
        TopicRecreatedError: the topic is another one than bronze has read.
        LogCutError: the log ends before what bronze has read.
        KafkaUnreachableError, TopicMissingError, KafkaReadError: as they say.
    """
    handle = lake.ensure(tables.bronze(stream))
    topic = kafka.topic(stream.topic)
    known = [b for b in bounds.every_epoch(lake, stream) if b.epoch == stream.epoch]
    for bound in known:
        if bound.topic_id != topic.id and not bound.tile.startswith("repair/"):
            raise TopicRecreatedError(stream.name, stream.topic, bound.topic_id, topic.id, stream.epoch)
    marks = logs.watermarks(lake, kafka, stream, topic.partitions)
    owned = pl.DataFrame(
        [
            (b.tile, b.partition, max(b.first_offset, marks[b.partition].low), reached(handle, stream, b))
            for b in known
            if b.partition in marks
        ],
        schema={"tile": pl.String, "partition": pl.Int32, "first": pl.Int64, "stop": pl.Int64},
        orient="row",
    ).filter(pl.col("first") < pl.col("stop"))
    position = ", ".join(f"{p}: {marks[p].low} to {marks[p].stable}" for p in sorted(marks))
    mine = (pl.col("epoch") == stream.epoch) & pl.col("tile").is_in(owned["tile"].unique().implode())
    inside = pl.col("offset").is_between(pl.col("first"), pl.col("stop"), closed="left")
    held = lake.scan(handle).filter(mine).join(owned.lazy(), on=_AT).filter(inside)
    bronze = _summed(held).collect(engine="streaming")
    parts = [_summed(records.lazy()).collect() for records in _read(kafka, stream, owned, say)]
    log = pl.concat([bronze.clear(), *parts]).group_by(_AT).agg(pl.col("count", "sum").sum())
    both = bronze.join(log, on=_AT, how="full", coalesce=True, suffix="_log")
    differ = both.filter(pl.struct("count", "sum").ne_missing(pl.struct(count="count_log", sum="sum_log")))
    outcome = Compared(both.height, differ.height, int(bronze["count"].sum()), int(log["count"].sum()))
    if not differ.height:
        return outcome, position, int(handle.version())
    kinds = [MISSING, DIFFERENT] if kafka.compacts(stream.topic) else [MISSING, DIFFERENT, EXTRA]
    doubtful = owned.join(differ, on=_AT, how="semi")
    rows, counts = _differing(kafka, stream, doubtful, held, say, kinds=kinds, most=most)
    found = replace(outcome, **counts, rows=rows, listed_all=sum(counts.values()) <= most)
    return found, position, int(handle.version())


def _hash() -> pl.Expr:
    return pl.struct(_TOLD).hash(seed=0)


def _summed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Count records and sum up their hashes (which wrap), by tile and partition."""
    return rows.group_by(_AT).agg(count=pl.len().cast(pl.Int64), sum=_hash().sum())


def _read(
    kafka: KafkaResource, stream: Stream, owned: pl.DataFrame, say: Callable[[str], None]
) -> Iterator[pl.DataFrame]:
    """Read what tiles own of the log, with the tile of each record."""
    starts = owned.sort("first").select("partition", "tile", "stop", offset="first")
    seen = 0
    for partition, mine in owned.sort("first").group_by("partition", maintain_order=True):
        span = {int(partition[0]): (int(mine["first"].min()), int(mine["stop"].max()))}  # type: ignore[arg-type]
        for batch in kafka.read(stream.topic, span, max_rows=_ROWS, max_bytes=_BYTES):
            placed = batch.records.join_asof(starts, on="offset", by="partition", check_sortedness=False)
            yield placed.filter(pl.col("offset") < pl.col("stop"))
            seen += batch.records.height
            say(f"reconciliation/{stream.name}: {seen} records of the log read")


def _differing(
    kafka: KafkaResource,
    stream: Stream,
    owned: pl.DataFrame,
    held: pl.LazyFrame,
    say: Callable[[str], None],
    *,
    kinds: Collection[str],
    most: int,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Name the first records that differ (of some kinds), stretch by stretch; count all of each kind."""
    found = [_unlike(_NONE, _NONE).clear().select(_places("", 0))]
    counts = dict.fromkeys(KINDS, 0)
    for tile, partition, first, stop in owned.iter_rows():
        piece = owned.filter((pl.col("tile") == tile) & (pl.col("partition") == partition))
        mine = held.filter((pl.col("tile") == tile) & (pl.col("partition") == partition))
        parts = (part.select(_TOLD) for part in _read(kafka, stream, piece, say))
        for low, high, log in _stretches(parts, first, stop):
            inside = pl.col("offset").is_between(low, high, closed="left")
            bronze = mine.filter(inside).select(_TOLD).collect(engine="streaming")
            told = _unlike(bronze, log).filter(pl.col("kind").is_in(kinds))
            for kind, count in told["kind"].value_counts().iter_rows():
                counts[kind] += count
            left = most - sum(part.height for part in found)
            found.append(told.head(max(0, left)).select(_places(tile, partition)))
    return pl.concat(found).sort(*_AT, "offset"), counts


def _stretches(
    parts: Iterable[pl.DataFrame], first: int, stop: int
) -> Iterator[tuple[int, int, pl.DataFrame]]:
    """Cut the log's records at the ends of what was read at once, and where that is long, into offsets."""
    low, records = first, _NONE
    for records in (part for part in parts if part.height):
        end = int(records["offset"][-1]) + 1
        yield from _cut(low, end, records)
        low = end
    yield from _cut(low, stop, _NONE)


def _cut(low: int, high: int, records: pl.DataFrame) -> Iterator[tuple[int, int, pl.DataFrame]]:
    for start in range(low, high, _ROWS):
        end = min(start + _ROWS, high)
        yield start, end, records.filter(pl.col("offset").is_between(start, end, closed="left"))


def _places(tile: str, partition: int) -> list[pl.Expr]:
    at = [pl.lit(tile).alias("tile"), pl.lit(partition, pl.Int32).alias("partition")]
    return [*at, pl.col("offset", "kind", "columns", "lake", "source")]


def _unlike(bronze: pl.DataFrame, log: pl.DataFrame) -> pl.DataFrame:
    """Pair the records of a stretch by offset and tell those that differ."""
    values: Sequence[str] = [name for name in _TOLD if name != "offset"]
    twice = bronze.filter(pl.col("offset").is_duplicated())
    both = bronze.unique("offset").join(log, on="offset", how="full", coalesce=True, suffix="_log")
    sides = {
        "lake": pl.struct(values),
        "source": pl.struct(pl.col(f"{name}_log").alias(name) for name in values),
    }
    lacks = {
        side: pl.col("timestamp_type" + end).is_null() for side, end in (("lake", ""), ("source", "_log"))
    }
    columns = [pl.when(pl.col(n).ne_missing(pl.col(f"{n}_log"))).then(pl.lit(n)) for n in values]
    kind = pl.when(lacks["lake"]).then(pl.lit(MISSING)).when(lacks["source"]).then(pl.lit(EXTRA))
    again = pl.col("offset").is_in(twice["offset"].implode())
    told = both.select(
        "offset",
        kind=kind.otherwise(pl.lit(DIFFERENT)),
        columns=pl.when(~lacks["lake"] & ~lacks["source"])
        .then(pl.concat_list(columns).list.drop_nulls())
        .otherwise(pl.lit([], pl.List(pl.String))),
        twice=again,
        **{side: pl.when(~lacks[side]).then(value) for side, value in sides.items()},
    ).filter((pl.col("kind") != DIFFERENT) | (pl.col("columns").list.len() > 0) | pl.col("twice"))
    return told.drop("twice").sort("offset")
