"""The shop's database: how customers and products live, and what Debezium tells of it.

Decides the inserts, updates, deletes and returns of rows, in commit order, and writes each as a PostgreSQL
connector writes it (JSON without schema blocks). Knows nothing of orders.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from demo.message import CUSTOMERS, PRODUCTS, Message, encode

HOUR_MS = 3_600_000
SNAPSHOT_MS = 20_000  # after the start: when the connector reads what the tables hold
COUNTRIES = ("AT", "BE", "CH", "DE", "ES", "FR", "IT", "NL", "PL", "SE")
SEGMENTS = ("consumer", "consumer", "consumer", "business", "wholesale")
CATEGORIES = ("books", "garden", "kitchen", "music", "toys")
_NAMES = (
    "Ada",
    "Björn",
    "Chloé",
    "Dušan",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "İpek",
    "Jürgen",
    "Katherine",
)
_THINGS = (
    "Atlas",
    "Bell",
    "Candle",
    "Drum",
    "Easel",
    "Fern",
    "Globe",
    "Harp",
    "Ink",
    "Jigsaw",
    "Kettle",
    "Lamp",
)
_EVENTS = {  # of a table's life, with their weights
    "join": 12,
    "move": 22,
    "segment": 8,
    "mail": 12,
    "touch": 4,
    "leave": 4,
    "return": 4,
    "twice": 2,
    "price": 20,
    "shelve": 6,
    "category": 6,
}
_HEADERS = (("__debezium.context.connectorName", b"postgresql"),)
_SAFE_MS = 600_000  # a row's life is not used this close to its ends, so that late stamps still fall into it


def zoned(at_ms: int) -> str:
    """Write a moment as PostgreSQL's connector does."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


@dataclass
class Row:
    """One row of a table, over time."""

    last: dict[str, Any]  # its values, also after it was deleted
    here: bool = False
    spans: list[tuple[int, int | None]] = field(default_factory=list)  # when it existed, in milliseconds


@dataclass
class Table:
    """One table and all that became of its rows."""

    topic: str
    key: str
    rows: dict[str, Row] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    def alive(self, name: str, at_ms: int) -> bool:
        """Tell whether a row exists at a moment, well away from a deletion or return."""
        spans = self.rows[name].spans
        place = bisect_right(spans, at_ms, key=lambda span: span[0]) - 1
        if place < 0:
            return False
        begin, end = spans[place]
        returned = place > 0 and at_ms < begin + _SAFE_MS
        return not returned and (end is None or at_ms < end - _SAFE_MS)


