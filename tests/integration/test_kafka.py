"""Reading a real Kafka: what comes back, what is not there, and what goes wrong."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

import polars as pl
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import MadeTopic

from resources.kafka import Batch, KafkaResource
from resources.kafka_code import code
from resources.kafka_read import Reader
from sluice.errors import KafkaReadError, KafkaUnreachableError, TopicMissingError
from sluice.tables import RECORD
from sluice.tiles import HOUR_MS, bounds, first_offset

pytestmark = pytest.mark.integration
Make = Callable[..., MadeTopic]
START = 1_700_000_000_000


@pytest.fixture
def looking(kafka: str) -> KafkaResource:
    """Give the resource to tests that read no records."""
    return KafkaResource(bootstrap_servers=kafka, stall_seconds=5)


@pytest.fixture(params=["machine code", "Python"])
def resource(kafka: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> KafkaResource:
    """Give the resource with each source of records."""
    if request.param == "Python":
        monkeypatch.setattr("resources.kafka_fetch.native", lambda *_: None)
    elif code() is None:
        pytest.skip("the machine code was not built")
    return KafkaResource(bootstrap_servers=kafka, stall_seconds=5)


def read_all(
    resource: KafkaResource, made: MadeTopic, *, rows: int = 500_000, size: int = 1 << 28
) -> tuple[list[Batch], pl.DataFrame]:
    partitions = resource.topic(made.name).partitions
    marks = resource.watermarks(made.name, partitions)
    ranges = {p: (0, mark.stable) for p, mark in marks.items()}
    batches = list(resource.read(made.name, ranges, max_rows=rows, max_bytes=size))
    frames = [batch.records for batch in batches]
    return batches, pl.concat(frames) if frames else pl.DataFrame(schema=RECORD)


def test_records_come_back_as_they_were_sent(resource: KafkaResource, topic: Make) -> None:
    made = topic()
    headers = [("a", b"1"), ("a", None), ("b", b""), ("a", b"\x00\xff")]
    values, keys = [b"v", None, b"", b"\x00\xff"], [b"k", b"", None, b"\xff"]
    made.produce(values, keys=keys, stamps=[START] * 4, headers=headers)
    made.produce([b"plain"])
    (batch,), records = read_all(resource, made)
    assert dict(records.schema) == RECORD
    assert records["value"].to_list() == [*values, b"plain"]
    assert records["key"].to_list() == [*keys, None]
    assert records["headers"][0].to_list() == [{"key": k, "value": v} for k, v in headers]
    assert records["headers"][4].to_list() == []
    assert records["offset"].to_list() == [0, 1, 2, 3, 4]
    assert records["timestamp"][0] == datetime.fromtimestamp(START / 1000, UTC)
    assert (batch.first_offsets, batch.next_offsets, batch.holes) == ({0: 0}, {0: 5}, {})


def test_each_kind_of_stamp_is_kept(resource: KafkaResource, topic: Make) -> None:
    made = topic()
    stamps = [START, 253_402_300_799_999, 253_402_300_800_000, 2**62]
    made.produce([b"x"] * 4, stamps=stamps)
    _, records = read_all(resource, made)
    assert records["timestamp_ms"].to_list() == stamps
    assert records["timestamp"].is_null().to_list() == [False, False, True, True]
    assert set(records["timestamp_type"]) == {"CreateTime"}
    unknown = topic()
    unknown.produce([b"x"], stamps=[-1])
    _, records = read_all(resource, unknown)
    assert (records["timestamp_ms"][0], records["timestamp"][0]) == (-1, None)
    stamped = topic(message_timestamp_type="LogAppendTime")
    stamped.produce([b"x"], stamps=[START])
    _, records = read_all(resource, stamped)
    assert records["timestamp_type"].to_list() == ["LogAppendTime"]
    assert records["timestamp_ms"][0] > START + HOUR_MS


def test_batches_are_bounded_by_rows_and_by_bytes(resource: KafkaResource, topic: Make) -> None:
    made = topic(partitions=3)
    for partition in range(3):
        made.produce([b"%d" % i * 100 for i in range(1_000)], partition=partition)
    batches, records = read_all(resource, made, rows=700)
    assert [batch.records.height for batch in batches] == [700, 700, 700, 700, 200]
    for before, after in pairwise(batches):
        assert all(before.next_offsets[p] == first for p, first in after.first_offsets.items())
    for _, own in records.group_by("partition"):
        assert own["offset"].to_list() == list(range(1_000))
    batches, again = read_all(resource, made, size=100_000)
    assert len(batches) > 5
    assert again.sort("partition", "offset").equals(records.sort("partition", "offset"))


def test_a_range_is_read_and_no_more(resource: KafkaResource, topic: Make) -> None:
    made = topic(partitions=2)
    for partition in range(2):
        made.produce([b"%d" % i for i in range(5_000)], partition=partition)
    (batch,) = resource.read(made.name, {0: (10, 20), 1: (4_990, 5_000)}, max_rows=500, max_bytes=1 << 20)
    assert batch.records.sort("partition", "offset")["offset"].to_list() == [
        *range(10, 20),
        *range(4_990, 5_000),
    ]
    assert batch.next_offsets == {0: 20, 1: 5_000}
    assert list(resource.read(made.name, {0: (7, 7)}, max_rows=500, max_bytes=1 << 20)) == []


def test_transactions_count_when_committed(resource: KafkaResource, topic: Make) -> None:
    made = topic()
    producer = made.transactions()
    for end in (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        made.produce([b"in"] * 3, producer=producer)
        end(30)
    made.settle()
    (batch,), records = read_all(resource, made)
    assert records["offset"].to_list() == [0, 1, 2, 8, 9, 10]
    assert batch.next_offsets == {0: 12}, "marks and aborted records count as read"


def test_a_range_of_nothing_but_aborted_records_ends(kafka: str, topic: Make) -> None:
    resource = KafkaResource(bootstrap_servers=kafka, stall_seconds=60)
    made = topic()
    producer = made.transactions()
    producer.begin_transaction()
    made.produce([b"in"] * 3, producer=producer)
    producer.abort_transaction(30)
    made.settle()
    began = time.monotonic()
    (batch,), _ = read_all(resource, made)
    assert (batch.records.height, batch.next_offsets) == (0, {0: 4})
    assert time.monotonic() - began < 30, "it ended at the mark, not by patience"


def test_an_open_transaction_holds_the_stable_offset(resource: KafkaResource, topic: Make) -> None:
    made = topic()
    made.produce([b"x"] * 2)
    producer = made.transactions()
    producer.begin_transaction()
    made.produce([b"open"], producer=producer, stamps=[START])
    made.produce([b"after"])
    marks = resource.watermarks(made.name, [0])[0]
    assert (marks.low, marks.stable, marks.high) == (0, 2, 4)
    told = resource.open_transactions(made.name, 0)
    assert "2023-11-14T22:13:20" in told
    assert f"--topic {made.name} --partition 0" in told
    producer.abort_transaction(30)
    made.settle()
    _, records = read_all(resource, made)
    assert records["value"].to_list() == [b"x", b"x", b"after"]
    assert resource.open_transactions(made.name, 0) == "it has ended by now"


def test_what_the_log_lost_is_named(resource: KafkaResource, topic: Make) -> None:
    made = topic()
    made.produce([b"%d" % i for i in range(100)])
    delete(made, 40)
    (batch,), records = read_all(resource, made)
    assert batch.holes == {0: (0, 40)}
    assert batch.next_offsets == {0: 100}
    assert records["offset"].to_list() == list(range(40, 100))
    (gone,) = resource.read(made.name, {0: (3, 10)}, max_rows=9, max_bytes=9)
    assert (gone.records.height, gone.holes, gone.next_offsets) == (0, {0: (3, 10)}, {0: 10})


def test_what_the_log_loses_meanwhile_is_named(resource: KafkaResource, topic: Make) -> None:
    """The client says "out of range" where the log's start has moved since it was looked up."""
    made = topic()
    made.produce([b"%d" % i for i in range(100)])
    delete(made, 40)
    answers = iter([0, 40])
    reader = Reader(
        {"bootstrap.servers": made.servers}, made.name, lambda _: {0: next(answers)}, lambda: "id"
    )
    reader.add({0: 5}, {0: 100})
    (batch,) = reader.batches(1_000, 1 << 20, stall_seconds=5)
    reader.close()
    assert (batch.records.height, batch.holes) == (60, {0: (5, 40)})
    assert (batch.first_offsets, batch.next_offsets) == ({0: 5}, {0: 100})


