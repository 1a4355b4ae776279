"""The two sources of records, machine code and the Python client, give the same of the same log."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Thread

import polars as pl
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from conftest import MadeTopic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.kafka import KafkaResource
from resources.kafka_code import code
from resources.kafka_native import Native, native
from resources.kafka_read import _FAST, Reader
from resources.kafka_records import Chunk, Messages, Source
from sluice.errors import KafkaReadError
from sluice.tables import RECORD

pytestmark = pytest.mark.integration
Make = Callable[..., MadeTopic]
Open = Callable[..., Source]


def by_code(config: dict, topic: str) -> Source:
    made = native(config, topic)
    if made is None:
        pytest.skip("the machine code was not built")
    return made


@pytest.fixture(params=[by_code, Messages], ids=["machine code", "Python"])
def way(request: pytest.FixtureRequest) -> Open:
    return request.param


@pytest.fixture
def tail(kafka: str, way: Open, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Reader]]:
    """Give readers without end, by each source."""
    if way is Messages:
        monkeypatch.setattr("resources.kafka_fetch.native", lambda *_: None)
    elif code() is None:
        pytest.skip("the machine code was not built")
    readers = []

    def make(made: MadeTopic, places: dict[int, int]) -> Reader:
        readers.append(KafkaResource(bootstrap_servers=kafka).tail(made.name, places))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def take_all(source: Source, count: int, ends: int) -> Chunk:
    """Take until so many records and ends of partitions have come."""
    frames, reached, events = [pl.DataFrame(schema=RECORD)], {}, []
    for _ in range(200):
        chunk = source.take(10_000, 1 << 26, 0.2)
        frames.append(chunk.records)
        reached |= chunk.reached
        events += chunk.events
        if sum(frame.height for frame in frames) >= count and len(events) >= ends:
            break
    return Chunk(pl.concat(frames).sort("partition", "offset"), 0, reached, events)


def follow(reader: Reader, until: Callable[[dict[int, int]], bool]) -> pl.DataFrame:
    """Take from a tail until its positions are so."""
    frames = [pl.DataFrame(schema=RECORD)]
    for _ in range(100):
        frames.append(reader.take(1_000, 1 << 20, 0.2).records)
        if until(reader.positions):
            return pl.concat(frames).sort("partition", "offset")
    raise AssertionError(reader.positions)


sizes = st.one_of(st.integers(0, 14), st.integers(0, 300), st.just(70_000))
values = st.none() | st.tuples(sizes, st.binary(min_size=1, max_size=5)).map(lambda t: (t[1] * t[0])[: t[0]])
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=40)), max_size=3)
stamps = st.sampled_from([-1, 1, 1_700_000_000_000, 253_402_300_799_999, 253_402_300_800_000, 2**63 - 2])
RECORDS = st.lists(st.tuples(st.integers(0, 2), values, values, headers, stamps), max_size=40)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=RECORDS)
def test_any_records_come_the_same_both_ways(topic: Make, sent: list) -> None:
    made = topic(partitions=3)
    producer = Producer({"bootstrap.servers": made.servers, "linger.ms": 5})
    for partition, key, value, more, stamp in sent:
        producer.produce(made.name, value, key, partition=partition, headers=more or None, timestamp=stamp)
    assert producer.flush(60) == 0
    found = []
    for open_source in (by_code, Messages):
        with closing(open_source({"bootstrap.servers": made.servers, **_FAST}, made.name)) as source:
            source.begin({0: 0, 1: 0, 2: 0})
            found.append(take_all(source, len(sent), 3))
    coded, plain = found
    assert dict(coded.records.schema) == RECORD
    assert coded.records.equals(plain.records)
    assert coded.reached == plain.reached
    told = [
        sorted((e.error.code(), e.error.str(), e.partition, e.offset) for e in way.events) for way in found
    ]
    assert told[0] == told[1]
    in_order = sorted(sent, key=lambda record: record[0])
    columns = coded.records.select("partition", "key", "value", "timestamp_ms").rows()
    assert columns == [(p, key, value, stamp) for p, key, value, _, stamp in in_order]
    named = [[(h["key"], h["value"]) for h in own] for own in coded.records["headers"].to_list()]
    assert named == [more for *_, more, _ in in_order]


def test_a_chunk_outlives_its_source(topic: Make, way: Open) -> None:
    made = topic()
    sent = [b"%d" % i * 50 for i in range(3_000)]
    made.produce(sent)
    source = way({"bootstrap.servers": made.servers, **_FAST}, made.name)
    source.begin({0: 0})
    chunk = take_all(source, 3_000, 1)
    source.close()
    source.close()
    part = chunk.records.select("value").slice(1_000, 5)
    del chunk, source
    assert part["value"].to_list() == sent[1_000:1_005]


def test_one_that_is_closed_refuses_work(topic: Make, way: Open) -> None:
    made = topic()
    source = way({"bootstrap.servers": made.servers, **_FAST}, made.name)
    source.begin({0: 0})
    worker = Thread(target=lambda: [source.take(10, 10, 0.2) for _ in range(100)], daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        failed: list[BaseException | None] = []
        patch.setattr("threading.excepthook", lambda told: failed.append(told.exc_value))
        worker.start()
        source.close()
        worker.join(30)
    assert [type(error) for error in failed] == [RuntimeError]
    with pytest.raises(RuntimeError):
        source.begin({0: 0})


def test_one_that_is_forgotten_is_freed(topic: Make) -> None:
    made = topic()
    source = by_code({"bootstrap.servers": made.servers, "error_cb": print, **_FAST}, made.name)
    source.begin({0: 0})
    source.take(10, 10, 0.1)
    gone = weakref.ref(source)
    del source
    gc.collect()
    assert gone() is None


def test_rows_and_bytes_bound_a_chunk(topic: Make, way: Open) -> None:
    made = topic(partitions=8)
    for partition in range(8):
        made.produce([b"x" * 50] * 500 + [b"y" * 100_000] * 60, partition=partition)
    with closing(way({"bootstrap.servers": made.servers, **_FAST}, made.name)) as source:
        source.begin(dict.fromkeys(range(8), 0))
        rows, largest = 0, 0
        for _ in range(2_000):
            chunk = source.take(300, 1 << 20, 0.2)
            rows += chunk.records.height
            assert chunk.records.height <= 300
            largest = max(largest, chunk.size)
            if rows == 8 * 560:
                break
    assert rows == 8 * 560
    assert largest < 40 << 20, "only the first large ones surprise it"


def test_wrong_options_are_the_clients_own_error(kafka: str, way: Open) -> None:
    with pytest.raises(KafkaException, match="No such configuration property") as failed:
        way({"bootstrap.servers": kafka, "group.id": "x", "no.such": "x"}, "any")
    assert failed.value.args[0].code() == KafkaError._INVALID_ARG


def test_the_callers_error_callback_is_told_and_may_raise(way: Open) -> None:
    told: list[KafkaError] = []

    def note(error: KafkaError) -> None:
        told.append(error)
        if len(told) > 1:
            raise ValueError("enough")

    with closing(way({"bootstrap.servers": "127.0.0.1:1", "error_cb": note, **_FAST}, "any")) as source:
        source.begin({0: 0})
        with pytest.raises(ValueError, match="enough"):
            take_all(source, 1, 1)
    assert {type(error) for error in told} == {KafkaError}
    assert told[0].code() in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}


def test_options_of_the_python_client_alone_are_left_to_it(kafka: str) -> None:
    assert native({"bootstrap.servers": kafka, "group.id": "x", "oauth_cb": lambda _: None}, "any") is None
    assert code() is None or isinstance(native({"bootstrap.servers": kafka, "group.id": "x"}, "any"), Native)


def test_a_tail_gives_what_comes(tail: Callable[..., Reader], topic: Make) -> None:
    made = topic(partitions=2)
    made.produce([b"0", b"1"])
    reader = tail(made, {0: 1, 1: 0})
    first = follow(reader, lambda at: at == {0: 2, 1: 0})
    assert first["value"].to_list() == [b"1"]
    quiet = reader.take(100, 1 << 20, 0.1)
    assert (quiet.records.height, quiet.first_offsets, quiet.topic_id) == (0, quiet.next_offsets, None)
    made.produce([b"2"])
    made.produce([b"a"], partition=1)
    later = follow(reader, lambda at: at == {0: 3, 1: 1})
    assert later["value"].to_list() == [b"2", b"a"]


def test_a_tail_stops_at_the_stable_offset_and_passes_gaps(tail: Callable[..., Reader], topic: Make) -> None:
    made = topic()
    producer = made.transactions()
    producer.begin_transaction()
    made.produce([b"in"] * 3, producer=producer)
    reader = tail(made, {0: 0})
    held = reader.take(100, 1 << 20, 1.0)
    assert (held.records.height, held.next_offsets) == (0, {0: 0})
    producer.abort_transaction(30)
    assert follow(reader, lambda at: at == {0: 4}).height == 0, "an aborted transaction is a gap"
    producer.begin_transaction()
    made.produce([b"in"] * 2, producer=producer)
    producer.commit_transaction(30)
    assert follow(reader, lambda at: at == {0: 7})["offset"].to_list() == [4, 5]


def test_partitions_come_and_go(tail: Callable[..., Reader], topic: Make) -> None:
    made = topic(partitions=2)
    for partition in (0, 1):
        made.produce([b"%d" % i for i in range(5_000)], partition=partition)
    reader = tail(made, {0: 0})
    follow(reader, lambda at: at[0] >= 1_000)
    for round_ in range(20):  # what was fetched ahead of the old place must not be taken for the new one
        reader.add({0: round_ * 7, 1: round_})
        batch = reader.take(50, 1 << 20, 2.0)
        for (partition,), own in batch.records.group_by("partition"):
            first = round_ * 7 if partition == 0 else round_
            assert own["offset"].to_list() == list(range(first, first + own.height))
        reader.remove([1, 9])
        assert set(reader.positions) == {0}
    admin = AdminClient({"bootstrap.servers": made.servers})
    admin.create_partitions([NewPartitions(made.name, 3)])[made.name].result(30)
    reader.add({2: 0})
    made.produce([b"new"], partition=2)
    new = follow(reader, lambda at: at[2] == 1).filter(pl.col("partition") == 2)
    assert new["value"].to_list() == [b"new"]


def test_a_tail_names_what_was_lost(tail: Callable[..., Reader], topic: Make) -> None:
    made = topic()
    made.produce([b"%d" % i for i in range(10)])
    places = [TopicPartition(made.name, 0, 4)]
    admin = AdminClient({"bootstrap.servers": made.servers})  # dropped, it would forget the call
    admin.delete_records(places)[places[0]].result(30)
    batch = tail(made, {0: 1}).take(6, 1 << 20, 5.0)
    assert (batch.holes, batch.first_offsets, batch.next_offsets) == ({0: (1, 4)}, {0: 1}, {0: 10})
    beyond = tail(made, {0: 11})
    with pytest.raises(
        KafkaReadError, match="the log ends before its known end: partition 0 stands at offset 11"
    ):
        follow(beyond, lambda at: at[0] > 11)


def test_it_reads_ahead_while_the_caller_is_busy(tail: Callable[..., Reader], topic: Make) -> None:
    made = topic()
    made.produce([b"x" * 100] * 20_000)
    reader = tail(made, {0: 0})
    follow(reader, lambda at: at[0] > 0)
    ready = 0
    for _ in range(50):  # nothing is waited for: what these give was fetched before
        ready = max(ready, reader.take(10_000, 1 << 26, 0).records.height)
    assert ready >= 500