class Database:
    """Customers and products over some hours; everything follows from the random numbers given."""

    def __init__(self, random: Random, start_ms: int, hours: int, *, customers: int, products: int) -> None:
        self._random = random
        self._told_ms = start_ms
        self._lsn = 44_158_592
        self._transaction = 900
        self.customers = Table(CUSTOMERS, "customer_id")
        self.products = Table(PRODUCTS, "product_id")
        self.newcomers: list[tuple[str, int]] = []  # customers inserted while streaming, and when
        snapshot_ms = start_ms + SNAPSHOT_MS
        for number in range(customers):
            self._write(self.customers, self._customer(number, start_ms - 1), snapshot_ms, "r")
        for number in range(products):
            self._write(self.products, self._product(number), snapshot_ms, "r")
        for hour in range(hours):
            for at_ms in sorted(random.sample(range(HOUR_MS // 10, HOUR_MS), 14)):
                self._live(start_ms + hour * HOUR_MS + at_ms)

    def _customer(self, number: int, created_ms: int) -> dict[str, Any]:
        name = f"{self._random.choice(_NAMES)} {number}"
        return {
            "customer_id": f"c-{number:05d}",
            "name": name,
            "email": f"{number}@example.org" if number % 7 else None,
            "country": self._random.choice(COUNTRIES),
            "segment": self._random.choice(SEGMENTS),
            "created_at": zoned(created_ms),
        }

    def _product(self, number: int) -> dict[str, Any]:
        return {
            "product_id": f"p-{number:04d}",
            "name": f"{self._random.choice(_THINGS)} {number}",
            "category": self._random.choice(CATEGORIES),
            "price": self._price(),
            "active": True,
        }

    def _price(self) -> str:
        return f"{self._random.randrange(199, 19_999) / 100:.2f}"

    def _live(self, at_ms: int) -> None:
        """Let one thing happen to one row."""
        event = self._random.choices(tuple(_EVENTS), tuple(_EVENTS.values()))[0]
        if event in ("price", "shelve", "category"):
            self._write(self.products, self._product_after(event), at_ms, "u")
            return
        for op, values in self._customer_changes(event, at_ms):
            self._write(self.customers, values, at_ms, op)

    def _product_after(self, event: str) -> dict[str, Any]:
        values = self._random.choice(list(self.products.rows.values())).last
        match event:
            case "price":
                return values | {"price": self._price()}
            case "shelve":
                return values | {"active": not values["active"]}
            case _:
                return values | {"category": self._random.choice(CATEGORIES)}

    def _customer_changes(self, event: str, at_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
        random, rows = self._random, self.customers.rows
        if event == "join":
            customer = self._customer(len(rows), at_ms)
            self.newcomers.append((customer["customer_id"], at_ms))
            yield "c", customer
            return
        if event == "return":
            for row in [row for row in rows.values() if not row.here][:1]:
                yield "c", row.last | {"country": random.choice(COUNTRIES)}
            return
        values = random.choice([row for row in rows.values() if row.here]).last
        match event:
            case "leave":
                yield "d", values
            case "move":
                yield "u", values | {"country": random.choice(COUNTRIES)}
            case "segment":
                yield "u", values | {"segment": random.choice(SEGMENTS)}
            case "mail":
                yield "u", values | {"email": f"{at_ms}@example.com"}
            case "touch":  # nothing that the contract knows changes
                yield "u", values | {"loyalty": at_ms % 100}
            case _:  # two changes of one commit: of equal beginning the last counts
                yield "u", values | {"country": "DE"}
                yield "u", values | {"country": "FR"}

    def _write(self, table: Table, values: dict[str, Any], at_ms: int, op: str) -> None:
        """Commit one change, and let the connector tell it a little later."""
        row = table.rows.setdefault(values[table.key], Row(values))
        if op == "d":
            row.spans[-1] = (row.spans[-1][0], at_ms)
        elif not row.here:
            row.spans.append((at_ms, None))
        row.here, row.last = op != "d", values
        self._told_ms = max(self._told_ms, at_ms + self._random.randrange(50, 900))  # in the order of commits
        key = encode({table.key: values[table.key]})
        envelope = encode(self._envelope(table, values, at_ms, op))
        table.messages.append(Message(table.topic, key, envelope, self._told_ms, _HEADERS))
        if op == "d":
            table.messages.append(Message(table.topic, key, None, self._told_ms, _HEADERS))

    def _envelope(self, table: Table, values: dict[str, Any], at_ms: int, op: str) -> dict[str, Any]:
        before = {column: value if column == table.key else None for column, value in values.items()}
        snapshot = op == "r"
        commit = None if snapshot else str(self._lsn)
        if not snapshot:
            self._lsn += self._random.randrange(56, 400, 8)
            self._transaction += 1
        return {
            "before": before if op == "d" else None,
            "after": None if op == "d" else values,
            "source": {
                "version": "3.7.0.Final",
                "connector": "postgresql",
                "name": "shop",
                "ts_ms": at_ms,
                "snapshot": "true" if snapshot else "false",
                "db": "shop",
                "sequence": encode([commit, str(self._lsn)]).decode(),
                "ts_us": at_ms * 1000,
                "ts_ns": at_ms * 1_000_000,
                "schema": "public",
                "table": table.topic.rpartition(".")[2],
                "txId": self._transaction,
                "lsn": self._lsn,
                "xmin": None,
            },
            "transaction": None,
            "op": op,
            "ts_ms": at_ms + 40,
            "ts_us": (at_ms + 40) * 1000,
            "ts_ns": (at_ms + 40) * 1_000_000,
        }