def delete(made: MadeTopic, before: int) -> None:
    admin = AdminClient({"bootstrap.servers": made.servers})
    for future in admin.delete_records([TopicPartition(made.name, 0, before)]).values():
        future.result(30)


def test_compacted_offsets_are_gaps(resource: KafkaResource, topic: Make) -> None:
    made = topic(
        cleanup_policy="compact",
        segment_ms="1000",
        min_cleanable_dirty_ratio="0.0",
        max_compaction_lag_ms="1000",
        delete_retention_ms="100",
    )
    made.produce([b"%d" % i for i in range(300)], keys=[b"%d" % (i % 10) for i in range(300)])
    deadline = time.monotonic() + 60
    records = pl.DataFrame()
    while time.monotonic() < deadline:
        time.sleep(1.1)
        made.produce([b"roll"], keys=[b"roll"])
        (batch,), records = read_all(resource, made)
        if records.height < 100:
            break
    assert 10 <= records.height < 100
    assert batch.next_offsets[0] > 300
    assert batch.holes == {}


def test_ten_megabytes_in_one_value(resource: KafkaResource, topic: Make) -> None:
    made = topic(max_message_bytes=str(12 << 20))
    big = bytes(range(256)) * 40_960
    made.produce([b"before", big, b"after"], **{"message.max.bytes": 12 << 20})
    _, records = read_all(resource, made)
    assert records["value"].to_list() == [b"before", big, b"after"]


