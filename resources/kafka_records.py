"""Kafka's messages to columns: each record as it came, with its coordinates.

Decides how a record looks in `tables.RECORD`, and what a source of records is. It refuses nothing: null and
empty stay apart, headers keep their order and repeat, and a stamp that no calendar has is kept as its number,
with a null time.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple, Protocol

import polars as pl
import pyarrow as pa
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from sluice.errors import KafkaReadError
from sluice.tables import RECORD

FIRST_MS = -62_135_596_800_000  # 0001-01-01
LAST_MS = 253_402_300_799_999  # 9999-12-31
_TYPES = {TIMESTAMP_CREATE_TIME: "CreateTime", TIMESTAMP_LOG_APPEND_TIME: "LogAppendTime"}
_NONE_MS = -1
_HEADERS = pa.struct([("key", pa.large_string()), ("value", pa.large_binary())])
_FIRST_TAKE = 500  # messages, until the size of records is known


class Event(NamedTuple):
    """What the client says between records: an error or the end of a partition, and where."""

    error: KafkaError
    partition: int | None
    offset: int | None


class Chunk(NamedTuple):
    """Records (columns: RECORD), and the bytes of their keys, values and headers.

    `reached` has the offset after the last record of each partition; `events` came between the records.
    """

    records: pl.DataFrame
    size: int
    reached: Mapping[int, int]
    events: Sequence[Event]


class Source(Protocol):
    """A client that fetches one topic's records ahead, those of each partition in order."""

    def begin(self, places: Mapping[int, int]) -> None:
        """Fetch more partitions, each from an offset on."""

    def end(self, partitions: Iterable[int]) -> None:
        """Fetch some partitions no longer; what was fetched of them is dropped."""

    def take(self, rows: int, size: int, seconds: float) -> Chunk:
        """Give what has come, at most `rows` and about `size` bytes; wait up to `seconds` for so much."""

    def close(self) -> None:
        """Let go of the brokers; nothing happens the second time."""


class Messages:
    """The source that works everywhere: the client's own Python messages."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._topic = topic
        self._row_bytes = 0
        self._consumer = Consumer(dict(config))

    def begin(self, places: Mapping[int, int]) -> None:
        """As `Source` says."""
        self._consumer.incremental_assign([TopicPartition(self._topic, p, at) for p, at in places.items()])

    def end(self, partitions: Iterable[int]) -> None:
        """As `Source` says."""
        self._consumer.incremental_unassign([TopicPartition(self._topic, p) for p in partitions])

    def take(self, rows: int, size: int, seconds: float) -> Chunk:
        """As `Source` says; the bytes of records are guessed from those before."""
        most = size // self._row_bytes if self._row_bytes else _FIRST_TAKE
        taken = self._consumer.consume(max(1, min(rows, most)), seconds)
        good = [message for message in taken if message.error() is None]
        events = []
        if len(good) < len(taken):
            told = ((message.error(), message.partition(), message.offset()) for message in taken)
            events = [Event(error, *place) for error, *place in told if error is not None]
        frame, read = records(self._topic, good)
        if good:
            self._row_bytes = max(1, read // len(good))
        lasts = frame.group_by("partition").agg(pl.col("offset").max() + 1)
        return Chunk(frame, read, dict(lasts.iter_rows()), events)

    def close(self) -> None:
        """As `Source` says."""
        self._consumer.close()


def records(topic: str, messages: Sequence[Message]) -> tuple[pl.DataFrame, int]:
    """Give messages of one topic as a frame (columns: RECORD), and how many bytes they carry."""
    keys = [message.key() for message in messages]
    values = [message.value() for message in messages]
    kinds = [message.timestamp()[0] for message in messages]  # keeping the pairs would wake the collector
    headers, header_bytes = _headers([_own(topic, message) for message in messages])
    milliseconds = pl.Series("timestamp_ms", [message.timestamp()[1] for message in messages], pl.Int64)
    known = (milliseconds != _NONE_MS) & (milliseconds >= FIRST_MS) & (milliseconds <= LAST_MS)
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


def _own(topic: str, message: Message) -> Any:
    """Give a message's headers; the Python client cannot read them where a name is no UTF-8."""
    try:
        return message.headers()
    except (SystemError, UnicodeDecodeError) as error:
        place = f"partition {message.partition()}, offset {message.offset()}"
        raise KafkaReadError(
            topic,
            f"{place}: a header's name is not UTF-8; build the machine code (`make setup`), which reads it",
        ) from error


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
