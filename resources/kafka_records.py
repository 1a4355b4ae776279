"""Kafka's messages to columns: each record as it came, with its coordinates.

Decides how a record looks in `tables.RECORD`. It refuses nothing: null and empty stay apart, headers keep
their order and repeat, and a stamp that no calendar has is kept as its number, with a null time.
"""

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import polars as pl
import pyarrow as pa
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Message

from sluice.tables import RECORD

_FIRST_MS = -62_135_596_800_000  # 0001-01-01
_LAST_MS = 253_402_300_799_999  # 9999-12-31
_TYPES = {TIMESTAMP_CREATE_TIME: "CreateTime", TIMESTAMP_LOG_APPEND_TIME: "LogAppendTime"}
_NONE_MS = -1
_HEADERS = pa.struct([("key", pa.large_string()), ("value", pa.large_binary())])


def records(topic: str, messages: Sequence[Message]) -> tuple[pl.DataFrame, int]:
    """Give messages of one topic as a frame (columns: RECORD), and how many bytes they carry."""
    keys = [message.key() for message in messages]
    values = [message.value() for message in messages]
    kinds = [message.timestamp()[0] for message in messages]  # keeping the pairs would wake the collector
    headers, header_bytes = _headers([message.headers() for message in messages])
    milliseconds = pl.Series("timestamp_ms", [message.timestamp()[1] for message in messages], pl.Int64)
    known = (milliseconds != _NONE_MS) & (milliseconds >= _FIRST_MS) & (milliseconds <= _LAST_MS)
    key, value = (pa.array(column, pa.large_binary()) for column in (keys, values))
    frame = pl.DataFrame(
        [
            pl.repeat(topic, len(messages), dtype=pl.String, eager=True).alias("topic"),
            pl.Series("partition", [message.partition() for message in messages], pl.Int32),
            pl.Series("offset", [message.offset() for message in messages], pl.Int64),
            milliseconds,
            _time(milliseconds, known),
            pl.Series("timestamp_type", [_TYPES.get(kind, "NotAvailable") for kind in kinds], pl.String),
            pl.Series("key", key),
            pl.Series("value", value),
            pl.Series("headers", headers),
        ],
        schema=RECORD,
    )
    return frame, key.nbytes + value.nbytes + header_bytes


def _time(milliseconds: pl.Series, known: pl.Series) -> pl.Series:
    """Give stamps as times, null where they are not known."""
    told = milliseconds.to_frame().select(pl.when(known).then(pl.col("timestamp_ms"))).to_series()
    return told.cast(pl.Datetime("ms", "UTC")).cast(RECORD["timestamp"]).alias("timestamp")


def _headers(headers: Sequence[Any]) -> tuple[pa.Array, int]:
    """Give each record's headers as a list of keys and values; an empty one where it has none."""
    flat = list(chain.from_iterable(filter(None, headers)))
    pairs = pa.StructArray.from_arrays(
        [
            pa.array([name for name, _ in flat], pa.large_string()),
            pa.array([value for _, value in flat], pa.large_binary()),
        ],
        fields=list(_HEADERS),
    )
    ends = accumulate((len(own) if own else 0 for own in headers), initial=0)
    return pa.LargeListArray.from_arrays(pa.array(list(ends), pa.int64()), pairs), pairs.nbytes
