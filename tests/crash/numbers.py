"""Numbered records: produced by a process that may be killed, and looked for in the lake at the end.

Each Kafka partition has its own count: 0, 1, 2, ... in the order of its offsets, over a few keys in turn. So
a producer that begins again needs the last committed record of each partition only. It writes transactions
(some are aborted on purpose): the next producer of its id ends what a killed one left open. What the log
holds, read with a plain consumer, is the truth that the lake is held against.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import polars as pl
from confluent_kafka import Consumer, Producer, TopicPartition

from assets import aftermath, equations
from resources.kafka import kafka_resource
from resources.lake import lake_from_settings
from resources.settings import settings
from resources.streams import load_streams
from sluice import tables

TOPIC, NAME, KEYS, ABORTED = "numbers", "numbers", 50, 10
CONTRACT = '''"""Numbered records."""

from datetime import timedelta

import pandera.polars as pa
import polars as pl

from sluice import Daily, Events, Json


class Number(pa.DataFrameModel):
    """A number of a key."""

    key: str
    number: int
    at: pl.Datetime("us", "UTC")


numbers = Events(
    topic="numbers", value=Json(), schema=Number, key=("key", "number"), event_time="at",
    partitions=Daily(start="{start}"), dedupe_within=timedelta(hours=1), max_quarantined=0.0,
)
'''


def produce(servers: str, partitions: int, a_second: int, turns: int | None = None) -> None:
    """Produce transactions of ten records a partition, some turns of them or for ever."""
    producer = end_transactions(servers)
    numbers = [last + 1 for last in _last_numbers(servers, partitions)]
    for turn in count(1) if turns is None else range(1, turns + 1):
        begun, sent = time.monotonic(), list(numbers)
        producer.begin_transaction()
        for partition in range(partitions):
            for _ in range(10):
                producer.produce(TOPIC, _value(partition, sent[partition]), partition=partition)
                sent[partition] += 1
        producer.flush(30)
        if turn % ABORTED == 0:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            numbers = sent
        time.sleep(max(0.0, partitions * 10 / a_second - (time.monotonic() - begun)))


def end_transactions(servers: str) -> Producer:
    """End what a producer that was killed left open, and make sure that it does not come back."""
    config = {"bootstrap.servers": servers, "transactional.id": NAME, "transaction.timeout.ms": 60_000}
    producer = Producer(config | {"linger.ms": 2})
    producer.init_transactions(60)
    return producer


def _value(partition: int, n: int) -> bytes:
    row = {"key": f"{partition}-{n % KEYS}", "number": n // KEYS, "at": datetime.now(UTC).isoformat()}
    return json.dumps(row).encode()


def _last_numbers(servers: str, partitions: int) -> list[int]:
    """Find the number of the last committed record of each partition; -1 where there is none."""
    found = []
    for partition in range(partitions):
        back, last = 200, -1
        while last < 0:
            low, high = _ends(servers, partition)
            for _, value in _records(servers, partition, max(low, high - back)):
                told = json.loads(value)
                last = told["number"] * KEYS + int(told["key"].split("-")[1])
            if high - back <= low:
                break
            back *= 4
        found.append(last)
    return found


def _consumer(servers: str) -> Consumer:
    return Consumer(
        {"bootstrap.servers": servers, "group.id": "none", "enable.auto.commit": False}
        | {"isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "error"}
    )


def _ends(servers: str, partition: int) -> tuple[int, int]:
    consumer = _consumer(servers)
    low, high = consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=30)
    consumer.close()
    return low, high


def _records(servers: str, partition: int, first: int) -> Iterator[tuple[int, bytes]]:
    """Read a partition's committed records from an offset to its end."""
    consumer = _consumer(servers)
    consumer.assign([TopicPartition(TOPIC, partition, first)])
    while True:
        message = consumer.poll(30)
        assert message is not None, "the broker does not answer"
        if message.error():
            assert message.error().name() == "_PARTITION_EOF", message.error()
            break
        yield message.offset(), message.value()
    consumer.close()


def judge(partitions: int, target: str) -> None:
    """Hold the lake against the log: none lost, none twice, in order; write what was counted as JSON."""
    lake, kafka = lake_from_settings(), kafka_resource()
    stream = next(s for s in load_streams() if s.name == NAME)
    servers = settings().kafka_servers
    assert servers
    log = [(p, *record) for p in range(partitions) for record in _records(servers, p, 0)]
    wanted = pl.DataFrame(log, schema=["partition", "offset", "value"], orient="row")
    at = ["partition", "offset"]
    bronze = lake.read(tables.bronze(stream)).select("partition", "offset", "value").collect().sort(at)
    assert bronze.equals(wanted.cast(bronze.schema).sort(at)), _differ("bronze", bronze, wanted)
    rows = lake.read(tables.silver(stream)).collect()
    silver = rows.select(partition="_partition", offset="_offset", key="key", number="number").sort(at)
    told = wanted["value"].cast(pl.String).str.json_decode(pl.Struct({"key": pl.String, "number": pl.Int64}))
    truth = wanted.select(at).with_columns(told.struct.unnest()).sort(at)
    assert silver.equals(truth.cast(silver.schema)), _differ("silver", silver, truth)
    steps = silver.with_columns(
        step=pl.col("number").diff().over("key"), first=pl.col("number").first().over("key")
    )
    assert steps.filter((pl.col("step") != 1) | (pl.col("first") != 0)).is_empty(), "order within a key"
    for layer in ("bronze", "silver"):
        aftermath.finish(lake, stream, layer)
        assert equations.unbalanced(lake, stream, layer).is_empty()
        assert aftermath.ledger_is_whole(lake, stream, layer), layer
    assert equations.bronze_unequal(lake, stream).is_empty()
    assert equations.silver_unequal(lake, stream).is_empty()
    versions = {t.name: int(lake.ensure(t).version()) for t in (tables.bronze(stream), tables.silver(stream))}
    counted = {"records": wanted.height, "keys": silver["key"].n_unique(), "topic_id": kafka.topic(TOPIC).id}
    Path(target).write_text(json.dumps(counted | {"versions": versions}))


def _differ(layer: str, rows: pl.DataFrame, wanted: pl.DataFrame) -> str:
    at = ["partition", "offset"]
    wanted = wanted.cast({name: rows.schema[name] for name in at})
    lost, extra = wanted.join(rows, on=at, how="anti"), rows.join(wanted, on=at, how="anti")
    twice = rows.height - rows.unique(at).height
    return f"{layer}: {lost.height} lost, {extra.height} too many, {twice} twice\n{lost}\n{extra}"
