"""One partition's log as `sluice.tiles` looks at it: look-ups by time, and the stamps of stretches.

Decides that bounds see every record that was written, committed or not (read uncommitted): a look-up must
give the same answer before and after a transaction ends. It refuses to wait for a broker without end.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from time import monotonic
from typing import Any

import polars as pl
from confluent_kafka import IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # forgets to say so

from resources.kafka_fetch import Portions
from resources.kafka_records import Source
from sluice.errors import KafkaReadError

_MOST = 4_000  # records taken at once, with all that they hold
_MOST_BYTES = 4 << 20  # the same in bytes
_OUTSTANDING = 100  # look-ups sent before the first answer is awaited: a broker answers them one by one
_PATIENCE = 0.05  # seconds that records are waited for at a time
_NOTHING = pl.DataFrame(schema={"offset": pl.Int64, "stamp": pl.Int64})
_STAMPS = [pl.col("offset"), pl.col("timestamp_ms").alias("stamp"), pl.col("timestamp_type").alias("kind")]
_SHORT: Mapping[str, Any] = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_uncommitted",
    "fetch.wait.max.ms": 10,
    "fetch.queue.backoff.ms": 10,
    "queued.min.messages": 1_000,  # a stretch is short: what is fetched beyond it is thrown away
    "fetch.message.max.bytes": 262_144,
    "queued.max.messages.kbytes": 2_048,  # the same, where messages are large
    "group.id": "sluice",  # never joined: the client asks for a name
}


class PartitionLog:
    """The log of one Kafka partition as it was when this was made; a `sluice.tiles.Log`."""

    def __init__(
        self,
        config: Mapping[str, Any],
        place: tuple[str, int],
        span: tuple[int, int],
        ask: Callable[..., dict[int, Any]],
        *,
        broker_stamps: bool,
        timeout: float,
    ) -> None:
        self.low, self.high = span
        self._topic, self._partition = place
        self._broker_stamps = broker_stamps
        self._timeout = timeout
        self._config = config
        self._ask = ask

    @cached_property
    def _source(self) -> Source:
        """What reads stretches; where look-ups tell all, there is none."""
        options = {**self._config, **_SHORT}
        return Portions(options, self._topic)

    @cached_property
    def in_order(self) -> bool:
        """Whether the broker stamps the records, and did so when the oldest one came."""
        if not self._broker_stamps:
            return False
        with closing(self._read(self.low, self.high, 1)) as oldest:
            first = next(oldest, None)
        return first is None or (first["kind"] == "LogAppendTime").all()

    def offsets_for_times(self, times_ms: Sequence[int]) -> list[int | None]:
        """Give for each time (epoch milliseconds) the first offset whose stamp is that or later, if any.

        Raises:
            KafkaUnreachableError, KafkaReadError: the broker does not tell.
        """
        found: dict[int, Any] = {}
        for at in range(0, len(times_ms), _OUTSTANDING):
            wanted = [ms for ms in dict.fromkeys(times_ms[at:][:_OUTSTANDING]) if ms not in found]
            found |= self._ask(self._look_up, wanted)
        offsets = [found[ms].offset for ms in times_ms]
        return [offset if 0 <= offset < self.high else None for offset in offsets]

    def _look_up(self, admin: Any, times_ms: Sequence[int], seconds: float) -> dict[int, Any]:
        """Ask for some times, each by itself: one call can carry no two about the same partition."""
        asked = {}
        for ms in times_ms:
            spec = OffsetSpec.for_timestamp(max(ms, 0))  # negative ones mean something else
            place = {TopicPartition(self._topic, self._partition): spec}
            answer = admin.list_offsets(
                place, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=seconds
            )
            asked[ms] = next(iter(answer.values()))
        return asked

    def stamps(self, first: int, stop: int) -> pl.DataFrame:
        """Give `offset` and `stamp` (epoch milliseconds) of the records in `[first, stop)`, in order.

        Raises:
            KafkaReadError: the stretch cannot be read.
        """
        return pl.concat([_NOTHING, *(found.drop("kind") for found in self._read(first, stop, _MOST))])

    def _read(self, first: int, stop: int, most: int) -> Generator[pl.DataFrame, None, None]:
        """Read `offset`, `stamp` and its `kind` of a stretch's records, at most so many at a time.

        Nothing else of them is held: a stretch of large records does not fit into memory.
        """
        begin, stop = max(first, self.low), min(stop, self.high)
        if begin >= stop:
            return
        self._source.begin({self._partition: begin})
        try:
            deadline = monotonic() + self._timeout
            while begin < stop:
                chunk = self._source.take(min(most, stop - begin), _MOST_BYTES, _PATIENCE)
                for event in chunk.events:
                    if event.error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its only name
                        raise self._failed(f"offset {begin}: {event.error}")
                    begin = stop
                if chunk.records.height:
                    begin = max(begin, chunk.reached[self._partition])
                    deadline = monotonic() + self._timeout
                    yield chunk.records.filter(pl.col("offset") < stop).select(_STAMPS)
                if monotonic() > deadline:
                    raise self._failed(f"nothing came from offset {begin} for {self._timeout:g} s")
        finally:
            self._source.end([self._partition])

    def _failed(self, what: str) -> KafkaReadError:
        return KafkaReadError(self._topic, f"partition {self._partition}: {what}")
