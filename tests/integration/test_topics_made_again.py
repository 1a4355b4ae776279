"""Topics that are deleted, made again, or given partitions while they are read; transactions that hang."""

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from conftest import MadeTopic

from assets.ingest import Limits, ingest
from assets.refine import refine
from demo.broker import EmbeddedKafka
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice.errors import (
    KafkaReadError,
    LogCutError,
    OpenTransactionError,
    TopicMissingError,
    TopicRecreatedError,
)
from tests.engine import HOURS, NOW, START, ms, orders, prove, state, value
from tests.running import Record, fill

pytestmark = pytest.mark.integration
TILES = HOURS[:2]
LIMITS = Limits(1_000, 2**28)


def some(name: str, count: int, partitions: int = 1) -> Iterator[Record]:
    """Make orders of an hour and a half."""
    for i in range(count):
        minutes = i * 90 / count
        stamp = ms(START + timedelta(minutes=minutes))
        yield Record(value(f"{name}{i}", "1.00", minutes), stamp, partition=i % partitions)


def delete(servers: str, topic: str) -> None:
    """Delete a topic, and wait until it is gone."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 60
    while topic in admin.list_topics(timeout=30).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(lake: Lake, kafka: KafkaResource, stream, now=NOW, tiles=TILES) -> None:
    ingest(lake, kafka, stream, tiles, run_id="r", limits=LIMITS, now=now, say=lambda _: None)
    refine(lake, stream, tiles, run_id="r", limits=LIMITS, say=lambda _: None)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


@pytest.fixture
def resource(kafka: str) -> KafkaResource:
    return KafkaResource(bootstrap_servers=kafka, stall_seconds=60)


def test_a_topic_is_deleted_and_made_again(lake: Lake, resource: KafkaResource, kafka: str) -> None:
    """Event-streaming 21: refused until the contract says epoch=2, then both live side by side."""
    first, second = orders(topic="again"), orders(topic="again", epoch=2)
    fill(kafka, "again", some("old", 300))
    run(lake, resource, first)
    before = state(lake, first)["silver"]
    delete(kafka, "again")
    with pytest.raises(TopicMissingError, match=r"'again' does not exist.*the lake keeps what it read of"):
        run(lake, resource, first)
    fill(kafka, "again", some("new", 200, 2), partitions=2)
    with pytest.raises(TopicRecreatedError, match=r"set epoch=2"):
        run(lake, resource, first)
    run(lake, resource, second)
    prove(lake, second)
    silver = state(lake, second)["silver"]
    assert silver.filter(pl.col("_epoch") == 1).equals(before)
    assert sorted(silver.filter(pl.col("_epoch") == 2)["order_id"]) == sorted(f"new{i}" for i in range(200))


@pytest.mark.usefixtures("kafka_jars")
def test_a_broker_loses_its_disk(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The topic has its id, and a log that is shorter: refused, and read by the next epoch."""
    first, second = orders(topic="cut"), orders(topic="cut", epoch=2)
    early, later = START + timedelta(minutes=30), START + timedelta(minutes=45)
    with EmbeddedKafka(tmp_path_factory.mktemp("cut")) as broker:
        fill(broker.servers, "cut", some("old", 300))
        topic_id = KafkaResource(bootstrap_servers=broker.servers).topic("cut").id
        run(lake, KafkaResource(bootstrap_servers=broker.servers), first, early, TILES[:1])
        before = state(lake, first)["silver"]
        broker.stop()
        shutil.rmtree(broker.nodes[1].folder / "data" / "cut-0")
        broker.start()
        resource = KafkaResource(bootstrap_servers=broker.servers)
        assert resource.topic("cut").id == topic_id
        fill(broker.servers, "cut", some("new", 20))
        for now, tiles in ((later, TILES[:1]), (NOW, TILES)):
            with pytest.raises(LogCutError, match=r"ends at offset 20, but the lake knows it up to 300"):
                run(lake, resource, first, now, tiles)
        run(lake, resource, second)
        prove(lake, second)
        silver = state(lake, second)["silver"]
        assert silver.filter(pl.col("_epoch") == 1).equals(before)
        assert silver.filter(pl.col("_epoch") == 2).height == 20


def test_a_topic_is_deleted_while_it_is_read(kafka: str) -> None:
    """What is read ahead may still come; then it is missing, or fails to come: never nothing, in silence."""
    resource = KafkaResource(bootstrap_servers=kafka, stall_seconds=5)
    fill(kafka, "vanishing", some("x", 3000))
    batches = resource.read("vanishing", {0: (0, 3000)}, max_rows=100, max_bytes=2**20)
    assert next(batches).records.height == 100
    delete(kafka, "vanishing")
    with pytest.raises((TopicMissingError, KafkaReadError)):
        list(batches)


