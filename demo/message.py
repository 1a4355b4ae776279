"""One Kafka record of the demo, before any broker has it."""

import json
from dataclasses import dataclass
from typing import Any

ORDERS = "shop.orders"
PAYMENTS = "shop.payments"
PAGEVIEWS = "shop.pageviews"
CUSTOMERS = "shop.public.customers"
PRODUCTS = "shop.public.products"
TOPICS = (ORDERS, PAYMENTS, PAGEVIEWS, CUSTOMERS, PRODUCTS)


@dataclass(frozen=True, slots=True)
class Message:
    """A record to produce; equal keys of a topic belong into one Kafka partition, in the order given.

    Attributes:
        topic: where to.
        key: the record's key; None where it has none.
        value: the record's value; None for a tombstone.
        timestamp_ms: when the producer sent it.
        headers: names and values.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


def encode(value: Any) -> bytes:
    """Write JSON as services do: no spaces, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
