"""What must come of the shop's records: silver, versions and revenue, to hold a lake against.

Computed in plain Python from the same records that Kafka gets; shares no code with what it proves. The
counts are those that hold in the end, in whatever order tiles are processed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from demo.expected_events import FACTS, Account, RefusedError, Row, decimal, events, members, moment, text
from demo.message import CUSTOMERS, ORDERS, PRODUCTS, TOPICS, Message

NAMES = {topic: topic.rpartition(".")[2] for topic in TOPICS}  # of the streams


@dataclass(frozen=True)
class Version:
    """One version of one key: its columns, and the half-open interval in which they held."""

    values: Row
    valid_from: datetime
    valid_to: datetime | None
    version: int


@dataclass
class Revenue:
    """What was ordered on a date, of a category, from a country."""

    orders: int = 0
    revenue: Decimal = Decimal("0.00")
    cancelled_orders: int = 0
    cancelled_amount: Decimal = Decimal("0.00")


@dataclass(frozen=True)
class Expected:
    """All that must come of the records.

    Attributes:
        accounts: what became of the records, by stream.
        versions: by dimension and key, in order.
        revenue: by (UTC date, category, country), as of each order's time.
        early_orders: the ids of orders older than their customer's first version, which they take.
    """

    accounts: dict[str, Account]
    versions: dict[str, dict[str, list[Version]]]
    revenue: dict[tuple[date, str, str], Revenue]
    early_orders: frozenset[str]


def expected(messages: Iterable[Message]) -> Expected:
    """Compute what must come of records, given in the order in which Kafka gets them."""
    by_topic: dict[str, list[Message]] = {topic: [] for topic in TOPICS}
    for message in messages:
        by_topic[message.topic].append(message)
    accounts = {NAMES[topic]: events(topic, by_topic[topic]) for topic in FACTS}
    versions = {}
    for topic in (CUSTOMERS, PRODUCTS):
        name = NAMES[topic]
        accounts[name], changes = _changes(_TABLES[topic], by_topic[topic])
        versions[name] = {key: _fold(_TABLES[topic], of_key) for key, of_key in changes.items()}
    revenue: dict[tuple[date, str, str], Revenue] = {}
    early = set()
    for order in accounts[NAMES[ORDERS]].rows:
        customer = as_of(versions["customers"][order["customer_id"]], order["placed_at"])
        product = as_of(versions["products"][order["product_id"]], order["placed_at"])
        if order["placed_at"] < customer.valid_from:
            early.add(order["order_id"])
        cell = (order["placed_at"].date(), product.values["category"], customer.values["country"])
        sums = revenue.setdefault(cell, Revenue())
        if order["status"] == "cancelled":
            sums.cancelled_orders += 1
            sums.cancelled_amount += order["amount"]
        else:
            sums.orders += 1
            sums.revenue += order["amount"]
    return Expected(accounts, versions, revenue, frozenset(early))


def as_of(versions: list[Version], at: datetime) -> Version:
    """Give the version that held at a moment, for earlier ones the first; raises LookupError between two."""
    if at < versions[0].valid_from:
        return versions[0]
    for version in versions:
        if version.valid_from <= at and (version.valid_to is None or at < version.valid_to):
            return version
    raise LookupError(f"nothing held at {at}")


@dataclass(frozen=True)
class _Table:
    key: str
    columns: dict[str, Any]
    nullable: frozenset[str]
    allowed: dict[str, tuple[str, ...]]
    track: tuple[str, ...]


@dataclass(frozen=True)
class _Change:
    lsn: int
    at: datetime
    op: str
    values: Row


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RefusedError("schema")
    return value


_TABLES = {
    CUSTOMERS: _Table(
        "customer_id",
        {**dict.fromkeys(("customer_id", "name", "email", "country", "segment"), text), "created_at": moment},
        frozenset({"email"}),
        {"segment": ("consumer", "business", "wholesale")},
        ("country", "segment"),
    ),
    PRODUCTS: _Table(
        "product_id",
        {**dict.fromkeys(("product_id", "name", "category"), text), "price": decimal, "active": _flag},
        frozenset(),
        {"category": ("books", "garden", "kitchen", "music", "toys")},
        ("name", "category", "price", "active"),
    ),
}


def _changes(table: _Table, messages: list[Message]) -> tuple[Account, dict[str, list[_Change]]]:
    """Account for the records of a table's changes; gives the changes of each key too."""
    account = Account()
    of_key: dict[str, dict[int, _Change]] = {}
    for message in messages:
        account.read += 1
        if message.value is None:
            account.tombstones += 1
            continue
        try:
            change = _change(table, members(message.value))
        except RefusedError as refused:
            account.quarantined[refused.stage] += 1
            continue
        known = of_key.setdefault(change.values[table.key], {})
        if change.lsn in known:
            account.duplicates += known[change.lsn] == change
            account.conflicts += known[change.lsn] != change
        known[change.lsn] = change
    changes = {key: [known[lsn] for lsn in sorted(known)] for key, known in of_key.items()}
    account.rows = [change.values | {"_op": change.op} for known in changes.values() for change in known]
    return account, changes


def _change(table: _Table, envelope: dict[str, Any]) -> _Change:
    source, op = envelope["source"], envelope["op"]
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=source["ts_ms"])
    told = envelope["before" if op == "d" else "after"]
    values: Row = {}
    for name, read in table.columns.items():
        value = told.get(name)
        if value is None and name not in table.nullable and op != "d":
            raise RefusedError("schema")
        values[name] = None if value is None else read(value)
    if op != "d" and any(values[name] not in allowed for name, allowed in table.allowed.items()):
        raise RefusedError("rule")
    return _Change(source["lsn"], at, op, values)


def _fold(table: _Table, changes: list[_Change]) -> list[Version]:
    """Make versions of the changes of one key, in the source's order."""
    steps: list[tuple[datetime, _Change]] = []
    now = changes[0].at
    for change in changes:
        now = max(now, change.at)
        if steps and steps[-1][0] == now:
            steps.pop()  # superseded
        steps.append((now, change))
    versions: list[Version] = []
    for begin, change in steps:
        last = versions[-1] if versions and versions[-1].valid_to is None else None
        same = last and all(last.values[name] == change.values[name] for name in table.track)
        if last and change.op != "d" and same:
            versions[-1] = Version(change.values, last.valid_from, None, last.version)
            continue
        if last:
            versions[-1] = Version(last.values, last.valid_from, begin, last.version)
        if change.op != "d":
            versions.append(Version(change.values, begin, None, len(versions) + 1))
    return versions
