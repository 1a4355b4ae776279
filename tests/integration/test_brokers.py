"""Three brokers, one of which is killed, replaced, and given its partitions back while records flow."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Self

import polars as pl
import pytest
from confluent_kafka import ElectionType, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from assets.ingest import Limits, ingest
from assets.refine import refine
from demo.broker import EmbeddedKafka
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice.errors import KafkaReadError, KafkaUnreachableError
from tests.engine import HOURS, START, ms, orders, prove, value

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
PARTITIONS = 3
LIMITS = Limits(2_000, 2**28)
TILE = HOURS[0]
QUICK = {
    "broker.session.timeout.ms": "6000",  # short, and enough for a machine that does much else
    "broker.heartbeat.interval.ms": "1000",
    "replica.lag.time.max.ms": "5000",
}


@pytest.fixture(scope="module")
def cluster(kafka_jars: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Start three brokers."""
    folder = tmp_path_factory.mktemp("three")
    with EmbeddedKafka(folder, nodes=3, heap_mb=256, properties=QUICK) as kafka:
        yield kafka


class Background:
    """Something that is done again and again until it is told to stop; its error is raised then."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act, self._stop = act, threading.Event()
        self.times, self._error = 0, None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._act()
                self.times += 1
        except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
            self._error = error

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the last time end."""
        self._stop.set()
        self._thread.join(300)
        if self._error:
            raise self._error

    def again(self, times: int = 2) -> None:
        """Wait until it was done some times more, from beginning to end."""
        wanted, deadline = self.times + times, time.monotonic() + 240
        while self.times < wanted and not self._error:
            assert time.monotonic() < deadline, "it does not go on"
            time.sleep(0.05)


class Numbers:
    """Sends numbered orders, each until the brokers have it, to all partitions in turn."""

    def __init__(self, servers: str, topic: str) -> None:
        more = {"enable.idempotence": True, "linger.ms": 5, "delivery.timeout.ms": 240_000, "log_level": 0}
        self._producer, self._topic = Producer({"bootstrap.servers": servers, **more}), topic
        self.sent, self.failed = 0, []

    def some(self, count: int = 20) -> None:
        """Send some more."""
        for number in range(self.sent, self.sent + count):
            self._producer.produce(
                self._topic,
                value(f"{number:07}", "1.00", number / 1e5),
                partition=number % PARTITIONS,
                timestamp=ms(START + timedelta(seconds=number / 1000)),
                on_delivery=self._delivered,
            )
            self._producer.poll(0)
        self.sent += count
        self._producer.poll(0)
        time.sleep(0.2)  # its pace

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error:
            self.failed.append(str(error))

    def flush(self) -> None:
        assert (self._producer.flush(240), self.failed) == (0, [])


def leaders(admin: AdminClient, topic: str) -> dict[int, int]:
    partitions = admin.list_topics(topic, timeout=30).topics[topic].partitions
    return {number: partition.leader for number, partition in partitions.items()}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_broker_is_killed_replaced_and_leads_again_while_records_flow(
    cluster: EmbeddedKafka, tmp_path: Path
) -> None:
    """Every record once, in order, no error on the way, whatever happens to one of three brokers."""
    stream, lake = orders(topic="numbers"), Lake(str(tmp_path))
    cluster.create_topic("numbers", PARTITIONS, {"retention.ms": "-1"})
    admin = AdminClient({"bootstrap.servers": cluster.servers, "log_level": 0})
    kafka = KafkaResource(bootstrap_servers=cluster.servers, stall_seconds=120)
    numbers = Numbers(cluster.servers, "numbers")

    def run() -> None:
        now = START + timedelta(minutes=30)
        ingest(lake, kafka, stream, [TILE], run_id="r", limits=LIMITS, now=now, say=lambda _: None)
        refine(lake, stream, [TILE], run_id="r", limits=LIMITS, say=lambda _: None)

    with Background(numbers.some), Background(run) as runs:
        runs.again(1)
        killed = leaders(admin, "numbers")[0]
        cluster.nodes[killed].kill()
        until(lambda: killed not in leaders(admin, "numbers").values())
        runs.again()
        cluster.nodes[killed].wipe()  # replaced: what comes again is empty
        cluster.start_node(killed)
        cluster.wait_until_ready()
        runs.again()
        until(
            lambda: all(
                len(p.isrs) == 3 for p in admin.list_topics("numbers").topics["numbers"].partitions.values()
            )
        )
        led = leaders(admin, "numbers")
        wanted = [TopicPartition("numbers", p) for p, leader in led.items()]
        admin.elect_leaders(ElectionType.PREFERRED, wanted).result(60)
        until(lambda: leaders(admin, "numbers")[0] == killed)
        runs.again()
    numbers.flush()
    run()
    rows = pl.scan_delta(f"{tmp_path}/silver/orders").sort("_partition", "_offset").collect()
    found = rows["order_id"].cast(pl.Int64)
    assert sorted(found) == list(range(numbers.sent))
    for _, own in rows.group_by("_partition", maintain_order=True):
        assert own["order_id"].is_sorted(), "order within a partition is kept"
    prove(lake, stream)


def test_no_broker_answers_and_then_one_does(cluster: EmbeddedKafka) -> None:
    """A read waits for brokers that come back in time, and fails so that it may be tried again else."""
    cluster.create_topic("waits", 1, {"retention.ms": "-1"})
    numbers = Numbers(cluster.servers, "waits")
    for number in range(300):
        numbers._producer.produce("waits", b"x" * 1000, partition=0, timestamp=ms(START) + number)
    numbers.flush()
    impatient = KafkaResource(bootstrap_servers=cluster.servers, stall_seconds=10)
    patient = KafkaResource(bootstrap_servers=cluster.servers, stall_seconds=240)
    small = {"max_rows": 100, "max_bytes": 2**20}
    reads = [resource.read("waits", {0: (0, 300)}, **small) for resource in (impatient, patient)]
    begun = [next(read).records.height for read in reads]
    for node in cluster.nodes.values():
        node.kill()
    with pytest.raises((KafkaReadError, KafkaUnreachableError)):
        list(reads[0])
    with pytest.raises(KafkaUnreachableError, match="no Kafka broker answers"):
        impatient.topic("waits")
    for number in cluster.nodes:
        cluster.start_node(number)
    rest = list(reads[1])
    assert begun[1] + sum(batch.records.height for batch in rest) == 300
