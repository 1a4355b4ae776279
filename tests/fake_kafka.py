"""A Kafka in memory with the resource's methods, for tests of what lies behind it; proof of nothing about Kafka."""

from dataclasses import dataclass, field

import polars as pl

from resources.kafka import Batch, Topic, Watermarks
from sluice.errors import TopicMissingError
from sluice.tables import RECORD


@dataclass
class FakeLog:
    """One partition: records by offset; an offset without a record is a gap."""

    records: dict[int, dict] = field(default_factory=dict)
    low: int = 0
    high: int = 0

    def offset_for_time(self, ms: int) -> int | None:
        return next(
            (o for o, r in sorted(self.records.items()) if o >= self.low and r["timestamp_ms"] >= ms), None
        )

    def stamps(self, first: int, stop: int):
        inside = {o: r for o, r in sorted(self.records.items()) if max(first, self.low) <= o < stop}
        return pl.Series(list(inside), dtype=pl.Int64), pl.Series(
            [r["timestamp_ms"] for r in inside.values()], dtype=pl.Int64
        )


class FakeKafka:
    """Topics by name."""

    def __init__(self):
        self.topics: dict[str, list[FakeLog]] = {}
        self.ids: dict[str, str] = {}

    def create(self, name: str, partitions: int = 1, topic_id: str = "id-1") -> str:
        self.topics[name] = [FakeLog() for _ in range(partitions)]
        self.ids[name] = topic_id
        return name

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
        self.topics[name][partition].high += count

    def topic(self, name) -> Topic:
        if name not in self.topics:
            raise TopicMissingError(name, "nowhere")
        return Topic(name, self.ids[name], tuple(range(len(self.topics[name]))))

    def watermarks(self, name, partitions):
        logs = self.topics[name]
        return {p: Watermarks(logs[p].low, logs[p].high, logs[p].high) for p in partitions}

    def log(self, name, partition) -> FakeLog:
        return self.topics[name][partition]

    def open_transactions(self, _name, _partition) -> str:
        return "none"

    def read(self, name, ranges, *, max_rows, max_bytes):
        rows, begins, holes = [], {}, {}
        for partition, (first, stop) in ranges.items():
            log = self.topics[name][partition]
            begins[partition] = first
            if first < log.low:
                holes[partition] = (first, min(log.low, stop))
            rows += [(o, r) for o, r in sorted(log.records.items()) if max(first, log.low) <= o < stop]
        ends = {p: stop for p, (_, stop) in ranges.items()}
        size = min(max_rows, len(rows)) or 1
        rows = [r for _, r in rows]
        at = dict(begins)
        for start in range(0, max(len(rows), 1), size):
            part = rows[start : start + size]
            last = start + size >= len(rows)
            after = dict(at)
            for r in part:
                after[r["partition"]] = r["offset"] + 1
            if last:
                after = ends
            yield Batch(_frame(part), at, after, holes if start == 0 else {})
            at = after


def _frame(rows) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={**RECORD, "timestamp": pl.Int64}, orient="row")
    return frame.with_columns(
        pl.col("timestamp").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC").cast(RECORD["timestamp"])
    )