def test_a_topic_made_again_has_another_id(looking: KafkaResource, topic: Make) -> None:
    made = topic(partitions=2)
    before = looking.topic(made.name)
    assert before.partitions == (0, 1)
    assert looking.topic(made.name) == before
    admin = AdminClient({"bootstrap.servers": made.servers})
    admin.delete_topics([made.name])[made.name].result(30)
    time.sleep(1)
    topic(name=made.name)
    after = looking.topic(made.name)
    assert (after.id != before.id, after.partitions) == (True, (0,))


def test_an_unknown_topic_is_named(looking: KafkaResource) -> None:
    with pytest.raises(TopicMissingError, match="'no-such'"):
        looking.topic("no-such")
    with pytest.raises(TopicMissingError, match="'no-such'"):
        looking.watermarks("no-such", [0])


def test_a_dead_broker_gives_one_clear_error_soon(capfd: pytest.CaptureFixture[str]) -> None:
    dead = KafkaResource(bootstrap_servers="127.0.0.1:1", timeout_seconds=2)
    began = time.monotonic()
    with pytest.raises(KafkaUnreachableError, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        dead.topic("any")
    with pytest.raises(KafkaUnreachableError):
        dead.watermarks("any", [0])
    with pytest.raises(KafkaUnreachableError):
        next(dead.read("any", {0: (0, 5)}, max_rows=1, max_bytes=1))
    assert time.monotonic() - began < 60
    assert capfd.readouterr().err == ""


def test_records_that_do_not_come_are_an_error_that_says_where(resource: KafkaResource, topic: Make) -> None:
    made = topic()
    made.produce([b"x"] * 3)
    impatient = KafkaResource(bootstrap_servers=made.servers, stall_seconds=1)
    with pytest.raises(KafkaReadError, match="partition 0 stands at offset 3, its range ends at 9"):
        list(impatient.read(made.name, {0: (0, 9)}, max_rows=100, max_bytes=1 << 20))


def test_bounds_are_found_on_a_real_log(looking: KafkaResource, topic: Make) -> None:
    made = topic()
    stamps = [START + i * 60_000 for i in range(600)]
    stamps[5], stamps[200] = START + 10**11, START - 10**11
    made.produce([b"x"] * 600, stamps=stamps)
    log = looking.log(made.name, 0)
    assert first_offset(log, START + 60_000) == 1
    assert (log.low, log.high, log.in_order) == (0, 600, False)
    ends = [START + i * HOUR_MS for i in range(1, 12)]
    assert bounds(log, 0, ends, START + 10**10) == [60, 120, 180, *range(240, 600, 60), 600, 600]
    stretch = log.stamps(100, 103)
    assert stretch.rows() == [(i, stamps[i]) for i in range(100, 103)]


def test_a_log_stamped_by_the_broker_is_in_order(looking: KafkaResource, topic: Make) -> None:
    made = topic(message_timestamp_type="LogAppendTime")
    made.produce([b"x"] * 10)
    log = looking.log(made.name, 0)
    assert log.in_order
    assert bounds(log, 0, [1, 2**45], 2**46) == [0, 10]


def test_uncommitted_records_are_seen_by_look_ups(looking: KafkaResource, topic: Make) -> None:
    made = topic()
    producer = made.transactions()
    producer.begin_transaction()
    made.produce([b"open"] * 4, producer=producer, stamps=[START + i for i in range(4)])
    log = looking.log(made.name, 0)
    assert log.offsets_for_times([START + 2]) == [2]
    assert log.stamps(0, 9)["offset"].to_list() == [0, 1, 2, 3]
    producer.abort_transaction(30)
