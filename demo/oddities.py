"""What goes wrong in a real shop, on purpose: a few records in a hundred are not as they should be.

Decides which oddity befalls which record: every sixtieth of a topic, one kind after the other, so that each
kind occurs and no tile of more than thirty records has too many. What is refused carries ids of its own and
stands for nothing; what is sent again belongs to a record that was sent rightly before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from demo.message import CUSTOMERS, ORDERS, PAGEVIEWS, PAYMENTS, Message, encode

EVERY = 60
MINUTE_MS = 60_000
Values = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """The columns of a stream of events that can be spoilt."""

    key: str
    time: str
    choice: str
    choices: tuple[str, str]
    typed: str


SHAPES = {
    ORDERS: Shape("order_id", "placed_at", "status", ("shipped", "cancelled"), "quantity"),
    PAYMENTS: Shape("payment_id", "paid_at", "status", ("captured", "refunded"), "amount"),
    PAGEVIEWS: Shape("view_id", "viewed_at", "device", ("phone", "desktop"), "items"),
}


def shifted(time: Any, minutes: int) -> Any:
    """Move a time, given as text or as milliseconds."""
    if isinstance(time, str):
        return (datetime.fromisoformat(time) + timedelta(minutes=minutes)).isoformat()
    return time + minutes * MINUTE_MS


def _other(shape: Shape, values: Values) -> Values:
    first, second = shape.choices
    return values | {shape.choice: second if values[shape.choice] == first else first}


Spoil = Callable[[Shape, Values], bytes | None]
# Sent again: the id stays. `correction` happened before what it corrects, so it stands.
AGAIN: dict[str, Spoil] = {
    "duplicate": lambda _, values: encode(values),
    "conflict": lambda shape, values: encode(_other(shape, values)),
    "correction": lambda shape, v: encode(_other(shape, v) | {shape.time: shifted(v[shape.time], -1)}),
}
# Fine, but for a member that the contract does not know.
FINE: dict[str, Spoil] = {"unknown member": lambda _, values: encode(values | {"campaign": "spring"})}
# Refused, but for the tombstone; with the stage that refuses it.
SPOILT: dict[str, tuple[str, Spoil]] = {
    "garbage": ("decode", lambda _, values: b"\x00\xff" + encode(values)),
    "truncated": ("decode", lambda _, values: encode(values)[:-7]),
    "no object": ("decode", lambda _, values: encode([values])),
    "empty": ("decode", lambda _, __: b""),
    "no key": ("key", lambda shape, values: encode({k: v for k, v in values.items() if k != shape.key})),
    "null key": ("key", lambda shape, values: encode(values | {shape.key: None})),
    "wrong type": ("schema", lambda shape, values: encode(values | {shape.typed: "many"})),
    "null": ("schema", lambda shape, values: encode(values | {shape.choice: None})),
    "unknown choice": ("rule", lambda shape, values: encode(values | {shape.choice: "teleported"})),
    "future": ("rule", lambda shape, v: encode(v | {shape.time: shifted(v[shape.time], 60 * 24 * 3)})),
    "ancient": ("rule", lambda shape, v: encode(v | {shape.time: shifted(v[shape.time], -60 * 24 * 9999)})),
    "tombstone": ("", lambda _, __: None),
}
KINDS = (*AGAIN, *FINE, *SPOILT)


def oddities(topic: str, number: int, message: Message, values: Values) -> Iterator[Message]:
    """Give what goes wrong after one record of a stream of events, if anything.

    Args:
        topic: of the stream.
        number: the record's place among those of its topic.
        message: the record, as it was sent.
        values: what it says.
    """
    if number % EVERY:
        return
    kind = KINDS[number // EVERY % len(KINDS)]
    shape = SHAPES[topic]
    key = message.key
    if kind in AGAIN:
        value = AGAIN[kind](shape, values)
    else:
        name = f"x-{number}"
        key = name.encode()
        values = values | {shape.key: name}
        value = FINE[kind](shape, values) if kind in FINE else SPOILT[kind][1](shape, values)
    yield Message(topic, key, value, message.timestamp_ms + 2 * MINUTE_MS, message.headers)


def odd_changes(messages: list[Message]) -> Iterator[Message]:
    """Give what goes wrong in what a connector tells of a table.

    It was restarted: some changes come again. And something else wrote into the topic while the tables were
    first read, when the tile is large enough to bear it.
    """
    for message in messages[::EVERY]:
        yield Message(
            message.topic, message.key, message.value, message.timestamp_ms + 3_000, message.headers
        )
    first = messages[0]
    value = (first.value or b"").replace(b"-00000", b"-bad").replace(b"-0000", b"-bad")
    at_ms = first.timestamp_ms + 5 * MINUTE_MS
    yield Message(first.topic, b"?", b"not a change", at_ms)
    yield Message(first.topic, b"?", value[: len(value) // 2], at_ms)
    if first.topic == CUSTOMERS:
        yield Message(first.topic, b"?", _with(value, "segment", '"royal"'), at_ms)
        yield Message(first.topic, b"?", _with(value, "country", "null"), at_ms)
    else:
        yield Message(first.topic, b"?", _with(value, "price", '"on request"'), at_ms)


def _with(envelope: bytes, column: str, value: str) -> bytes:
    """Replace one column's value in the text of a change."""
    head, _, tail = envelope.decode().partition(f'"{column}":"')
    return f'{head}"{column}":{value}{tail[tail.index(chr(34)) + 1 :]}'.encode()
