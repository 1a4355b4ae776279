"""A Kafka as the demo sees it: topics are made, messages sent and counted.

Decides how the demo produces: in order, each message exactly once, and never more than the broker took. By
itself it is a Kafka that runs already, named by its address; it refuses to start or stop that.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic, sleep
from typing import Self

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from demo.message import Message
from sluice.errors import KafkaReadError

_SECONDS = 30
_FLUSH_SECONDS = 120
Delivered = Callable[[KafkaError | None, "confluent_kafka.Message"], None]
_PRODUCER = {"enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"}


class DemoKafka:
    """A Kafka at an address, `servers`; what is started by us adds how."""

    def __init__(self, servers: str = "") -> None:
        self.servers = servers

    def __enter__(self) -> Self:
        """Start it, where it does not run."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start it; nothing happens where it runs."""

    def stop(self) -> None:
        """Stop what `start` started."""

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create a topic; nothing happens where it exists.

        Raises:
            KafkaException: the broker refuses it.
        """
        admin = AdminClient(self._config())
        topic = NewTopic(name, num_partitions=partitions, config=dict(config or {}))
        try:
            admin.create_topics([topic], request_timeout=_SECONDS)[name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        self.count(name)  # returns when its partitions have leaders

    def produce(self, messages: Iterable[Message]) -> int:
        """Produce messages in order, and wait until the broker has them; give how many.

        Raises:
            KafkaReadError: the broker did not take all of them.
        """
        producer = Producer(self._config() | _PRODUCER)
        failed: list[str] = []

        def delivered(error: KafkaError | None, message: "confluent_kafka.Message") -> None:
            if error:
                failed.append(f"{message.topic()}: {error}")

        count = 0
        for count, message in enumerate(messages, 1):  # noqa: B007  # the last count is the answer
            while not _queued(producer, message, delivered):
                producer.poll(0.1)
        left = producer.flush(_FLUSH_SECONDS)
        if failed or left:
            raise KafkaReadError("of the demo", f"{len(failed) + left} messages not taken {failed[:1]}")
        return count

    def count(self, topic: str) -> int:
        """Count the offsets that a topic holds.

        Raises:
            KafkaException: the broker does not tell within half a minute.
        """
        consumer = Consumer(self._config() | {"group.id": "demo"})
        deadline = monotonic() + _SECONDS
        try:
            while True:
                try:
                    partitions = consumer.list_topics(topic, timeout=_SECONDS).topics[topic].partitions
                    places = [TopicPartition(topic, partition) for partition in partitions]
                    marks = [consumer.get_watermark_offsets(place, timeout=_SECONDS) for place in places]
                    return sum(high - low for low, high in marks)
                except KafkaException:  # a new topic has no leaders for a moment
                    if monotonic() > deadline:
                        raise
                    sleep(0.1)
        finally:
            consumer.close()

    def _config(self) -> dict[str, str | int | float | bool]:
        return {"bootstrap.servers": self.servers, "log_level": 2}


def _queued(producer: Producer, message: Message, delivered: Delivered) -> bool:
    """Queue one message; False where the producer's queue is full."""
    with suppress(BufferError):
        producer.produce(
            message.topic,
            message.value,
            message.key,
            headers=list(message.headers),
            timestamp=message.timestamp_ms,
            on_delivery=delivered,
        )
        producer.poll(0)
        return True
    return False