def test_a_topic_is_made_again_while_it_is_read(lake: Lake, resource: KafkaResource, kafka: str) -> None:
    """Nothing of the new topic comes under the old one's bounds."""
    stream = orders(topic="swapped")
    fill(kafka, "swapped", some("old", 3000))
    read = KafkaResource.read

    def swapping(self, *given, **limits):
        for number, batch in enumerate(read(self, *given, **limits)):
            yield batch
            if number == 0:
                delete(kafka, "swapped")
                fill(kafka, "swapped", some("new", 4000))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KafkaResource, "read", swapping)
        with pytest.raises(TopicRecreatedError, match="epoch=2"):
            run(lake, resource, stream)
    with pytest.raises(TopicRecreatedError):
        run(lake, resource, stream)
    kept = pl.scan_delta(f"{lake.uri}/bronze/orders").collect()
    assert kept.height == 1000
    assert kept["value"].cast(pl.String).str.contains("old").all()
    second = orders(topic="swapped", epoch=2)
    run(lake, resource, second)
    prove(lake, second)
    assert state(lake, second)["silver"].filter(pl.col("_epoch") == 2).height == 4000


def test_a_partition_is_added_while_the_topic_is_read(
    lake: Lake, resource: KafkaResource, kafka: str
) -> None:
    """It belongs to the tiles that are open from then on."""
    stream = orders(topic="grows")
    made = fill(kafka, "grows", some("a", 90))
    now = START + timedelta(minutes=61)  # the first tile is bounded, the second open
    run(lake, resource, stream, now)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_partitions([NewPartitions("grows", 3)])["grows"].result(30)
    for partition in (1, 2):
        stamp = ms(START + timedelta(minutes=10))
        made.produce(
            [value(f"late{partition}-{i}", "1.00", 10) for i in range(5)],
            stamps=[stamp] * 5,
            partition=partition,
        )
    run(lake, resource, stream, now)
    prove(lake, stream)
    silver = state(lake, stream)["silver"]
    assert silver.height == 100
    assert set(silver.filter(pl.col("_partition") > 0)["_tile"]) == {TILES[1]}


def test_a_hanging_transaction_is_named_and_what_can_be_read_is_committed(
    lake: Lake, resource: KafkaResource, kafka: str
) -> None:
    """Event-streaming 6, 18: the run ends, says which partition is held, and goes on when that has ended."""
    stream = orders(topic="hangs")
    made = fill(kafka, "hangs", some("before", 40, 2), partitions=2)
    hanging = made.transactions(**{"transactional.id": "hanging-one"})
    hanging.begin_transaction()
    stamp = ms(START + timedelta(minutes=50))
    made.produce([value("open", "1.00", 50)], stamps=[stamp], producer=hanging)
    made.produce([value("behind", "1.00", 50)], stamps=[stamp])
    made.produce([value("elsewhere", "1.00", 50)], stamps=[stamp], partition=1)
    with pytest.raises(
        OpenTransactionError, match=r"partition 0: an open transaction \(begun at 2026-01-01T00:50"
    ):
        run(lake, resource, stream)
    refine(lake, stream, TILES, run_id="r", limits=LIMITS, say=lambda _: None)
    assert state(lake, stream)["silver"].height == 41
    made.transactions(**{"transactional.id": "hanging-one"})  # fences the other, which ends its transaction
    made.settle()
    run(lake, resource, stream)
    prove(lake, stream)
    found = set(state(lake, stream)["silver"]["order_id"])
    assert {"behind", "elsewhere"} <= found
    assert "open" not in found, "aborted"


def test_aborted_and_committed_transactions_side_by_side(
    lake: Lake, resource: KafkaResource, kafka: str
) -> None:
    """What was aborted never comes, what was committed comes once; their offsets are gaps, not holes."""
    stream = orders(topic="mixed")
    made: MadeTopic = fill(kafka, "mixed", some("plain", 20))
    producers = [made.transactions() for _ in range(2)]
    for turn in range(4):
        for number, producer in enumerate(producers):
            producer.begin_transaction()
            keep = (turn + number) % 2 == 0
            name = f"{'kept' if keep else 'dropped'}{turn}{number}-"
            made.produce(
                [value(f"{name}{i}", "1.00", 30) for i in range(5)],
                stamps=[ms(START + timedelta(minutes=30))] * 5,
                producer=producer,
            )
            (producer.commit_transaction if keep else producer.abort_transaction)(30)
    made.settle()
    run(lake, resource, stream)
    prove(lake, stream)
    found = state(lake, stream)["silver"]["order_id"]
    assert found.str.starts_with("dropped").sum() == 0
    assert (found.str.starts_with("kept").sum(), found.len()) == (20, 40)
