"""The topic that `debezium.py` reads: a PostgreSQL table of accounts, first its snapshot, then its changes.

Values are as Debezium 3 writes them, about 800 bytes each, and 4,000 more with the schema block: a decimal in
base64, days, microseconds, zoned text, a UUID. Of twenty changes sixteen are updates, three inserts and one a
delete, over all keys alike.
"""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pandera.polars as pa
import polars as pl
from topics import send

from sluice import Changes, Daily, Debezium

PARTITIONS = 4
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, 20, tzinfo=UTC)
TILES = ["2026-01-01"]
_INSERTS, _DELETE = (17, 18, 19), 16  # of twenty changes
_SPREAD = 48_271 * 1009
_SOURCE = (
    '"source":{"version":"3.7.0.Final","connector":"postgresql","name":"bank","ts_ms":%d,"snapshot":"%s",'
    '"db":"bank","sequence":"[%s,\\"%d\\"]","ts_us":%d000,"ts_ns":%d000000,"schema":"public",'
    '"table":"accounts","txId":%d,"lsn":%d,"xmin":null,"origin":null,"origin_lsn":null},'
    '"transaction":null,"op":"%s","ts_ms":%d,"ts_us":%d120,"ts_ns":%d120456}'
)


class Account(pa.DataFrameModel):
    """An account with what accounts have."""

    id: int
    name: str
    city: str = pa.Field(nullable=True)
    status: str
    balance: pl.Decimal(12, 2)
    score: float = pa.Field(nullable=True)
    active: bool
    born: pl.Date = pa.Field(nullable=True)
    created_at: pl.Datetime("us")
    updated_at: pl.Datetime("us", "UTC")
    ref: str


def contract(topic: str = "bank.public.accounts") -> Changes:
    """Give the contract: the latest image of each account."""
    return Changes(
        name="accounts",
        topic=topic,
        value=Debezium("postgresql"),
        schema=Account,
        key="id",
        partitions=Daily(start="2026-01-01"),
    )


def _field(name: str, type_: str, logical: str | None = None, **parameters: str) -> dict[str, object]:
    told: dict[str, object] = {"type": type_, "optional": True, "field": name}
    if logical:
        told |= {"name": logical, "version": 1}
    return told | ({"parameters": parameters} if parameters else {})


def schema_block() -> str:
    """Give the schema that a connector writes before each payload by default."""
    row = [
        _field("id", "int64"),
        *(_field(name, "string") for name in ("name", "city", "status")),
        _field(
            "balance",
            "bytes",
            "org.apache.kafka.connect.data.Decimal",
            **{"scale": "2", "connect.decimal.precision": "12"},
        ),
        _field("score", "double"),
        _field("active", "boolean"),
        _field("born", "int32", "io.debezium.time.Date"),
        _field("created_at", "int64", "io.debezium.time.MicroTimestamp"),
        _field("updated_at", "string", "io.debezium.time.ZonedTimestamp"),
        _field("ref", "string", "io.debezium.data.Uuid"),
    ]
    texts = ("version", "connector", "name", "snapshot", "db", "sequence", "schema", "table", "origin")
    numbers = ("ts_ms", "ts_us", "ts_ns", "txId", "lsn", "xmin", "origin_lsn")
    source = [*(_field(n, "string") for n in texts), *(_field(n, "int64") for n in numbers)]
    sides = [
        _field(side, "struct", "bank.public.accounts.Value") | {"fields": row} for side in ("before", "after")
    ]
    named = _field("source", "struct", "io.debezium.connector.postgresql.Source") | {"fields": source}
    clocks = [_field(name, "int64") for name in ("ts_ms", "ts_us", "ts_ns")]
    fields = [*sides, named, _field("op", "string"), *clocks]
    block = {
        "type": "struct",
        "fields": fields,
        "optional": False,
        "name": "bank.public.accounts.Envelope",
        "version": 2,
    }
    return json.dumps(block, separators=(",", ":"))


def _row(key: int, number: int) -> str:
    cents = (key * 7919 + number * 131) % 10_000_000 - 50_000
    encoded = base64.b64encode(cents.to_bytes(4, "big", signed=True)).decode()
    return (
        f'{{"id":{key},"name":"account {key}","city":"city {(key * 31 + number) % 997}",'
        f'"status":"{("active", "waiting", "closed")[number % 3]}","balance":"{encoded}",'
        f'"score":{number % 1000 / 8},"active":{("true", "false")[number % 2]},"born":{key % 20_000},'
        f'"created_at":{1_700_000_000_000_000 + key * 1_000_003},'
        f'"updated_at":"2026-01-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.123456Z",'
        f'"ref":"{key:08x}-2222-3333-4444-{number % 10**9:012}"}}'
    )


def _bare(key: int) -> str:
    nothing = ",".join(f'"{name}":null' for name in list(Account.__annotations__)[1:])
    return f'{{"id":{key},{nothing}}}'


def _value(op: str, key: int, number: int, at: int) -> str:
    before = _bare(key) if op == "d" else "null"
    after = "null" if op == "d" else _row(key, number)
    lsn = 10_000_000 + number * 64
    snapshot, commit = ("true", "null") if op == "r" else ("false", f'\\"{lsn - 64}\\"')
    source = _SOURCE % (at, snapshot, commit, lsn, at, at, number, lsn, op, at, at, at)
    return f'{{"before":{before},"after":{after},{source}'


def snapshot(keys: int) -> Iterator[tuple[int, str]]:
    """Give key and value of the first image of each account."""
    at = int(START.timestamp() * 1000)
    for key in range(keys):
        yield key, _value("r", key, key, at)


def changes(keys: int, count: int) -> Iterator[tuple[int, str]]:
    """Give key and value of the changes that come after the snapshot."""
    at = int(START.timestamp() * 1000) + 3_600_000
    for number in range(count):
        kind = number % 20
        op = "c" if kind in _INSERTS else "d" if kind == _DELETE else "u"
        key = keys + number if op == "c" else number * _SPREAD % keys
        yield key, _value(op, key, keys + number, at + number // 100)


def wrapped(value: str, block: str) -> str:
    """Put the schema block before a payload, as the connector does by default."""
    return f'{{"schema":{block},"payload":{value}}}'


def fill(servers: str, topic: str, records: Iterator[tuple[int, str]], at: datetime) -> None:
    """Send records, all of one stamp, each key to a partition of its own."""
    stamp = int(at.timestamp() * 1000)
    send(
        servers,
        topic,
        (
            {"key": f'{{"id":{key}}}', "value": value, "partition": key % PARTITIONS, "timestamp": stamp}
            for key, value in records
        ),
    )
