"""The topic that the benchmarks read: orders of about 250 bytes with nested items, over four hours.

One in a hundred is bad in one of five ways, one in two hundred is sent twice; both by number, so that
every run of every size is the same log. Stamps are spread evenly over the hours of 2026-01-01 from
midnight on.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandera.polars as pa
import polars as pl
from decode import spoiled
from topics import make, send

from sluice import Events, Hourly, Json

HOURS = 4
PARTITIONS = 4
START = datetime(2026, 1, 1, tzinfo=UTC)
TILES = [f"2026-01-01-{hour:02}:00" for hour in range(HOURS)]
NOW = START + timedelta(hours=HOURS, minutes=30)
BAD, TWICE = 100, 200  # one in so many
ITEMS = pl.List(pl.Struct({"sku": pl.String(), "qty": pl.Int32(), "price": pl.Decimal(10, 2)}))


class Order(pa.DataFrameModel):
    """An order as the shop's checkout sends it."""

    order_id: str
    customer_id: str
    status: str = pa.Field(isin=["placed", "paid", "shipped"])
    amount: pl.Decimal(12, 2) = pa.Field(ge=0)
    quantity: pl.Int32 = pa.Field(ge=0)
    placed_at: pl.Datetime("us", "UTC")
    coupon: str = pa.Field(nullable=True)
    items: ITEMS


def contract(topic: str) -> Events:
    """Give the stream over a topic made by `fill`."""
    return Events(
        topic=topic,
        value=Json(),
        schema=Order,
        key="order_id",
        event_time="placed_at",
        partitions=Hourly(start="2026-01-01"),
        max_quarantined=1.0,
        name="orders",
    )


def value(number: int, at: datetime, chance: random.Random) -> bytes:
    """Make the order of a number."""
    items = ",".join(
        f'{{"sku":"sku-{chance.randrange(9999):04}","qty":{chance.randrange(1, 5)},'
        f'"price":"{chance.randrange(100)}.{chance.randrange(100):02}"}}'
        for _ in range(1 + number % 3)
    )
    return (
        f'{{"order_id":"ord-{number:09}","customer_id":"cust-{chance.randrange(99999):05}",'
        f'"status":"{("placed", "paid", "shipped")[number % 3]}",'
        f'"amount":{chance.randrange(10000)}.{chance.randrange(100):02},"quantity":{number % 10},'
        f'"placed_at":"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z",'
        f'"coupon":{("null", chr(34) + "WELCOME" + chr(34))[number % 2]},"items":[{items}]}}'
    ).encode()


def records(rows: int, bad: int = BAD) -> Iterator[tuple[int, bytes, int]]:
    """Give partition, value and stamp (milliseconds) of record after record; `bad`: one in so many."""
    chance = random.Random(7)
    step = timedelta(hours=HOURS) / rows
    last = b""
    for number in range(rows):
        at = START + number * step
        if number % TWICE != TWICE // 2 or not last:
            last = value(number, at, chance)
        raw = spoiled(last, chance) if bad and number % bad == bad // 3 else last
        yield number % PARTITIONS, raw, int(at.timestamp() * 1000)


def fill(servers: str, topic: str, rows: int, bad: int = BAD) -> int:
    """Make the topic and its records; give the bytes of all values."""
    make(servers, topic, PARTITIONS)
    each = ({"partition": p, "value": raw, "timestamp": stamp} for p, raw, stamp in records(rows, bad))
    return send(servers, topic, each)
