"""What shows that the lake is past a cluster time of MongoDB, and which changes are later than it.

The connector reads one stream in the order of cluster times: any change, or any place that it has committed,
that lies behind the time shows that it has passed. A heartbeat by itself does not: it tells the clock of the
connector, which may be behind; but it makes the connector commit its place. Unwrapped rows that tell no
ordinal are judged by their second; what tells no time counts as seen.
"""

from collections.abc import Mapping

import polars as pl
from bson import Timestamp

from assets import as_of
from assets.as_of_postgres import SKEW
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import tables
from sluice.contract import Stream
from sluice.errors import MarkerLateError
from sluice.sources import Mongo
from sluice.tables import ROW_COORDINATES

_FIX = (
    "see that the connector runs; for a collection that is seldom written, set its `heartbeat.interval.ms` "
    "and name the topic of its worker's offsets in `messages` of the source"
)
_RESUMED = r"^(?:82|.*\"_data\"\s*:\s*\"82)([0-9a-fA-F]{8})([0-9a-fA-F]{8})2[bB]"


def passing(kafka: KafkaResource, stream: Stream, source: Mongo) -> dict[str, dict[int, int]]:
    """Give the topics that show how far the connector is, and the ends of their partitions now."""
    names = dict.fromkeys([stream.topic, *([source.messages] if source.messages else [])])
    return {name: as_of.ends(kafka, name) for name in names}


def ends_after(
    kafka: KafkaResource,
    stream: Stream,
    source: Mongo,
    time: Timestamp,
    seen: Mapping[str, Mapping[int, int]],
) -> Mapping[int, int]:
    """Wait until the connector is past a time, and give the ends of the stream's partitions then.

    `seen` is of `passing`, before the time.

    Raises:
        MarkerLateError: it did not get there.
        KafkaUnreachableError, KafkaReadError, TopicMissingError: as they say.
    """
    prefix = stream.topic.removesuffix(f".{source.collection}")
    key, value = pl.col("key"), pl.col("value")
    mine = key.str.contains(f'"server_id":"{prefix}"', literal=True)
    other = key.str.contains('"server_id"', literal=True) & ~mine  # connectors of one worker share a topic
    reads = ~_member(as_of.texts("value"), "snapshot").is_in(
        ["false"]
    )  # their time says nothing of their place

    def shows(records: pl.DataFrame) -> bool:
        told = records.select(as_of.texts("key"), as_of.texts("value"))
        told = told.filter(~other.fill_null(value=False), ~reads.fill_null(value=False))
        return bool(told.select((_time(value) > _number(time)).any()).item())

    awaited = f"anything later than cluster time ({time.time}, {time.inc}) in {' or '.join(seen)}"
    late = MarkerLateError(stream.name, awaited, as_of.WAIT, _FIX)
    return as_of.ends_when(kafka, stream, seen, shows, late)


def later(lake: Lake, stream: Stream, time: Timestamp) -> pl.DataFrame:
    """Give the changes of silver that are later than a cluster time (columns ROW_COORDINATES).

    They were written to Kafka since, but for how much the clocks differ.
    """
    is_later = (_time(pl.col("value")) > _number(time)).fill_null(value=False)
    told = [pl.col(name[1:]).alias(name) for name in ROW_COORDINATES]
    parts = [
        records.filter(is_later).select(told).collect(engine="streaming")
        for records in as_of.recent(lake, stream, time.as_datetime() - SKEW)
    ]
    none = pl.DataFrame(schema={name: tables.silver(stream).columns[name] for name in ROW_COORDINATES})
    return pl.concat([none, *parts])


def _number(time: Timestamp) -> int:
    """Write a cluster time as the server compares it."""
    return int(time.time) << 32 | int(time.inc)


def _time(value: pl.Expr) -> pl.Expr:
    """Read the cluster time of a change, of a change stream's own event, or of a place that was committed."""
    token = value.str.json_path_match("$.resume_token")
    hexes = (token.str.extract(_RESUMED, group).str.to_integer(base=16, strict=False) for group in (1, 2))
    paths = [
        (_member(value, "ts_ms").cast(pl.Int64, strict=False) // 1000, _member(value, "ord")),
        tuple(value.str.json_path_match(f"$.clusterTime['$timestamp'].{name}") for name in "ti"),
        tuple(hexes),
        tuple(value.str.json_path_match(f"$.{name}") for name in ("sec", "ord")),
    ]
    told = [
        seconds.cast(pl.UInt64, strict=False) * 2**32 + count.cast(pl.UInt64, strict=False).fill_null(0)
        for seconds, count in paths
    ]
    return pl.coalesce(told)


def _member(value: pl.Expr, name: str) -> pl.Expr:
    """Read a member of the block `source`, of values with and without their schema, or unwrapped."""
    paths = (f"$.payload.source.{name}", f"$.source.{name}", f"$.__source_{name}")
    return pl.coalesce(value.str.json_path_match(path) for path in paths)
