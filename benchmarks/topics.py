"""Topics for benchmarks: made, and filled as fast as the broker takes records."""

from collections.abc import Iterable
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

_POLLED = 10_000  # records between two looks at what the broker answered


def make(servers: str, topic: str, partitions: int) -> None:
    """Make a topic that keeps all records."""
    made = NewTopic(topic, partitions, config={"retention.ms": "-1"})
    admin = AdminClient({"bootstrap.servers": servers})  # named: its answers end with it
    admin.create_topics([made])[topic].result(60)


def send(servers: str, topic: str, records: Iterable[dict[str, Any]]) -> int:
    """Send records (arguments of `Producer.produce`); give the bytes of all values."""
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 20, "batch.size": 1 << 20, "compression.type": "lz4"}
        | {"queue.buffering.max.messages": 500_000, "enable.idempotence": True}
    )
    size = 0
    for number, record in enumerate(records):
        size += len(record["value"])
        while True:
            try:
                producer.produce(topic, **record)
                break
            except BufferError:
                producer.poll(0.1)
        if number % _POLLED == 0:
            producer.poll(0)
    assert producer.flush(120) == 0
    return size
