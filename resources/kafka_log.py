"""One partition's log as `sluice.tiles` looks at it: look-ups by time, and the stamps of stretches.

Decides that bounds see every record that was written, committed or not (read uncommitted): a look-up must
give the same answer before and after a transaction ends. It refuses to wait for a broker without end.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from time import monotonic
from typing import Any

import polars as pl
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    IsolationLevel,
    KafkaError,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # forgets to say so

from sluice.errors import KafkaReadError

_MOST = 16  # messages taken at once, with all that they hold
_OUTSTANDING = 100  # look-ups sent before the first answer is awaited: a broker answers them one by one
_PATIENCE = 0.05  # seconds that they are waited for at a time
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
    def _consumer(self) -> Consumer:
        """The client that reads stretches; where look-ups tell all, there is none."""
        return Consumer({**self._config, **_SHORT})

    @cached_property
    def in_order(self) -> bool:
        """Whether the broker stamps the records, and did so when the oldest one came."""
        if not self._broker_stamps:
            return False
        oldest = self._stamps(self.low, self.high, 1)
        return all(kind == TIMESTAMP_LOG_APPEND_TIME for _, kind, _ in oldest)

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
        found = self._stamps(first, stop)
        return pl.DataFrame(
            {"offset": [offset for offset, _, _ in found], "stamp": [stamp for _, _, stamp in found]},
            schema={"offset": pl.Int64, "stamp": pl.Int64},
        )

    def _stamps(self, first: int, stop: int, most: int = _MOST) -> list[tuple[int, int, int]]:
        """Read offset, kind of stamp and stamp of a stretch's records; where `most` is 1, only the first's.

        Nothing else of them is held: a stretch of large records does not fit into memory.
        """
        begin, stop = max(first, self.low), min(stop, self.high)
        found: list[tuple[int, int, int]] = []
        if begin < stop:
            self._consumer.assign([TopicPartition(self._topic, self._partition, begin)])
        deadline = monotonic() + self._timeout
        while begin < stop and not (found and most == 1):
            for message in self._consumer.consume(min(most, stop - begin), _PATIENCE):
                error = message.error()
                if error and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its only name
                    begin = stop
                elif error:
                    raise self._failed(f"offset {begin}: {error}")
                else:
                    begin = (message.offset() or 0) + 1
                    if begin <= stop:
                        found.append((begin - 1, *message.timestamp()))
                    deadline = monotonic() + self._timeout
            if monotonic() > deadline:
                raise self._failed(f"nothing came from offset {begin} for {self._timeout:g} s")
        return found

    def _failed(self, what: str) -> KafkaReadError:
        return KafkaReadError(self._topic, f"partition {self._partition}: {what}")
