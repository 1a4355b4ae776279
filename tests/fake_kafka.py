"""A Kafka in memory with the resource's methods, for tests of what is behind it; proves nothing of Kafka."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event

import polars as pl

from resources.kafka import Batch, KafkaResource, Topic, Watermarks
from sluice.errors import KafkaReadError, KafkaUnreachableError, TopicMissingError
from sluice.tables import RECORD


@dataclass
class FakeLog:
    """One partition: records by offset, in order; an offset without a record is a gap."""

    records: dict[int, dict] = field(default_factory=dict)
    low: int = 0
    high: int = 0
    stable: int | None = None  # None: no transaction is open
    in_order: bool = False

    def offsets_for_times(self, times_ms) -> list[int | None]:
        known = self._known.filter(pl.col("offset") >= self.low)
        highest = known["stamp"].cum_max()
        places = [highest.search_sorted(ms) for ms in times_ms]
        return [None if place == known.height else known["offset"][place] for place in places]

    def stamps(self, first: int, stop: int) -> pl.DataFrame:
        offsets = self._known["offset"]
        begin, end = (offsets.search_sorted(edge) for edge in (max(first, self.low), max(stop, self.low)))
        return self._known[begin:end]

    def between(self, first: int, stop: int) -> list[dict]:
        """Give the records of a range."""
        return [self.records[offset] for offset in self.stamps(first, stop)["offset"]]

    @property
    def _known(self) -> pl.DataFrame:
        size, kept = vars(self).get("_kept", (-1, None))
        if size != (len(self.records), self.high):
            rows = [
                (o, r["timestamp_ms"]) for o, r in list(self.records.items())
            ]  # another thread may produce
            kept = pl.DataFrame(rows, schema={"offset": pl.Int64, "stamp": pl.Int64}, orient="row")
            vars(self)["_kept"] = (len(self.records), self.high), kept
        return kept


class FakeKafka:
    """Topics by name."""

    def __init__(self) -> None:
        self.topics: dict[str, list[FakeLog]] = {}
        self.ids: dict[str, str] = {}
        self.down = False

    def create(self, name: str, partitions: int = 1, topic_id: str = "id-1") -> str:
        """Make a topic; one of that name is forgotten."""
        self.topics[name] = [FakeLog() for _ in range(partitions)]
        self.ids[name] = topic_id
        return name

    def grow(self, name: str) -> int:
        """Add a partition."""
        self.topics[name].append(FakeLog())
        return len(self.topics[name]) - 1

    def produce(self, name, value, *, stamp_ms, partition=0, key=None, headers=()) -> int:
        log = self.topics[name][partition]
        offset = log.high
        stamp = None if not -62_135_596_800_000 <= stamp_ms < 253_402_300_800_000 else stamp_ms
        log.records[offset] = {
            "topic": name,
            "partition": partition,
            "offset": offset,
            "timestamp_ms": stamp_ms,
            "timestamp": stamp,
            "timestamp_type": "CreateTime",
            "key": key,
            "value": value,
            "headers": [{"key": k, "value": v} for k, v in headers],
        }
        log.high += 1
        return offset

    def gap(self, name, partition=0, count=1) -> None:
        """Leave offsets without a record, as transaction marks do."""
        self.topics[name][partition].high += count

    def expire(self, name, partition, low) -> None:
        """Lose what is before an offset, as retention does."""
        self.topics[name][partition].low = low

    def cut(self, name, partition, high) -> None:
        """Lose what is from an offset on, as a broker does with its disk; the topic keeps its id."""
        log = self.topics[name][partition]
        log.records = {offset: record for offset, record in log.records.items() if offset < high}
        log.high = high

    def topic(self, name) -> Topic:
        if self.down:
            raise KafkaUnreachableError("fake:9092", "it is down")
        if name not in self.topics:
            raise TopicMissingError(name, "fake:9092")
        return Topic(name, self.ids[name], tuple(range(len(self.topics[name]))))

    def watermarks(self, name, partitions) -> dict[int, Watermarks]:
        logs = self.topics[name]
        return {
            p: Watermarks(
                logs[p].low, logs[p].high if logs[p].stable is None else logs[p].stable, logs[p].high
            )
            for p in partitions
        }

    def logs(self, name, partitions) -> dict[int, FakeLog]:
        return {partition: self.topics[name][partition] for partition in partitions}

    def compacts(self, name) -> bool:  # noqa: ARG002  # as the resource
        return False

    def open_transactions(self, name, partition) -> str:
        return "producer 7" if self.topics[name][partition].stable is not None else "none"

    def read(self, name, ranges, *, max_rows, max_bytes) -> Iterator[Batch]:  # noqa: ARG002  # as the resource
        """Give the records of ranges, partitions mixed, in batches; holes where a batch passes them."""
        logs = self.topics[name]
        rows = sorted(
            (
                record
                for partition, (first, stop) in ranges.items()
                for record in logs[partition].between(first, stop)
            ),
            key=lambda record: (record["offset"], record["partition"]),
        )
        at = {partition: first for partition, (first, _) in ranges.items()}
        for start in range(0, max(len(rows), 1), max_rows):
            part = rows[start : start + max_rows]
            after = at | {record["partition"]: record["offset"] + 1 for record in part}
            if start + max_rows >= len(rows):
                after = {partition: stop for partition, (_, stop) in ranges.items()}
            holes = {
                p: (at[p], min(logs[p].low, after[p])) for p in at if after[p] > at[p] and at[p] < logs[p].low
            }
            yield Batch(_frame(part), at, after, holes, self.ids[name])
            at = after

    def tail(self, name, places) -> "FakeTail":
        return FakeTail(self, name, dict(places))


@dataclass
class FakeTail:
    """Follows partitions of a topic; where nothing came it waits a moment, as the real one does."""

    kafka: FakeKafka
    name: str
    positions: dict[int, int]

    def take(self, max_rows, max_bytes, seconds) -> Batch:
        places = self.positions
        marks = self.kafka.watermarks(self.name, list(places))
        if cut := [p for p, at in places.items() if at > marks[p].high]:
            raise KafkaReadError(self.name, f"the log ends before its known end: partitions {cut}")
        ranges = {p: (at, max(at, marks[p].stable)) for p, at in places.items()}
        batch = next(self.kafka.read(self.name, ranges, max_rows=max_rows, max_bytes=max_bytes))
        self.positions = dict(batch.next_offsets)
        if self.positions == places:
            Event().wait(min(seconds, 0.01))
        return batch

    def add(self, places) -> None:
        self.positions |= places

    def remove(self, partitions) -> None:
        self.positions = {p: at for p, at in self.positions.items() if p not in set(partitions)}

    def close(self) -> None:
        """Nothing to let go of."""


def _frame(rows) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={**RECORD, "timestamp": pl.Int64}, orient="row")
    return frame.with_columns(
        pl.col("timestamp").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC").cast(RECORD["timestamp"])
    )


_FAKES: dict[str, FakeKafka] = {}


class KafkaInMemory(KafkaResource):
    """The resource, with a Kafka in memory behind it; Dagster may copy it."""

    fake: str

    @classmethod
    def over(cls, kafka: FakeKafka) -> "KafkaInMemory":
        """Put the resource before a Kafka."""
        _FAKES[str(id(kafka))] = kafka
        return cls(fake=str(id(kafka)))

    def topic(self, name):
        return _FAKES[self.fake].topic(name)

    def watermarks(self, name, partitions):
        return _FAKES[self.fake].watermarks(name, partitions)

    def logs(self, name, partitions):
        return _FAKES[self.fake].logs(name, partitions)

    def read(self, name, ranges, *, max_rows, max_bytes):
        return _FAKES[self.fake].read(name, ranges, max_rows=max_rows, max_bytes=max_bytes)

    def tail(self, name, places):
        return _FAKES[self.fake].tail(name, places)

    def open_transactions(self, name, partition):
        return _FAKES[self.fake].open_transactions(name, partition)
