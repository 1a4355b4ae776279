"""A topic's records in batches: every record once, in order, and what is no longer there by name.

Decides when offsets count as read: when the log has shown a place at or after them, so those that carry no
record (transaction marks, aborted and compacted ones) count too. Where the log begins after our place, this
gives a hole, never a silent jump. It refuses to wait for the rest of a range for ever; a tail may be silent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import polars as pl
from confluent_kafka import KafkaError

from resources.kafka_client import refusal
from resources.kafka_fetch import Portions
from resources.kafka_records import Event, Source
from resources.large_blocks import give_back
from sluice.errors import KafkaReadError
from sluice.tables import RECORD

_FAST: Mapping[str, Any] = {
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 10,
    "fetch.queue.backoff.ms": 10,  # the default of a second makes a batch reader four times slower
    "queued.min.messages": 50_000,  # fetched ahead, of all partitions; each costs half a kilobyte besides
    "queued.max.messages.kbytes": 16_384,  # the same in bytes
    "group.id": "sluice",  # never joined: the client asks for a name
}
# Of a partition, and of all: more is not quicker where a broker is near, and is unpacked at once.
_PORTION: Mapping[str, Any] = {"fetch.message.max.bytes": 65_536, "fetch.max.bytes": 1 << 20}
_PATIENCE = 0.02  # seconds that messages are waited for at a time where a range may be at its stop
_TAIL_PATIENCE = 0.2  # the same of a tail: no signal is served meanwhile
_CHUNK_ROWS = 20_000
_CHUNK_BYTES = 16 << 20
_ENDLESS = 2**63 - 1  # the stop of a tail


@dataclass
class Batch:
    """Records (columns: RECORD), and which offsets `[first, next)` of each partition they stand for.

    `holes` has the range of each partition that the log had lost before it was read. `topic_id` was asked for
    after the records were read: only a topic that had this id until then can have given them.
    """

    records: pl.DataFrame
    first_offsets: dict[int, int]
    next_offsets: dict[int, int]
    holes: dict[int, tuple[int, int]] = field(default_factory=dict)
    topic_id: str | None = None


class Reader:
    """Reads one topic's partitions, each from an offset on to its stop, or without end: then it is a tail.

    It belongs to one thread at a time. `lows` tells where the logs of partitions begin, `topic_id` what the
    topic's id is now.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        lows: Callable[[Sequence[int]], Mapping[int, int]],
        topic_id: Callable[[], str],
    ) -> None:
        self._topic = topic
        self._lows = lows
        self._topic_id = topic_id
        self._servers = str(config["bootstrap.servers"])
        self._stops: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._lost: dict[int, bool] = {}  # to be placed where the log has them; whether they were before
        self._fetched: set[int] = set()
        give_back()
        self._source: Source = Portions({**_PORTION, **config, **_FAST}, topic)

    @property
    def positions(self) -> dict[int, int]:
        """Where each partition stands: the next offset to read."""
        return dict(self._next)

    def add(self, places: Mapping[int, int], stops: Mapping[int, int] | None = None) -> None:
        """Read more partitions, each from an offset on, to its stop or without end.

        One that is read already goes on at its new place.
        """
        self.remove(places)
        for partition, place in places.items():
            self._next[partition] = place
            self._stops[partition] = stops[partition] if stops else _ENDLESS
            if place < self._stops[partition]:
                self._lost[partition] = False

    def remove(self, partitions: Iterable[int]) -> None:
        """Read some partitions no longer; those that are not read are passed over."""
        gone = self._next.keys() & set(partitions)
        for partition in gone:
            del self._next[partition], self._stops[partition]
            self._lost.pop(partition, None)
        self._let_go(gone)

    def batches(self, max_rows: int, max_bytes: int, stall_seconds: float) -> Iterator[Batch]:
        """Give batch after batch until all stops are reached: full ones, or what `stall_seconds` brought.

        Raises:
            KafkaReadError: the broker refuses, or nothing moved for `stall_seconds`.
        """
        while self._left():
            before = self.positions
            batch = self.take(max_rows, max_bytes, stall_seconds)
            if self._next != before:
                yield batch
            elif not self._lost:
                where = self._where(self._open())
                raise KafkaReadError(self._topic, f"nothing came for {stall_seconds:g} s: {where}")

    def take(self, max_rows: int, max_bytes: int, seconds: float) -> Batch:
        """Give what comes within `seconds`, sooner where the batch is full or all stops are reached.

        It may have no records and move nothing. Where a partition's place was lost it ends sooner, too: the
        next one begins with the hole.

        Raises:
            KafkaReadError: the broker refuses, or the log ends before an offset that it once had.
        """
        deadline = monotonic() + seconds
        first = {p: self._next[p] for p in self._open()}
        holes = self._place()
        endless = min(self._stops.values(), default=_ENDLESS) == _ENDLESS
        patience = _TAIL_PATIENCE if endless else _PATIENCE
        frames, rows, size, wait = [pl.DataFrame(schema=RECORD)], 0, 0, seconds
        while self._left() and not self._lost and rows < max_rows and size < max_bytes:
            chunk = self._source.take(
                min(max_rows - rows, _CHUNK_ROWS, self._left()),
                min(max_bytes - size, _CHUNK_BYTES),
                min(wait, patience),
            )
            for event in chunk.events:
                self._note(event)
            if chunk.records.height:
                frames.append(self._advance(chunk.records, chunk.reached))
                rows, size = rows + frames[-1].height, size + chunk.size
            wait = deadline - monotonic()
            if wait <= 0:
                break
        after = {p: self._next[p] for p in first}
        return Batch(pl.concat(frames), first, after, holes, self._topic_id() if after != first else None)

    def close(self) -> None:
        """Let go of the brokers; nothing happens the second time."""
        self._source.close()

    def _open(self) -> list[int]:
        return [p for p, stop in self._stops.items() if self._next[p] < stop]

    def _left(self) -> int:
        return sum(self._stops[p] - self._next[p] for p in self._open())

    def _place(self) -> dict[int, tuple[int, int]]:
        """Begin, or go on where the log begins if it has lost our place; give the holes."""
        holes, begins = {}, {}
        lows = self._lows(list(self._lost)) if self._lost else {}
        for partition, again in self._lost.items():
            place, stop = self._next[partition], self._stops[partition]
            begin = max(place, min(lows[partition], stop))
            if begin > place:
                holes[partition] = place, begin
            elif again:
                where = self._where([partition])
                raise KafkaReadError(self._topic, f"the log ends before its known end: {where}")
            self._next[partition] = begin
            if begin < stop:
                begins[partition] = begin
        self._lost = {}
        if begins:
            self._source.begin(begins)
            self._fetched |= begins.keys()
        return holes

    def _note(self, event: Event) -> None:
        code, partition = event.error.code(), event.partition
        if partition in self._next and code == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its only name
            self._reach(partition, event.offset or 0)
        elif partition in self._next and code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  # as above
            self._lost[partition] = True
            self._let_go([partition])
        else:
            self._topic_id()  # it may be gone
            raise refusal(event.error, self._topic, self._servers)

    def _advance(self, frame: pl.DataFrame, reached: Mapping[int, int]) -> pl.DataFrame:
        """Note how far records bring us; give those that are wanted."""
        for partition, place in reached.items():
            stop = self._stops.get(partition, 0)  # one that was removed has nothing to give
            if place > stop:
                frame = frame.filter((pl.col("partition") != partition) | (pl.col("offset") < stop))
            if stop:
                self._reach(partition, place)
        return frame

    def _reach(self, partition: int, place: int) -> None:
        """Note that a partition is read up to a place; at its stop it is let go."""
        stop = self._stops[partition]
        self._next[partition] = min(max(self._next[partition], place), stop)
        if stop <= place:
            self._let_go([partition])

    def _let_go(self, partitions: Iterable[int]) -> None:
        fetched = self._fetched.intersection(partitions)
        self._fetched -= fetched
        if fetched:
            self._source.end(fetched)

    def _where(self, partitions: Iterable[int]) -> str:
        """Tell where partitions stand."""
        ends = {p: f", its range ends at {stop}" for p, stop in self._stops.items() if stop < _ENDLESS}
        return "; ".join(
            f"partition {p} stands at offset {self._next[p]}{ends.get(p, '')}" for p in partitions
        )
