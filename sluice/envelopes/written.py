"""How a row is written as the record that its source's connector would have sent: the row, or its end.

The contract says in which dialect: plain JSON, rows unwrapped, or envelopes of Debezium. An envelope stands
at a place of the source's log, as a row does that was read again there ("incremental"): after all that the
log has up to there, before all that follows. Where the source tells no places, the Kafka log orders it, as
all its changes. Refused, with the reason, is a delete that nothing can order, or that is none.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from math import isfinite
from typing import Any

import polars as pl

from sluice.columns import REST, Column
from sluice.contract import Changes, Debezium, Stream
from sluice.envelopes.extended_json import double_text
from sluice.envelopes.origins import INCREMENTAL
from sluice.envelopes.positions import block

Pair = tuple[bytes | None, bytes | None]
_Row = Mapping[str, Any]
_Writer = Callable[[Any, Any], Any]
_NAMES = {
    "postgresql": ("db", "schema", "table"),
    "mysql": ("db", "table"),
    "mongodb": ("db", "collection"),
}
_INT64 = range(-(2**63), 2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Place:
    """Where a change stands.

    Attributes:
        at: when, by the source's clock.
        numbers: its place in the source's log (`sluice.envelopes.positions.numbers`); None: it tells none.
        table: of which table, with its database.
        server: whose log, where that is told.
    """

    at: datetime
    numbers: tuple[int, ...] | None = None
    table: str | None = None
    server: str | None = None


def record(
    stream: Stream, place: Place, key: _Row, row: _Row | None, document: str | None = None
) -> Pair | str:
    """Write a row (None: it is gone) as a record's key and value, or tell why it cannot be.

    Args:
        stream: the contract.
        place: where the change stands.
        key: the key columns.
        row: all columns, as the lake stores them.
        document: of MongoDB the whole document as canonical Extended JSON, where it is known.
    """
    if isinstance(stream.value, Debezium) and not stream.value.unwrapped:
        return _envelope(stream, stream.value, place, key, row, document)
    options = stream.value if isinstance(stream.value, Debezium) else None
    write = partial(plain, options=options)
    name = _dumped(_members(_keys(stream), key, write))
    if row is not None:
        told = _members(stream.columns, row, write)
        for path, value in _asked(stream).items():
            _put(told, path.split("."), value)
        return name, _dumped(told)
    if not isinstance(stream, Changes):
        return "an event that the source lacks: events are never deleted"
    if stream.sequences:
        return f"a delete without {', '.join(stream.sequences)}, by which changes are ordered"
    return name, None


def _envelope(
    stream: Stream, options: Debezium, place: Place, key: _Row, row: _Row | None, document: str | None
) -> Pair:
    """Write an envelope."""
    of_documents = options.source == "mongodb"
    write = _bson if of_documents else partial(plain, options=options)
    name = _members(_keys(stream), key, write)
    source, after = _source(options.source, place), None
    if row is not None:
        after = _members(stream.columns, row, write)
        for path, value in _asked(stream).items():
            first, *rest = path.split(".")
            _put(source, rest, value) if first == "source" and rest else _put(after, [first, *rest], value)
    op = "d" if row is None else "u" if place.numbers is None else "r"
    sides: dict[str, Any] = {"before": name if row is None else None, "after": after}
    if of_documents:  # their connector writes them, and the key, as texts
        sides = {side: None if told is None else _text(told) for side, told in sides.items()}
        if document is not None:
            sides["after"], name = document, json.loads(document)
        name = {"id": _text(name["_id"])} if "_id" in name else name
    return _dumped(name), _dumped({"op": op, **sides, "source": source})


def _source(connector: str, place: Place) -> dict[str, Any]:
    """Write the block that tells where a change comes from."""
    parts = place.table.split(".", len(_NAMES[connector]) - 1) if place.table else []
    names = _NAMES[connector]
    told: dict[str, Any] = {"connector": connector} | dict(
        zip(names[len(names) - len(parts) :], parts, strict=True)
    )
    stamp = (place.at - _EPOCH) // timedelta(microseconds=1)
    if connector == "mysql":  # its log counts seconds: no later change may seem the older one
        stamp -= stamp % 1_000_000
        told |= (
            {"server_id": int(place.server) if place.server.isdigit() else place.server}
            if place.server
            else {}
        )
    told |= {"ts_ms": stamp // 1000} | ({} if connector == "mongodb" else {"ts_us": stamp})
    if place.numbers is None:
        return told
    return told | {"snapshot": INCREMENTAL} | block(connector, place.numbers)


def _keys(stream: Stream) -> list[Column]:
    return [stream.column(name) for name in stream.keys]


def _asked(stream: Stream) -> Mapping[str, Any]:
    """Give the members that `where` asks for."""
    return stream.where if isinstance(stream.where, Mapping) else {}


def _members(columns: Sequence[Column], row: _Row, write: _Writer) -> dict[str, Any]:
    """Write columns as the members that they name."""
    told: dict[str, Any] = {}
    for column in columns:
        value = row[column.name]
        of_document = column.document and value is not None
        _put(told, column.path, json.loads(value) if of_document else write(value, column.dtype))
    rest = told.pop(REST, None)  # has whole members of which columns name parts
    return told | (rest if isinstance(rest, dict) else {})


def _put(told: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        told = told.setdefault(name, {})
    told[path[-1]] = value


def plain(value: Any, dtype: Any, options: Debezium | None = None) -> Any:
    """Write a value as JSON that the strict decoder reads as the same."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return _clock(value) if dtype == pl.Time else value
        case float():
            return value if isfinite(value) else _double(value)
        case Decimal():
            return int(value) if dtype.is_integer() else _decimal(value, dtype, options)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return _binary(value, options)
        case list():
            return [plain(item, dtype.inner, options) for item in value]
        case dict():
            return {f.name: plain(value[f.name], f.dtype, options) for f in dtype.fields}
    return str(value)


