"""Tiles on a real broker: wrong clocks, the broker's own stamps, retention, and a tile replaced by itself."""

from datetime import timedelta

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from assets import bounds, equations, proofs, reingest
from assets.ingest import Limits, ingest
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import tables
from tests.engine import HOURS, NOW, START, ms, orders

pytestmark = pytest.mark.integration
LIMITS = Limits(10_000, 1 << 28)
TILES = HOURS[:6]


def load(lake, kafka, stream, tiles=TILES):
    kafka = KafkaResource(bootstrap_servers=kafka, stall_seconds=10)
    return ingest(lake, kafka, stream, tiles, run_id="r", limits=LIMITS, now=NOW, say=lambda _: None)


def placed(lake, stream) -> dict[int, str]:
    rows = lake.read(tables.bronze(stream)).collect()
    assert rows["offset"].is_unique().all()
    return dict(rows.sort("offset").select("offset", "tile").rows())


def expire(kafka: str, topic: str, low: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    place = TopicPartition(topic, 0, low)
    admin.delete_records([place])[place].result()


def test_wrong_clocks_move_nothing_and_a_tile_is_replaced_by_itself(tmp_path, kafka, topic):
    """Far future and past, from Kafka and, after retention, from bronze (event-streaming 6)."""
    made, lake = topic(), Lake(str(tmp_path))
    stream = orders(topic=made.name)
    stamps = [ms(START + timedelta(minutes=i)) for i in range(360)]
    right = {offset: TILES[offset // 60] for offset in range(360)}
    stamps[0], stamps[70], stamps[130] = ms(NOW) + 10**12, ms(NOW) + 10**11, ms(START) - 10**9
    made.produce([b"%d" % i for i in range(360)], stamps=stamps)
    load(lake, kafka, stream)
    assert placed(lake, stream) == right
    resource = KafkaResource(bootstrap_servers=kafka)
    before = bounds.stored(lake, stream).drop("closed_at")
    mend = {"run_id": "again", "limits": LIMITS, "every": True}
    assert reingest.mend(lake, resource, stream, TILES[1:2], **mend) == [f"replaced {TILES[1]} from Kafka"]
    expire(kafka, made.name, 90)
    (note,) = reingest.mend(lake, resource, stream, TILES[1:2], **mend)
    assert note.startswith(f"replaced {TILES[1]} from bronze itself")
    assert placed(lake, stream) == right
    assert bounds.stored(lake, stream).drop("closed_at").equals(before)
    assert equations.holes(lake, stream).is_empty()
    assert proofs.unequal(lake, stream, "bronze").is_empty()


def test_what_retention_took_is_a_hole_until_it_is_acknowledged(tmp_path, kafka, topic):
    """A blocking check is red until someone says why it may be."""
    made, lake = topic(), Lake(str(tmp_path))
    stream = orders(topic=made.name)
    made.produce([b"x"] * 120, stamps=[ms(START + timedelta(minutes=i)) for i in range(120)])
    resource = KafkaResource(bootstrap_servers=kafka)
    bounds.ensure(lake, resource, stream, TILES, NOW)
    expire(kafka, made.name, 70)
    assert load(lake, kafka, stream).holes == 70
    lost = equations.holes(lake, stream)
    assert lost.select("tile", "first_offset", "holes").rows() == [(TILES[0], 0, 60), (TILES[1], 60, 10)]
    assert reingest.acknowledge(lake, stream, "retention") == 2
    assert equations.holes(lake, stream).is_empty()
    assert equations.bronze_unequal(lake, stream).is_empty()


def test_a_topic_that_the_broker_stamps_needs_no_reading(tmp_path, kafka, topic):
    """All was stamped now: one tile owns it, the tiles before it nothing."""
    made, lake = topic(message_timestamp_type="LogAppendTime"), Lake(str(tmp_path))
    stream = orders(topic=made.name)
    made.produce([b"x"] * 50)
    log = KafkaResource(bootstrap_servers=kafka).log(made.name, 0)
    assert log.in_order
    load(lake, kafka, stream)
    owned = bounds.stored(lake, stream)
    stamps = log.stamps(0, 50)["stamp"]
    early = stamps.is_between(ms(START), ms(START + timedelta(hours=6)), closed="left").sum()
    assert (owned["next_offset"] - owned["first_offset"]).sum() == early
    assert log.offsets_for_times([stamps.min(), stamps.max() + 1]) == [0, None]
