"""What must become of the shop's events, computed in plain Python from the records themselves.

Shares nothing with what it is held against: no polars, none of Sluice's code, contracts written a second
time by hand. Slow and simple on purpose; refuses what `contract.md` refuses, as far as the shop sends it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from demo.message import ORDERS, PAGEVIEWS, PAYMENTS, Message

FIRST = datetime(2025, 12, 31, tzinfo=UTC)  # a day before the contracts' first tile
Row = dict[str, Any]


class RefusedError(Exception):
    """A record is refused; `stage` says where."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


@dataclass
class Account:
    """What became of the records of one stream.

    Attributes:
        read: all records.
        rows: silver's rows, the contract's columns in Python's types, in no order.
        quarantined: refused records by stage.
        duplicates, conflicts, tombstones: how many.
    """

    read: int = 0
    rows: list[Row] = field(default_factory=list)
    quarantined: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    conflicts: int = 0
    tombstones: int = 0

    def adds_up(self) -> bool:
        """Tell whether every record read is accounted for once."""
        losers = self.duplicates + self.conflicts
        return self.read == len(self.rows) + losers + self.tombstones + self.quarantined.total()


def text(value: Any) -> str:
    """Read text."""
    if not isinstance(value, str):
        raise RefusedError("schema")
    return value


def decimal(value: Any) -> Decimal:
    """Read a number of at most two decimals."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise RefusedError("schema")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise RefusedError("schema") from error
    if number != round(number, 2):
        raise RefusedError("schema")
    return round(number, 2)


def whole(value: Any) -> int:
    """Read an integer."""
    if type(value) is not int:  # True is an int too
        raise RefusedError("schema")
    return value


def moment(value: Any) -> datetime:
    """Read a time with an offset."""
    try:
        return datetime.fromisoformat(text(value)).astimezone(UTC)
    except ValueError as error:
        raise RefusedError("schema") from error


def milliseconds(value: Any) -> datetime:
    """Read a time given as milliseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=whole(value))


def shown(value: Any) -> list[Row]:
    """Read the products shown on a page."""
    if not isinstance(value, list):
        raise RefusedError("schema")
    readers: dict[str, Reader] = {"product_id": text, "position": whole, "price": decimal}
    return [{name: read(item[name]) for name, read in readers.items()} for item in value]


Reader = Callable[[Any], Any]


@dataclass(frozen=True)
class Facts:
    """A stream of events, written by hand a second time."""

    key: str
    time: str
    columns: dict[str, Reader]
    nullable: frozenset[str]
    holds: Callable[[Row], bool]
    within: timedelta = timedelta(days=1)


FACTS = {
    ORDERS: Facts(
        "order_id",
        "placed_at",
        {
            **dict.fromkeys(("order_id", "customer_id", "product_id", "status", "currency", "coupon"), text),
            "quantity": whole,
            "amount": decimal,
            "placed_at": moment,
        },
        frozenset({"coupon"}),
        lambda row: (
            row["status"] in ("placed", "paid", "shipped", "cancelled")
            and 1 <= row["quantity"] <= 100  # noqa: PLR2004  # the contract's bound
            and row["amount"] >= 0
            and row["currency"] == "EUR"
        ),
    ),
    PAYMENTS: Facts(
        "payment_id",
        "paid_at",
        {
            **dict.fromkeys(("payment_id", "order_id", "method", "status"), text),
            "amount": decimal,
            "paid_at": milliseconds,
        },
        frozenset(),
        lambda row: row["status"] in ("captured", "failed", "refunded") and row["amount"] >= 0,
        timedelta(days=2),
    ),
    PAGEVIEWS: Facts(
        "view_id",
        "viewed_at",
        {
            **dict.fromkeys(("view_id", "session_id", "customer_id", "url", "device", "ip"), text),
            "items": shown,
            "viewed_at": moment,
        },
        frozenset({"customer_id", "ip"}),
        lambda row: row["url"].startswith("/") and row["device"] in ("desktop", "phone", "tablet"),
    ),
}


def members(value: bytes) -> dict[str, Any]:
    """Read a value as a JSON object, numbers digit for digit."""
    try:
        found = json.loads(value, parse_float=Decimal)
    except ValueError as error:
        raise RefusedError("decode") from error
    if not isinstance(found, dict):
        raise RefusedError("decode")
    return found


def _judge(facts: Facts, message: Message) -> Row:
    found = members(message.value or b"")
    if found.get(facts.key) is None:
        raise RefusedError("key")
    row: Row = {}
    for name, read in facts.columns.items():
        value = found.get(name)
        if value is None and name not in facts.nullable:
            raise RefusedError("schema")
        row[name] = None if value is None else read(value)
    last = datetime.fromtimestamp(message.timestamp_ms / 1000, UTC) + timedelta(days=1)
    if not facts.holds(row) or not FIRST <= row[facts.time] <= last:
        raise RefusedError("rule")
    return row


def events(topic: str, messages: Iterable[Message]) -> Account:
    """Account for a topic of events, given in the order in which Kafka got its records."""
    facts, account = FACTS[topic], Account()
    of_key: dict[str, list[Row]] = {}
    for message in messages:
        account.read += 1
        if message.value is None:
            account.tombstones += 1
            continue
        try:
            row = _judge(facts, message)
        except RefusedError as refused:
            account.quarantined[refused.stage] += 1
        else:
            of_key.setdefault(row[facts.key], []).append(row)
    for rows in of_key.values():
        kept: Row | None = None
        for row in sorted(rows, key=lambda row: row[facts.time]):  # stable: of equal times the first sent
            if kept is None or row[facts.time] - kept[facts.time] > facts.within:
                kept = row
                account.rows.append(row)
            elif row == kept:
                account.duplicates += 1
            else:
                account.conflicts += 1
    return account