def _clock(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).time().isoformat()


def _double(value: float) -> str:
    return double_text({"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(str(value), repr(value)))


def _decimal(value: Decimal, dtype: Any, options: Debezium | None) -> str:
    """Write digits, which nothing else can be meant by, or what the connector's mode asks for."""
    if options is not None and options.decimal == "precise":
        unscaled = int(value.scaleb(dtype.scale))
        size = unscaled.bit_length() // 8 + 1
        return base64.b64encode(unscaled.to_bytes(size, "big", signed=True)).decode()
    return f"{value:f}" + ("" if "." in f"{value:f}" else ".0")


def _binary(value: bytes, options: Debezium | None) -> str:
    mode = "base64" if options is None else options.binary
    if mode == "hex":
        return value.hex()
    return (base64.urlsafe_b64encode if mode == "base64-url-safe" else base64.b64encode)(value).decode()


def _bson(value: Any, dtype: Any) -> Any:
    """Write a value as canonical Extended JSON that its column reads as the same."""
    match value:
        case float():
            return {"$numberDouble": _double(value)}
        case int() if not isinstance(value, bool) and dtype.is_numeric():
            return {"$numberLong": str(value)} if value in _INT64 else {"$numberDecimal": str(value)}
        case Decimal():
            return {"$numberDecimal": str(value)}
        case datetime():
            zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
            return {"$date": {"$numberLong": str((zoned - _EPOCH) // timedelta(milliseconds=1))}}
        case date():
            days = (value - _EPOCH.date()).days
            return {"$date": {"$numberLong": str(days * 86_400_000)}}
        case bytes():
            return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": "00"}}
        case list():
            return [_bson(item, dtype.inner) for item in value]
        case dict():
            return {f.name: _bson(value[f.name], f.dtype) for f in dtype.fields}
    return plain(value, dtype)


def _text(told: Any) -> str:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _dumped(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode(errors="surrogatepass")
