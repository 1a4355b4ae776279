"""The lake brought past a position of its database.

Decides when the lake has passed: when the connector has delivered something that lies behind the position in
the database's log, the ends of the topic's partitions are taken, and bronze and silver must reach them. What
shows that is each database's own matter, and so is which changes are later (`as_of_postgres`,
`as_of_mongodb`). It refuses to judge a lake whose connector does not get there in time.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import polars as pl
from polars.exceptions import ComputeError

from assets import bounds
from assets.ingest import Limits, ingest
from assets.progress import position
from assets.refine import refine
from assets.repair import due
from resources.data_files import DataFiles
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import tables
from sluice.contract import Stream
from sluice.errors import MarkerLateError, TopicMissingError

WAIT = 120.0  # seconds for the connector
_LOOK = 0.2  # seconds between two looks
_ROUNDED = 1000  # microseconds by which the log may tell of an earlier time than a file has
_LIMITS = Limits(500_000, 256 << 20)
Say = Callable[[str], None]


def ends_when(
    kafka: KafkaResource,
    stream: Stream,
    seen: Mapping[str, Mapping[int, int]],
    shows: Callable[[pl.DataFrame], bool],
    late: MarkerLateError,
) -> Mapping[int, int]:
    """Wait until a record shows that the connector has passed; give the ends of the stream's partitions then.

    Args:
        kafka: where the topics are.
        stream: the contract.
        seen: topics to look into, and the ends of their partitions from which on to look.
        shows: tells whether a batch of records does.
        late: what is raised where none comes in time.

    Raises:
        KafkaUnreachableError, KafkaReadError, TopicMissingError: as they say.
    """
    places = {name: dict(ends) for name, ends in seen.items()}
    deadline = time.monotonic() + WAIT
    while True:
        for name, known in places.items():
            now = ends(kafka, name)
            ranges = {p: (known.get(p, 0), end) for p, end in now.items() if end > known.get(p, 0)}
            for batch in kafka.read(name, ranges, max_rows=10_000, max_bytes=16 << 20) if ranges else ():
                if shows(batch.records):
                    return ends(kafka, stream.topic)
            known.update(now)
        if time.monotonic() > deadline:
            raise late
        time.sleep(_LOOK)


def ends(kafka: KafkaResource, name: str) -> dict[int, int]:
    """Give the ends of a topic's partitions, up to which all transactions are over; none if there is none."""
    try:
        topic = kafka.topic(name)
    except TopicMissingError:  # the connector makes it with its first message
        return {}
    return {p: marks.stable for p, marks in kafka.watermarks(name, list(topic.partitions)).items()}


def catch_up(
    lake: Lake, kafka: KafkaResource, stream: Stream, run_id: str, ends: Mapping[int, int], say: Say
) -> None:
    """Bring bronze and silver up to some offsets, and beyond them to what there is.

    Raises:
        MarkerLateError: the log's tiles do not reach there.
        KafkaReadError, OpenTransactionError, LakeError, RaceLostError: as they say.
    """
    now = datetime.now(UTC)
    stored = bounds.stored(lake, stream)
    closed = stored.group_by("tile").agg(pl.col("closed_at").is_not_null().all()).filter("closed_at")["tile"]
    wanted = [w.tile for w in stream.partitions.windows(now) if w.tile not in set(closed)]
    ingest(lake, kafka, stream, wanted, run_id=run_id, limits=_LIMITS, say=say)
    refine(lake, stream, [*wanted, *due(lake, stream)], run_id=run_id, limits=_LIMITS, say=say)
    for layer in (tables.bronze(stream), tables.silver(stream)):
        handle = lake.ensure(layer)
        reached: dict[int, int] = {}
        for bound in bounds.every_epoch(lake, stream):
            if bound.epoch == stream.epoch:
                at = position(handle, stream, bound)
                reached[bound.partition] = max(at, reached.get(bound.partition, 0))
        if behind := {p: end for p, end in ends.items() if end > reached.get(p, 0)}:
            raise MarkerLateError(stream.name, f"{layer.name} up to {behind}", 0)


def recent(lake: Lake, stream: Stream, since: datetime) -> Iterator[pl.LazyFrame]:
    """Give the records of bronze since a time, or of no known time, file by file: memory is that of one."""
    handle = lake.open(tables.bronze(stream).name)
    if handle is None:
        return
    files = DataFiles(lake, handle)
    least = pl.lit(since).cast(tables.UTC_TIME)
    listed = files.listed(["max.timestamp", "null_count.timestamp"])
    untold = pl.col("max.timestamp").is_null() | (pl.col("null_count.timestamp").ne_missing(0))
    likely = listed.filter(untold | (pl.col("max.timestamp") >= least.dt.epoch("us") - _ROUNDED))
    for path in likely["path"]:
        told = (pl.col("timestamp") >= least).fill_null(value=True)
        yield files.read([path]).filter(told).with_columns(texts("value"))


def texts(name: str) -> pl.Expr:
    """Give a binary column as texts; null where the bytes are no UTF-8."""
    return pl.col(name).map_batches(_decoded, return_dtype=pl.String)


def _decoded(values: pl.Series) -> pl.Series:
    try:
        return values.cast(pl.String)
    except ComputeError:  # some are none
        return pl.Series(values.name, [_text(value) for value in values], dtype=pl.String)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
