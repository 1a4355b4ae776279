"""Ranges of a topic in batches: every record once, in order, and what is no longer there by name.

Decides when a range is read: when the log has shown a place at or after its end, so offsets that carry no
record (transaction marks, aborted and compacted ones) count as read. A range that begins before the log does
gives a hole, never a silent jump. It refuses to wait for records without end.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import polars as pl
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from resources.kafka_records import records
from sluice.errors import KafkaReadError
from sluice.tables import RECORD

_FAST: Mapping[str, Any] = {
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 10,
    "fetch.queue.backoff.ms": 10,  # the default of a second makes a batch reader four times slower
    "queued.max.messages.kbytes": 65_536,
    "group.id": "sluice",  # never joined: the client asks for a name
}
_QUEUED = 200_000  # messages fetched ahead, over all partitions; each costs half a kilobyte besides its bytes
_PATIENCE = 0.1  # seconds that messages are waited for at a time
_CHUNK_ROWS = 20_000
_CHUNK_BYTES = 16 << 20
_FIRST_CHUNK = 500  # until the size of records is known


@dataclass
class Batch:
    """Records (columns: RECORD), and which offsets `[first, next)` of each partition they stand for.

    `holes` has the range of each partition that the log had lost before it was read.
    """

    records: pl.DataFrame
    first_offsets: dict[int, int]
    next_offsets: dict[int, int]
    holes: dict[int, tuple[int, int]] = field(default_factory=dict)


class Reader:
    """Reads ranges `[first, stop)` of one topic's partitions, once."""

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        ranges: Mapping[int, tuple[int, int]],
        lows: Callable[[Sequence[int]], Mapping[int, int]],
        *,
        stall_seconds: float,
    ) -> None:
        self._topic = topic
        self._lows = lows
        self._stall = stall_seconds
        self._stops = {p: stop for p, (first, stop) in ranges.items() if first < stop}
        self._next = {p: ranges[p][0] for p in self._stops}
        self._lost = list(self._stops)  # to be placed where the log has them
        self._placed: set[int] = set()
        self._row_bytes = _CHUNK_BYTES // _FIRST_CHUNK
        ahead = max(1, min(_QUEUED, self._left()) // max(1, len(self._stops)))
        self._consumer = Consumer({**config, **_FAST, "queued.min.messages": ahead})

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """Give batch after batch, until all ranges are read.

        Raises:
            KafkaReadError: the broker refuses, or nothing moved for `stall_seconds`.
        """
        try:
            while self._left():
                yield self._batch(max_rows, max_bytes)
        finally:
            self._consumer.close()

    def _left(self) -> int:
        return sum(stop - self._next[p] for p, stop in self._stops.items())

    def _batch(self, max_rows: int, max_bytes: int) -> Batch:
        first = {p: place for p, place in self._next.items() if place < self._stops[p]}
        holes = self._place()
        frames, rows, size = [pl.DataFrame(schema=RECORD)], 0, 0
        deadline = monotonic() + self._stall
        while self._left() and not self._lost and rows < max_rows and size < max_bytes:
            most = min(_CHUNK_BYTES, max_bytes - size) // self._row_bytes
            most = max(1, min(most, max_rows - rows, _CHUNK_ROWS, self._left()))
            before = self._left()
            frame, read = records(self._topic, self._take(most))
            if frame.height:
                self._row_bytes = max(1, read // frame.height)
                frames.append(self._advance(frame))
                rows, size = rows + frames[-1].height, size + read
            if self._left() < before:
                deadline = monotonic() + self._stall
            elif monotonic() > deadline:
                raise KafkaReadError(self._topic, f"nothing came for {self._stall:g} s: {self._where()}")
        stops = {p: self._next[p] for p in first}
        return Batch(pl.concat(frames), first, stops, holes)

    def _place(self) -> dict[int, tuple[int, int]]:
        """Begin, or go on where the log begins if it has lost our place; give the holes."""
        holes = {}
        lows = self._lows(self._lost) if self._lost else {}
        for partition in self._lost:
            place, stop = self._next[partition], self._stops[partition]
            begin = max(place, min(lows[partition], stop))
            if begin > place:
                holes[partition] = place, begin
            elif partition in self._placed:
                raise KafkaReadError(self._topic, f"the log ends before its known end: {self._where()}")
            self._next[partition] = begin
            if begin < stop:
                self._consumer.incremental_assign([TopicPartition(self._topic, partition, begin)])
                self._placed.add(partition)
        self._lost = []
        return holes

    def _take(self, most: int) -> list[Message]:
        """Take messages from the client, and note what it says between them."""
        taken = self._consumer.consume(most, _PATIENCE)
        good = [message for message in taken if message.error() is None]
        if len(good) < len(taken):
            for message in taken:
                error = message.error()
                if error is not None:
                    self._note(error, message.partition() or 0, message.offset())
        return good

    def _note(self, error: KafkaError, partition: int, offset: int | None) -> None:
        code = error.code()
        if partition in self._next and code == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its only name
            self._reach(partition, offset or 0)
        elif partition in self._next and code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  # as above
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
            self._lost.append(partition)
        else:
            raise KafkaReadError(self._topic, f"{error}: {self._where()}")

    def _advance(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Note how far records bring us; give those that are within the ranges."""
        lasts = frame.group_by("partition").agg(pl.col("offset").max())
        beyond = [(p, self._stops[p]) for p, last in lasts.iter_rows() if last >= self._stops[p]]
        for partition, last in lasts.iter_rows():
            self._reach(partition, last + 1)
        for partition, stop in beyond:
            frame = frame.filter((pl.col("partition") != partition) | (pl.col("offset") < stop))
        return frame

    def _reach(self, partition: int, place: int) -> None:
        """Note that a partition is read up to a place; at the end of its range it is let go."""
        before, stop = self._next[partition], self._stops[partition]
        self._next[partition] = min(max(before, place), stop)
        if before < stop <= place:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def _where(self) -> str:
        """Tell where the partitions stand that are not read to their end."""
        return ", ".join(
            f"partition {p} stands at offset {self._next[p]}, its range ends at {stop}"
            for p, stop in self._stops.items()
            if self._next[p] < stop
        )
