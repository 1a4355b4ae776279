"""The loads of `loads.py`: each one way from the base, orders of about 250 bytes on four partitions, 1 % bad.

All are made by number from a seed, so that every run is the same log. Stamps lie evenly over four hours of
2026-01-01, event times as a load says.
"""

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandera.polars as pa
import polars as pl

from sluice import Changes, Events, Hourly, Json
from sluice.contract import Stream

HOURS = 4
START = datetime(2026, 1, 1, tzinfo=UTC)
TILES = [f"2026-01-01-{hour:02}:00" for hour in range(HOURS)]
NOW = START + timedelta(hours=HOURS, minutes=30)
KINDS = ("broken", "type", "null", "missing", "rule")
_LINE = pl.List(pl.Struct({"sku": pl.String(), "qty": pl.Int32(), "price": pl.Decimal(10, 2)}))
_TEXT = 'Größe "XL" \\ 日本語 😀\t\u0001\n'

Made = dict[str, object]
Record = tuple[int, bytes | None, bytes | None, int, list[tuple[str, bytes]]]


@dataclass(frozen=True)
class Load:
    """One load: what its records are like, and how many."""

    shape: str = "order"
    rows: int = 200_000
    partitions: int = 4
    size: int = 0  # bytes to which a value is filled up
    dense: bool = False  # whether that does not compress
    bad: float = 0.01
    kinds: tuple[str, ...] = KINDS
    twice: float = 0.005  # sent again, on another partition
    hours: float = HOURS  # over which event times lie
    lasts: float = HOURS  # over which stamps lie
    ordered: bool = True
    key: Callable[[int], bytes | None] = lambda number: b"key-%d" % number
    tombstones: float = 0
    headers: int = 0  # bytes
    aborted: bool = False
    compression: str = "lz4"
    entities: int = 0  # of changes: how many keys; -1: one in two changes is of one key
    deleted: float = 0
    least: int = 0  # of quantities that the contract lets pass
    way: str = "scheduled"


def _model(shape: str, least: int) -> type[pa.DataFrameModel]:
    columns = {"order_id": str, "placed_at": pl.Datetime("us", "UTC"), "quantity": pl.Int32} | COLUMNS[shape]
    fields = {name: pa.Field(nullable=name not in ("order_id", "placed_at")) for name in columns}
    fields |= {"quantity": pa.Field(ge=least)}
    if shape == "order":
        fields |= {"status": pa.Field(isin=["placed", "paid", "shipped"]), "amount": pa.Field(ge=0)}
    return type("Made", (pa.DataFrameModel,), {"__annotations__": columns, **fields})


COLUMNS: dict[str, dict[str, Any]] = {
    "order": {
        "customer_id": str,
        "status": str,
        "amount": pl.Decimal(12, 2),
        "coupon": str,
        "items": _LINE,
    },
    "small": {},
    "wide": {f"c{n}": (str, pl.Int64, float, bool)[n % 4] for n in range(200)},
    "arrays": {"values": pl.List(pl.Int64), "lines": _LINE},
    "strings": {"a": str, "b": str},
    "decimals": {f"d{n}": pl.Decimal(30, 10) for n in range(8)},
    "times": {f"t{n}": pl.Datetime("us", "UTC") for n in range(8)},
    "structs": {"who": pl.Struct({"a": pl.Struct({"b": pl.Struct({"c": pl.String(), "d": pl.Int64()})})})},
}


def contract(load: Load, topic: str) -> Stream:
    """Give the stream over a topic that has a load."""
    told = {
        "topic": topic,
        "value": Json(),
        "schema": _model(load.shape, load.least),
        "key": "order_id",
        "partitions": Hourly(start="2026-01-01"),
        "max_quarantined": 1.0,
        "name": "made",
    }
    if load.entities:
        return Changes(**told, delete_when=pl.col("quantity") == 0, history=True)
    # a model that a program makes has no source by which a changed rule would be seen
    within = timedelta(days=2 if load.least else 1)
    return Events(**told, event_time="placed_at", event_time_range=None, dedupe_within=within)


def _order(number: int, chance: random.Random) -> Made:
    return {
        "customer_id": f"cust-{chance.randrange(99999):05}",
        "status": ("placed", "paid", "shipped")[number % 3],
        "amount": chance.randrange(1_000_000) / 100,
        "coupon": (None, "WELCOME")[number % 2],
        "items": [_line(chance) for _ in range(1 + number % 3)],
    }


def _line(chance: random.Random) -> Made:
    price = f"{chance.randrange(100)}.{chance.randrange(100):02}"
    return {"sku": f"sku-{chance.randrange(9999):04}", "qty": chance.randrange(1, 5), "price": price}


def _wide(number: int, chance: random.Random) -> Made:
    kinds = (lambda: f"text {chance.randrange(99)}", lambda: number, chance.random, lambda: number % 2 == 0)
    return {f"c{n}": kinds[n % 4]() for n in range(200)}


MEMBERS: dict[str, Callable[[int, random.Random], Made]] = {
    "order": _order,
    "small": lambda _n, _c: {},
    "wide": _wide,
    "arrays": lambda n, c: {"values": [n + i for i in range(200)], "lines": [_line(c) for _ in range(40)]},
    "strings": lambda n, _c: {"a": f"{n} {_TEXT}" * 5, "b": _TEXT * 5},
    "decimals": lambda n, c: {f"d{i}": f"{n}.{c.randrange(10**10):010}" for i in range(8)},
    "times": lambda n, c: {f"t{i}": f"2026-01-01T{c.randrange(24):02}:00:00.{n:06}+05:30" for i in range(8)},
    "structs": lambda n, c: {"who": {"a": {"b": {"c": f"text {c.randrange(99)}", "d": n}}}},
}


