"""A stream followed over a Kafka in memory, as a continuous run follows it, for tests."""

from datetime import datetime
from threading import Event

from assets.flow import Flow, Pace
from assets.upkeep import Upkeep
from resources.lake import Lake
from sluice import Changes, Hourly, Json
from sluice.contract import Stream
from tests.engine import (
    HOURS,
    NOW,
    Order,
    orders,
)
from tests.fake_kafka import FakeKafka

STREAM = orders()
PEOPLE = Changes(
    topic="t",
    value=Json(),
    schema=Order,
    key="order_id",
    partitions=Hourly(start="2026-01-01"),
    name="people",
    max_quarantined=1.0,
)
TILES = HOURS[:4]
SMALL = Pace(interval=0.01, rows=7)


def flow(lake: Lake, kafka: FakeKafka, now: datetime = NOW, stream: Stream = STREAM, **more) -> Flow:
    return Flow(lake, kafka, stream, "run", more.pop("pace", SMALL), clock=lambda: now, say=silent, **more)


def follow(lake: Lake, kafka: FakeKafka, now: datetime = NOW, **more) -> None:
    """Catch up, and do the slow things once."""
    one = flow(lake, kafka, now, **more)
    one.run(Event(), caught_up=True)
    Upkeep(one.lake, one, silent).once()


def silent(_text: str) -> None:
    """Say nothing."""
