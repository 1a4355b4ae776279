"""One contestant of `kafka_to_delta.py`, in a process of its own: reads the topic, and says what it cost.

`read`: our reader alone, its records dropped. `client`: librdkafka through its Python client, nothing taken
from the records. `raw`: our reader into a Delta table with nothing else. `bronze`, `silver`: the scheduled
way, functions that the assets call. `flow`: the continuous way until it has caught up. `bare`: the same
without what keeps the promises, to price them.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bare import bare
from confluent_kafka import Consumer, TopicPartition
from deltalake import write_deltalake
from measure import Cost, arguments, measured, tell
from orders_log import NOW, PARTITIONS, TILES, contract

from assets.bronze import limits
from assets.flow import Flow, Pace
from assets.ingest import ingest
from assets.refine import refine
from resources.kafka import KafkaResource
from resources.lake import Lake

PACE = Pace(interval=2.0)


def read(servers: str, topic: str, _lake: Lake) -> int:
    """Take records from librdkafka as our reader does, and drop them: nothing can read faster here."""
    kafka = KafkaResource(bootstrap_servers=servers)
    ends = {p: mark.stable for p, mark in kafka.watermarks(topic, range(PARTITIONS)).items()}
    reader = kafka.tail(topic, dict.fromkeys(ends, 0))
    count = 0
    while any(reader.positions[p] < end for p, end in ends.items()):
        count += reader.take(limits().rows, limits().bytes, 1.0).records.height
    reader.close()
    return count


def client(servers: str, topic: str, _lake: Lake) -> int:
    """Take messages from librdkafka through its Python client, tuned, and look at none."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "bench", "auto.offset.reset": "earliest"}
        | {"fetch.queue.backoff.ms": 10, "queued.min.messages": 1_000_000, "enable.auto.commit": False}
        | {"queued.max.messages.kbytes": 262_144, "fetch.wait.max.ms": 10}
    )
    parts = [TopicPartition(topic, p, 0) for p in range(PARTITIONS)]
    there = sum(consumer.get_watermark_offsets(part)[1] for part in parts)
    consumer.assign(parts)
    count = 0
    while count < there:
        count += len(consumer.consume(10_000, 1))
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


def flow(servers: str, topic: str, lake: Lake) -> int:
    """Follow the topic until caught up, in the three stages of continuous mode."""
    kafka = KafkaResource(bootstrap_servers=servers)
    done: list[int] = []
    followed = Flow(
        lake,
        kafka,
        contract(topic),
        "bench",
        PACE,
        clock=lambda: NOW,
        say=_silent,
        told=lambda refined: done.append(sum(a.read for a in refined.accounts)),
    )
    followed.run(Event(), caught_up=True)
    return sum(done)


def without(servers: str, topic: str, lake: Lake) -> int:
    """Do what `flow` does, without what keeps the promises."""
    kafka = KafkaResource(bootstrap_servers=servers)
    ends = {p: mark.stable for p, mark in kafka.watermarks(topic, range(PARTITIONS)).items()}
    return bare(kafka, lake, contract(topic), TILES[0], ends, PACE)


def _silent(_text: str) -> None:
    """Say nothing."""


CONTESTANTS: dict[str, Callable[[str, str, Lake], int]] = {
    "read": read,
    "client": client,
    "raw": raw,
    "bronze": bronze,
    "silver": silver,
    "flow": flow,
    "bare": without,
}


def main() -> None:
    """Run one of them: `contestant.py --who=bronze --servers=… --topic=… --lake=…`."""
    given = arguments()
    lake = Lake(given["lake"])
    cost: Cost = measured(lambda: CONTESTANTS[given["who"]](given["servers"], given["topic"], lake))
    tell(cost)


if __name__ == "__main__":
    main()
