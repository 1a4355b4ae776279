"""A topic that was deleted and made again: never mixed with the old one, and both live side by side."""

import pytest

from assets import equations
from assets.ingest import Limits, ingest
from assets.reingest import mend
from resources.lake import Lake
from sluice.errors import TopicMissingError, TopicRecreatedError
from tests.engine import HOURS, NOW, assert_same, both, decide, load, orders, prove, send, state, value
from tests.fake_kafka import FakeKafka

FIRST, SECOND = orders(), orders(epoch=2)
TILES = HOURS[:2]


def topic(kafka: FakeKafka, topic_id: str, name: str, count: int = 6) -> FakeKafka:
    """Make the topic, anew if it is there: some orders, one bad, one tombstone, in two hours."""
    kafka.create("t", 2, topic_id)
    for i in range(count):
        send(kafka, value(f"{name}{i}", f"{i}.00", i * 15), i * 15, i % 2)
    send(kafka, b"garbage", 20, 1)
    send(kafka, None, 30, 0)
    return kafka


def test_another_topic_of_the_name_is_refused_and_nothing_of_it_read(lake):
    kafka = topic(FakeKafka(), "id-1", "old")
    both(lake, kafka, FIRST, TILES)
    before = state(lake, FIRST)
    topic(kafka, "id-2", "new", 20)
    for _ in range(2):
        with pytest.raises(TopicRecreatedError, match="set epoch=2"):
            load(lake, kafka, FIRST, TILES)
    assert_same(state(lake, FIRST), before)


def test_both_epochs_live_side_by_side(lake, tmp_path):
    kafka = topic(FakeKafka(), "id-1", "old")
    both(lake, kafka, FIRST, TILES)
    before = state(lake, FIRST)
    topic(kafka, "id-2", "new", 4)
    both(lake, kafka, SECOND, TILES)
    prove(lake, SECOND)
    rows = state(lake, SECOND)["silver"]
    assert rows.group_by("_epoch").len().sort("_epoch")["len"].to_list() == [6, 4]
    for layer, found in state(lake, SECOND).items():
        epoch = "_epoch" if layer == "silver" else "epoch"
        assert found.filter(found[epoch] == 1).equals(before[layer]), layer


def test_tiles_of_both_epochs_are_replaced_and_decided_anew(lake):
    kafka = topic(FakeKafka(), "id-1", "old")
    both(lake, kafka, FIRST, TILES)
    topic(kafka, "id-2", "new", 4)
    both(lake, kafka, SECOND, TILES)
    before, bronze = state(lake, SECOND), rows_of_bronze(lake)
    said = mend(lake, kafka, SECOND, TILES, run_id="again", limits=Limits(5, 2**40), every=True)
    assert said == [f"replaced {tile} from Kafka" for tile in TILES]
    assert rows_of_bronze(lake) == bronze
    decide(lake, SECOND, TILES, replace=True)
    assert_same(state(lake, SECOND), before)
    prove(lake, SECOND)
    both(lake, kafka, SECOND, TILES)
    prove(lake, SECOND)


def test_what_silver_had_not_decided_of_the_old_epoch_is_decided_with_the_new_one(lake):
    kafka = topic(FakeKafka(), "id-1", "old")
    load(lake, kafka, FIRST, TILES)
    topic(kafka, "id-2", "new", 4)
    both(lake, kafka, SECOND, TILES)
    prove(lake, SECOND)
    assert state(lake, SECOND)["silver"].height == 10


def test_a_topic_made_again_while_it_is_read_is_not_mixed_in(lake):
    """The batch was fetched from the new topic, planned by the old one's bounds."""
    kafka = topic(FakeKafka(), "id-1", "old")
    read = kafka.read

    def swapped(name, ranges, **bounds):
        topic(kafka, "id-2", "new", 20)
        yield from read(name, ranges, **bounds)

    kafka.read = swapped
    with pytest.raises(TopicRecreatedError, match=r"id was id-1, now id-2.*epoch=2"):
        ingest(lake, kafka, FIRST, TILES, run_id="r", limits=Limits(100, 2**40), now=NOW)
    assert rows_of_bronze(lake) == []
    kafka.read = read
    both(lake, kafka, SECOND, TILES)
    prove(lake, SECOND)
    assert state(lake, SECOND)["silver"].height == 8


def test_a_tile_is_not_replaced_by_another_topics_records(lake):
    kafka = topic(FakeKafka(), "id-1", "old")
    both(lake, kafka, FIRST, TILES)
    before = rows_of_bronze(lake)
    topic(kafka, "id-2", "new", 20)
    with pytest.raises(TopicRecreatedError):
        mend(lake, kafka, FIRST, TILES, run_id="again", limits=Limits(5, 2**40), every=True)
    assert rows_of_bronze(lake) == before


def test_a_topic_that_is_gone_is_named_with_what_the_lake_keeps(lake):
    kafka = topic(FakeKafka(), "id-1", "old")
    both(lake, kafka, FIRST, TILES)
    del kafka.topics["t"]
    with pytest.raises(TopicMissingError, match=rf"'t' does not exist.*lake keeps.*{TILES[1]}"):
        load(lake, kafka, FIRST, TILES)
    assert equations.silver_unequal(lake, FIRST).is_empty()


def rows_of_bronze(lake: Lake) -> list[tuple]:
    table = lake.open("bronze/orders")
    if table is None:
        return []
    rows = lake.scan(table).collect()
    return sorted(rows.select("epoch", "partition", "offset", "value").rows())