def _spoiled(made: Made, kind: str) -> bytes:
    """Make a value bad in one of the ways."""
    match kind:
        case "broken":
            text = json.dumps(made)
            return text[: len(text) // 2].encode()
        case "garbage":
            return b"\xff\x00{[" * (1 << 18)
        case "type":
            made["quantity"] = "many"
        case "null":
            made["order_id"] = None
        case "missing":
            del made["placed_at"]
        case "rule":
            made["quantity"] = -1
    return json.dumps(made).encode()


def records(load: Load) -> Iterator[Record]:
    """Give partition, key, value, stamp (milliseconds) and headers of record after record."""
    chance = random.Random(7)
    step = timedelta(hours=load.lasts) / load.rows
    filling, dense = "x" * load.size, random.Random(8)
    headers = [("trace", bytes(load.headers))] if load.headers else []
    last: bytes | None = None
    for number in range(load.rows):
        stamp = int((START + number * step).timestamp() * 1000)
        share = number / load.rows if load.ordered else chance.random()
        if last is None or chance.random() >= load.twice:
            at = START + timedelta(hours=load.hours) * share
            made = {"order_id": _key(load, number, chance), "placed_at": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"}
            made["quantity"] = 0 if chance.random() < load.deleted else 1 + number % 9
            made |= MEMBERS[load.shape](number, chance)
            if load.size:
                made["pad"] = ""
                if load.dense:
                    filling = base64.b64encode(dense.randbytes(load.size)).decode()
                made["pad"] = filling[: max(0, load.size - len(json.dumps(made)))]
            bad = chance.random() < load.bad
            last = (
                _spoiled(made, load.kinds[number % len(load.kinds)])
                if bad
                else json.dumps(made, ensure_ascii=number % 2 == 0).encode()
            )
        value = None if chance.random() < load.tombstones else last
        yield number % load.partitions, load.key(number), value, stamp, headers


def _key(load: Load, number: int, chance: random.Random) -> str:
    if load.entities < 0:
        return "hot" if number % 2 else f"ord-{number:09}"
    return f"ord-{chance.randrange(load.entities) if load.entities else number:09}"


BASE = Load()


def _sized(size: int) -> Load:
    return replace(BASE, size=size, rows=max(100, min(200_000, 100_000_000 // size)), shape="small")


LOADS: dict[str, Load] = {
    "base": BASE,
    "50 bytes": replace(BASE, shape="small"),
    **{f"{size:,} bytes": _sized(size) for size in (250, 1_000, 10_000, 100_000, 1_000_000)},
    "1,000,000 bytes, 1.5 GB in zstd": replace(_sized(1_000_000), rows=1_500, compression="zstd"),
    "1 MB that does not compress": replace(_sized(1_000_000), rows=500, dense=True),
    "keys of 300 kB": replace(BASE, rows=1_000, key=lambda number: random.Random(number).randbytes(300_000)),
    **{
        f"{count} partitions, a tile of 1 GB": replace(
            _sized(2_000), rows=500_000, partitions=count, lasts=1, dense=True
        )
        for count in (1, 64)
    },
    **{f"{count} partitions": replace(BASE, partitions=count) for count in (1, 16, 64)},
    **{
        f"{count} partitions, 2,000 records": replace(BASE, rows=2_000, partitions=count) for count in (4, 64)
    },
    **{f"{share:.0%} bad": replace(BASE, bad=share) for share in (0, 0.1, 0.5)},
    **{f"50% {kind}": replace(BASE, bad=0.5, kinds=(kind,)) for kind in KINDS},
    "1 MB garbage": replace(BASE, rows=10_000, bad=0.01, kinds=("garbage",)),
    "50% twice": replace(BASE, twice=0.5),
    **{f"over {days} days": replace(BASE, hours=24 * days, ordered=False) for days in (2, 30, 400)},
    "over 400 days, in order": replace(BASE, hours=9600),
    "out of order": replace(BASE, ordered=False),
    **{
        shape: replace(BASE, shape=shape, rows=20_000 if shape in ("wide", "arrays") else 100_000)
        for shape in COLUMNS
        if shape not in ("order", "small")
    },
    **{name: replace(BASE, compression=name) for name in ("gzip", "snappy", "zstd", "none")},
    "null keys": replace(BASE, key=lambda _: None),
    "tombstones": replace(BASE, tombstones=0.5),
    "headers of 1 kB": replace(BASE, headers=1_000, rows=100_000),
    "aborted transactions": replace(BASE, aborted=True),
    "continuous": replace(BASE, way="continuous"),
    "continuous, over 400 days": replace(BASE, hours=9600, ordered=False, way="continuous"),
    "continuous, 100,000 bytes": replace(_sized(100_000), way="continuous"),
    "continuous, 1.5 GB in zstd": replace(
        _sized(1_000_000), rows=1_500, compression="zstd", way="continuous"
    ),
    "continuous, 1 MB that does not compress": replace(
        _sized(1_000_000), rows=500, dense=True, way="continuous"
    ),
    "continuous, 1,000,000 bytes": replace(_sized(1_000_000), way="continuous"),
    "decided anew": replace(BASE, way="again"),
    "50% bad replayed": replace(BASE, bad=0.5, kinds=("rule",), way="replay"),
    "changes": replace(BASE, entities=20_000),
    "changes, hot key": replace(BASE, entities=-1),
    "changes, deletes of unknown keys": replace(BASE, entities=100_000_000, deleted=1.0),
}
