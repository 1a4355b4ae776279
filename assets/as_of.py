"""The lake brought past a position of its database, and what in it is later than that.

Decides when the lake has passed: a marker is written into the database's log after the snapshot; when the
connector has delivered it, the ends of the topic's partitions are taken, and bronze and silver must reach
them. Which changes are later is told by their transactions: those that the snapshot does not see. It refuses
to judge a lake whose connector does not deliver the marker in time.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import polars as pl

from assets import bounds
from assets.ingest import Limits, ingest
from assets.progress import position
from assets.refine import refine
from assets.repair import due
from resources.kafka import KafkaResource
from resources.lake import Lake
from resources.source_postgres import Visible, emit_marker, is_marker
from sluice import tables
from sluice.contract import Stream
from sluice.errors import MarkerLateError, TopicMissingError
from sluice.sources import Postgres
from sluice.tables import ROW_COORDINATES

WAIT = 120.0  # seconds for the marker
_LOOK = 0.2  # seconds between two looks
_SKEW = timedelta(minutes=10)  # between the clocks of the database and of those who write to Kafka
_LIMITS = Limits(500_000, 256 << 20)
Say = Callable[[str], None]


def ends_after_marker(kafka: KafkaResource, stream: Stream, source: Postgres, dsn: str) -> Mapping[int, int]:
    """Write a marker, wait for it, and give the ends of the stream's partitions after it.

    Raises:
        MarkerLateError: the connector did not deliver it.
        SourceUnreachableError, KafkaUnreachableError, KafkaReadError, TopicMissingError: as they say.
    """
    messages = source.messages or f"{stream.topic.split('.')[0]}.message"
    seen = _ends(kafka, messages)
    content, _ = emit_marker(source, dsn)
    deadline = time.monotonic() + WAIT
    while True:
        now = _ends(kafka, messages)
        ranges = {p: (seen.get(p, 0), end) for p, end in now.items() if end > seen.get(p, 0)}
        for batch in kafka.read(messages, ranges, max_rows=10_000, max_bytes=16 << 20) if ranges else ():
            if any(is_marker(value, content) for value in batch.records["value"]):
                return _ends(kafka, stream.topic)
        seen = {**seen, **now}
        if time.monotonic() > deadline:
            raise MarkerLateError(stream.name, messages, WAIT)
        time.sleep(_LOOK)


def _ends(kafka: KafkaResource, name: str) -> dict[int, int]:
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


def later(lake: Lake, stream: Stream, visible: Visible) -> pl.DataFrame:
    """Give the changes of silver that a snapshot does not see (columns ROW_COORDINATES).

    A transaction that the snapshot does not see was committed after the oldest one began that ran then, so
    its records were written to Kafka since. What a connector read itself counts by its place in the log.
    """
    since = pl.lit(visible.oldest - _SKEW).cast(tables.UTC_TIME)
    recent = lake.read(tables.bronze(stream)).filter((pl.col("timestamp") >= since).fill_null(value=True))
    value = pl.col("value").cast(pl.String, strict=False)
    found = recent.filter(value.is_not_null()).select(
        *(pl.col(name[1:]).alias(name) for name in ROW_COORDINATES),
        *(_member(value, name).alias(name) for name in ("txId", "lsn", "sequence", "snapshot")),
    )
    rows = found.collect()
    reads = ~pl.col("snapshot").is_in(["false"]).fill_null(value=True)
    place = pl.coalesce("lsn", pl.col("sequence").str.extract(r'"([0-9]+)"\]$')).cast(pl.Int64, strict=False)
    whole = pl.col("txId").cast(pl.Int64, strict=False)
    known = {n: visible.sees(n) for n in rows.select(whole.drop_nulls().unique()).to_series()}
    sees = whole.replace_strict(known, default=None, return_dtype=pl.Boolean)
    by_place = place <= visible.lsn
    seen = pl.when(reads | sees.is_null()).then(by_place).otherwise(sees)
    return rows.filter(~seen.fill_null(value=True)).select(ROW_COORDINATES)


def _member(value: pl.Expr, name: str) -> pl.Expr:
    """Read a member of the block `source`, of values with and without their schema, or unwrapped."""
    paths = (f"$.payload.source.{name}", f"$.source.{name}", f"$.__source_{name}", f"$.__{name}")
    return pl.coalesce(value.str.json_path_match(path) for path in paths)
