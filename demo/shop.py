"""The life of a shop over some hours, as the records that its services send to Kafka.

All of it follows from the seed: two runs with equal arguments give equal records. About one record in a
hundred is wrong on purpose (`demo.oddities`), and orders come late, out of order, and before the customer
that placed them is known. What must come of it is computed in `demo.expected`.
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import count
from random import Random
from typing import Any

from demo.message import ORDERS, PAGEVIEWS, PAYMENTS, Message, encode
from demo.oddities import odd_changes, oddities
from demo.shop_database import HOUR_MS, SNAPSHOT_MS, Database, zoned

CUSTOMERS_AT_START = 400
PRODUCTS = 150
_STATUS = (("placed", 20), ("paid", 45), ("shipped", 30), ("cancelled", 5))
_LATE = 80  # every so many orders, one comes hours late
_SLOW = 25  # and one comes minutes late, after younger ones


def generate(seed: int, start: datetime, hours: int = 72, orders_per_hour: int = 120) -> Iterator[Message]:
    """Give the shop's records in the order in which Kafka gets them.

    Args:
        seed: decides everything else.
        start: when the shop opens, zoned; a full hour.
        hours: for how long; nothing is sent after.
        orders_per_hour: how busy it is; there are two or three other records for each. From 40 on, no
            hourly tile has more than 5 % of bad records.

    Raises:
        ValueError: `start` is no full, zoned hour.
    """
    if start.tzinfo is None or start.timestamp() % 3600:
        raise ValueError(f"{start!r} is no full hour with a time zone; give one")
    start_ms = round(start.timestamp() * 1000)
    shop = _Shop(Random(seed), start_ms, hours)
    messages = shop.trade(orders_per_hour)
    end_ms = start_ms + hours * HOUR_MS
    sent = (message for message in messages if start_ms <= message.timestamp_ms < end_ms)
    yield from sorted(sent, key=lambda message: message.timestamp_ms)


class _Shop:
    """The services of the shop, each sending to its topic."""

    def __init__(self, random: Random, start_ms: int, hours: int) -> None:
        self._random = random
        self._start_ms = start_ms
        self._hours = hours
        self._database = Database(random, start_ms, hours, customers=CUSTOMERS_AT_START, products=PRODUCTS)
        self._customers = list(self._database.customers.rows)
        self._products = list(self._database.products.rows)
        self._numbers = {topic: count(1) for topic in (ORDERS, PAYMENTS, PAGEVIEWS)}

    def trade(self, orders_per_hour: int) -> Iterator[Message]:
        """Let customers look, order and pay; gives the records in no order."""
        for table in (self._database.customers, self._database.products):
            yield from table.messages
            yield from odd_changes(table.messages)
        for name, joined_ms in self._database.newcomers[::3]:  # the order overtakes the new customer
            placed_ms = joined_ms - self._random.randrange(60_000, 300_000)
            yield from self._order(name, placed_ms, joined_ms - placed_ms + 500)
        for hour in range(self._hours):
            for _ in range(orders_per_hour):
                at_ms = self._start_ms + hour * HOUR_MS + self._random.randrange(HOUR_MS)
                yield from self._visit(self._customer(at_ms), at_ms)

    def _customer(self, at_ms: int) -> str:
        """Choose someone who is a customer at that moment, or will be when the tables are first read."""
        known_ms = max(at_ms, self._start_ms + SNAPSHOT_MS)
        while True:
            name = self._random.choice(self._customers)
            if self._database.customers.alive(name, known_ms):
                return name

    def _visit(self, customer: str, at_ms: int) -> Iterator[Message]:
        """Let someone look at a page or two, and order."""
        random = self._random
        session = f"s-{random.getrandbits(48):012x}"
        for page in range(random.choice((1, 1, 2))):
            signed_in = customer if random.random() < 0.7 else None  # noqa: PLR2004  # the share of the signed in
            yield from self._look(session, signed_in, at_ms - (page + 1) * 20_000)
        delay_ms = random.randrange(20, 3_000)
        if random.randrange(_LATE) == 0:
            delay_ms += random.randrange(3 * HOUR_MS, 5 * HOUR_MS)
        elif random.randrange(_SLOW) == 0:
            delay_ms += random.randrange(30_000, 300_000)
        yield from self._order(customer, at_ms, delay_ms)

    def _look(self, session: str, customer: str | None, at_ms: int) -> Iterator[Message]:
        random = self._random
        shown = random.sample(self._products, random.randrange(4))
        values = {
            "view_id": f"v-{random.getrandbits(64):016x}",
            "session_id": session,
            "customer_id": customer,
            "url": random.choice(("/", "/search", f"/p/{shown[0]}" if shown else "/cart")),
            "device": random.choice(("desktop", "phone", "phone", "tablet")),
            "ip": f"192.0.2.{random.randrange(1, 255)}",
            "items": [
                {"product_id": product, "position": place, "price": random.randrange(199, 19_999) / 100}
                for place, product in enumerate(shown, 1)
            ],
            "viewed_at": zoned(at_ms),
        }
        yield from self._send(PAGEVIEWS, session, values, at_ms + random.randrange(10, 20_000))

    def _order(self, customer: str, at_ms: int, delay_ms: int) -> Iterator[Message]:
        random = self._random
        cents = random.randrange(199, 99_999)
        status = random.choices([name for name, _ in _STATUS], [weight for _, weight in _STATUS])[0]
        name = f"o-{random.getrandbits(48):012x}"
        values = {
            "order_id": name,
            "customer_id": customer,
            "product_id": random.choice(self._products),
            "quantity": random.randrange(1, 5),
            "status": status,
            "amount": random.choice(
                (cents / 100, f"{cents / 100:.2f}")
            ),  # one service writes numbers, one text
            "currency": "EUR",
            "placed_at": zoned(at_ms),
        }
        if random.randrange(10) == 0:
            values["coupon"] = random.choice((None, "WELCOME", customer.upper()))
        yield from self._send(ORDERS, name, values, at_ms + delay_ms)
        if status != "cancelled":
            paid_ms = at_ms + random.randrange(2_000, 900_000)
            values = {
                "payment_id": f"y-{random.getrandbits(48):012x}",
                "order_id": name,
                "method": random.choice(("card", "card", "transfer", "voucher")),
                "status": random.choice(
                    ("captured", "captured", "captured", "captured", "failed", "refunded")
                ),
                "amount": f"{cents / 100:.2f}",
                "paid_at": paid_ms,
            }
            yield from self._send(PAYMENTS, name, values, paid_ms + delay_ms + random.randrange(30, 500))

    def _send(self, topic: str, key: str, values: dict[str, Any], sent_ms: int) -> Iterator[Message]:
        message = Message(
            topic, key.encode(), encode(values), sent_ms, (("content-type", b"application/json"),)
        )
        yield message
        yield from oddities(topic, next(self._numbers[topic]), message, values)
