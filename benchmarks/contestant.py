"""One contestant of `kafka_to_delta.py`, in a process of its own: reads the topic, and says what it cost.

`read`: librdkafka alone through its client, nothing taken from the records. `raw`: our reader into a
Delta table with nothing else. `bronze`, `silver`: the scheduled way, functions that the assets call.
`flow`: the continuous way until it has caught up. `bare`: silver without ids, accounts, side tables and
checks, to price them.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import polars as pl
from confluent_kafka import Consumer, TopicPartition
from deltalake import write_deltalake
from measure import Cost, arguments, measured, tell
from orders_log import NOW, PARTITIONS, TILES, contract

from assets import aftermath, equations, side_tables
from assets.bronze import limits
from assets.ingest import ingest
from assets.refine import refine
from resources.kafka import KafkaResource
from resources.lake import Lake


def read(servers: str, topic: str, _lake: Lake) -> int:
    """Take messages from librdkafka, tuned, and look at none."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "bench", "auto.offset.reset": "earliest"}
        | {"fetch.queue.backoff.ms": 10, "queued.min.messages": 1_000_000, "enable.auto.commit": False}
        | {"queued.max.messages.kbytes": 262_144, "fetch.wait.max.ms": 10, "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    count = ended = 0
    while ended < PARTITIONS:
        messages = consumer.consume(10_000, 1)
        ends = sum(1 for message in messages[-PARTITIONS:] if message.error())
        ended += ends
        count += len(messages) - ends
    consumer.close()
    return count


def raw(servers: str, topic: str, lake: Lake) -> int:
    """Append batches of our reader to a table, with no progress and no account."""
    kafka = KafkaResource(bootstrap_servers=servers)
    marks = kafka.watermarks(topic, range(PARTITIONS))
    count = 0
    ranges = {p: (0, mark.stable) for p, mark in marks.items()}
    for batch in kafka.read(topic, ranges, max_rows=limits().rows, max_bytes=limits().bytes):
        write_deltalake(lake.path("raw"), batch.records.to_arrow(), mode="append")
        count += batch.records.height
    return count


def bronze(servers: str, topic: str, lake: Lake) -> int:
    """Ingest all tiles."""
    kafka = KafkaResource(bootstrap_servers=servers)
    stream = contract(topic)
    done = ingest(lake, kafka, stream, TILES, run_id="bench", limits=limits(), now=NOW, say=_silent)
    return done.rows


def silver(servers: str, topic: str, lake: Lake) -> int:
    """Ingest all tiles, then decide them."""
    count = bronze(servers, topic, lake)
    refine(lake, contract(topic), TILES, run_id="bench", limits=limits(), say=_silent)
    return count


def bare(servers: str, topic: str, lake: Lake) -> int:
    """Do the same with what keeps the promises switched off, which only a benchmark may."""
    commit = Lake.commit

    def plain(self: Lake, handle: Any, rows: pl.DataFrame, **more: Any) -> int:
        dropped = {"progress", "fences", "metadata"}
        return commit(self, handle, rows, **{k: v for k, v in more.items() if k not in dropped})

    with (
        patch.object(Lake, "commit", plain),
        patch.object(side_tables, "put", _nothing),
        patch.object(aftermath, "finish", _nothing),
        patch.object(equations, "silver_unequal", lambda *_a, **_k: pl.DataFrame({"tile": []})),
        suppress(_OnceIsEnough),
    ):
        return silver(servers, topic, lake)
    raise AssertionError("unreachable")


class _OnceIsEnough(Exception):  # noqa: N818  # a signal
    """Ends a run that would plan again, since nothing tells it what it did."""


def _nothing(*_arguments: object, **_named: object) -> None:
    """Do nothing."""


def _silent(_text: str) -> None:
    """Say nothing."""


CONTESTANTS: dict[str, Callable[[str, str, Lake], int]] = {
    "read": read,
    "raw": raw,
    "bronze": bronze,
    "silver": silver,
    "bare": bare,
}


def main() -> None:
    """Run one of them: `contestant.py --who=bronze --servers=… --topic=… --lake=…`."""
    given = arguments()
    lake = Lake(given["lake"])
    cost: Cost = measured(lambda: CONTESTANTS[given["who"]](given["servers"], given["topic"], lake))
    tell(cost)


if __name__ == "__main__":
    main()
