"""What shows that the lake is past a snapshot of PostgreSQL, and which changes are later than it.

A marker is written into the database's log after the snapshot, and the connector delivers it. Which changes
are later is told by their transactions: those that the snapshot does not see.
"""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from assets import as_of
from resources.kafka import KafkaResource
from resources.lake import Lake
from resources.source_postgres import Visible, emit_marker, is_marker
from sluice import tables
from sluice.contract import Stream
from sluice.errors import MarkerLateError
from sluice.sources import Postgres
from sluice.tables import ROW_COORDINATES

SKEW = timedelta(minutes=10)  # between the clocks of the database and of those who write to Kafka


def ends_after_marker(kafka: KafkaResource, stream: Stream, source: Postgres, dsn: str) -> Mapping[int, int]:
    """Write a marker, wait for it, and give the ends of the stream's partitions after it.

    Raises:
        MarkerLateError: the connector did not deliver it.
        SourceUnreachableError, KafkaUnreachableError, KafkaReadError, TopicMissingError: as they say.
    """
    messages = source.messages or f"{stream.topic.split('.')[0]}.message"
    seen = {messages: as_of.ends(kafka, messages)}
    content, _ = emit_marker(source, dsn)

    def shows(records: pl.DataFrame) -> bool:
        return any(is_marker(value, content) for value in records["value"])

    return as_of.ends_when(kafka, stream, seen, shows, MarkerLateError(stream.name, messages, as_of.WAIT))


def later(lake: Lake, stream: Stream, visible: Visible) -> pl.DataFrame:
    """Give the changes of silver that a snapshot does not see (columns ROW_COORDINATES).

    A transaction that the snapshot does not see was committed after the oldest one began that ran then, so
    its records were written to Kafka since. What a connector read itself counts by its place in the log.
    """
    value = pl.col("value")
    told = [
        *(pl.col(name[1:]).alias(name) for name in ROW_COORDINATES),
        *(_member(value, name).alias(name) for name in ("txId", "lsn", "sequence", "snapshot")),
    ]
    parts = [
        _unseen(records.filter(value.is_not_null()).select(told).collect(engine="streaming"), visible)
        for records in as_of.recent(lake, stream, visible.oldest - SKEW)
    ]
    none = pl.DataFrame(schema={name: tables.silver(stream).columns[name] for name in ROW_COORDINATES})
    return pl.concat([none, *parts])


def _unseen(rows: pl.DataFrame, visible: Visible) -> pl.DataFrame:
    """Give the changes among some that a snapshot does not see (columns ROW_COORDINATES)."""
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
