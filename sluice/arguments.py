"""What each argument of a contract may be, taken by itself: its type, its range, its form.

One table a kind of stream: an argument, what it must satisfy, and the words for it. What an argument
says about the schema's columns is for `sluice.problems`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

import polars as pl

from sluice.contract import REQUIRED, Changes, Debezium, Events, Json, Stream, TimePrecision
from sluice.partitions import Daily, Hourly, parse_start
from sluice.schema_problems import Found
from sluice.sources import Delta, Mongo, Parquet, Postgres

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_NAMESPACE = re.compile(r"[^\s./\\\"$\0]{1,63}\.[^$\0]+")  # as MongoDB allows
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_TEAM = re.compile(r"team:.+")
_TAG = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
_MOST_EPOCHS = 2**31 - 1
_SHOWN = 200  # characters of a value
_SOURCES = ("postgresql", "mongodb", "mysql")
_DECIMAL = (None, "precise", "string", "double")
_TIME = (None, *get_args(TimePrecision))
_BINARY = ("base64", "base64-url-safe", "hex")
_EPOCHS = (None, "s", "ms", "us", "ns")


def _text(form: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


def _names(value: Any) -> bool:
    """Tell whether it is a column or a tuple of different columns."""
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)
    return isinstance(value, str)


def _start(value: Any) -> bool:
    try:
        parse_start(value)
    except (ValueError, TypeError):
        return False
    return True


def _zone(value: Any) -> bool:
    try:
        ZoneInfo(value)
    except (ValueError, TypeError, OSError, KeyError):  # whatever form the unknown name has
        return False
    return bool(value)


def _between(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _epoch(value: Any) -> bool:
    return isinstance(value, int) and _between(value, 1, _MOST_EPOCHS)


def _owners(value: Any) -> bool:
    known = (_text(_TEAM), _text(_EMAIL))
    return isinstance(value, list | tuple) and all(any(form(owner) for form in known) for owner in value)


def _tags(value: Any) -> bool:
    key, text = _text(_TAG), _text(_TAG_VALUE)
    return isinstance(value, Mapping) and all(key(k) and text(v) for k, v in value.items())


def _where(value: Any) -> bool:
    if isinstance(value, Mapping):
        scalars = (str, int, float, type(None))
        return bool(value) and all(isinstance(k, str) and isinstance(v, scalars) for k, v in value.items())
    return value is None or isinstance(value, pl.Expr)


def _duration(value: Any) -> bool:
    return isinstance(value, timedelta) and value >= timedelta(0)


def _range(value: Any) -> bool:
    if value is None or value == "default":
        return True
    if not (isinstance(value, tuple) and len(value) == 2):  # noqa: PLR2004  # two ends
        return False
    ends = [end for end in value if end is not None]
    if not all(isinstance(end, datetime) and end.tzinfo is not None for end in ends):
        return False
    return ends == sorted(ends)


def _expression(value: Any) -> bool:
    return value is None or isinstance(value, pl.Expr)


Check = tuple[str, Callable[[Any], bool], str]

_STREAM: tuple[Check, ...] = (
    ("name", _text(_NAME), "lower-case letters, digits and underscores, a letter first"),
    (
        "topic",
        lambda value: _text(_TOPIC)(value) and value not in (".", ".."),
        "a Kafka topic: 1 to 249 letters, digits, '.', '_' or '-', not '.' or '..'",
    ),
    ("schema", lambda _: True, "a pandera.polars.DataFrameModel with at least one column"),
    ("key", _names, "a column, or a tuple of different columns"),
    (
        "partitions",
        lambda value: isinstance(value, Hourly | Daily),
        "Hourly(start=…) or Daily(start=…, timezone=…)",
    ),
    ("where", _where, "a polars expression, or a mapping of members to values such as {'type': 'order'}"),
    ("max_quarantined", lambda value: _between(value, 0, 1), "a share from 0 to 1"),
    ("epoch", _epoch, f"an integer from 1 to {_MOST_EPOCHS}"),
    (
        "source",
        lambda value: value is None or isinstance(value, Delta | Parquet | Postgres | Mongo),
        "None, Delta(uri=…), Parquet(path=…), Postgres(table=…, connection=…) or Mongo(collection=…, …)",
    ),
    ("owners", _owners, "a list of 'team:name' or e-mail addresses"),
    (
        "tags",
        _tags,
        "a mapping of texts: up to 63 letters, digits, '_', '-', '.'; a key may have a prefix before '/'",
    ),
    ("description", lambda value: value is None or isinstance(value, str), "text"),
)
_EVENTS: tuple[Check, ...] = (
    ("value", lambda value: isinstance(value, Json), "Json(); what Debezium tells are Changes"),
    ("event_time", lambda value: isinstance(value, str), "a column"),
    ("allowed_lateness", _duration, "a timedelta, not negative"),
    ("dedupe_within", _duration, "a timedelta, not negative"),
    (
        "event_time_range",
        _range,
        "'default', None, or a tuple (first, last) of zoned datetimes in order; an end may be None",
    ),
)
_CHANGES: tuple[Check, ...] = (
    ("value", lambda value: isinstance(value, Json | Debezium), "Json() or Debezium(source=…)"),
    ("sequence", lambda value: value is None or _names(value), "a column, or a tuple of different columns"),
    ("valid_from", lambda value: value is None or isinstance(value, str), "a column"),
    ("delete_when", _expression, "a polars expression"),
    ("truncate_when", _expression, "a polars expression"),
    ("snapshot", lambda value: value is None or isinstance(value, str), "a column"),
    (
        "ignore_null",
        lambda value: isinstance(value, bool) or (isinstance(value, tuple) and _names(value)),
        "True, False or a tuple of columns",
    ),
    ("history", lambda value: isinstance(value, bool), "True or False"),
    (
        "track",
        lambda value: value is None or (isinstance(value, tuple) and _names(value)),
        "a tuple of columns",
    ),
)
# Arguments of arguments, looked at where the outer one is of the type named.
_INNER: tuple[tuple[str, type, str, Callable[[Any], bool], str], ...] = (
    ("value", Json, "timezone", _zone, "a time zone such as 'UTC' or 'Europe/Berlin'"),
    ("value", Json, "epoch", lambda value: value in _EPOCHS, "None, 's', 'ms', 'us' or 'ns'"),
    ("value", Debezium, "source", lambda value: value in _SOURCES, "'postgresql', 'mongodb' or 'mysql'"),
    (
        "value",
        Debezium,
        "unavailable",
        lambda value: isinstance(value, str) and bool(value),
        "text: the connector's unavailable.value.placeholder",
    ),
    ("value", Debezium, "binary", lambda value: value in _BINARY, f"one of {', '.join(map(repr, _BINARY))}"),
    ("value", Debezium, "decimal", lambda value: value in _DECIMAL, "None, 'precise', 'string' or 'double'"),
    ("value", Debezium, "time", lambda value: value in _TIME, f"one of {', '.join(map(repr, _TIME))}"),
    ("value", Debezium, "unwrapped", lambda value: isinstance(value, bool), "True or False"),
    *(
        ("source", kind, "filtered", lambda value: isinstance(value, bool), "True or False")
        for kind in (Delta, Parquet, Postgres)
    ),
    (
        "source",
        Mongo,
        "collection",
        _text(_NAMESPACE),
        "text such as 'shop.customers': database, dot, collection",
    ),
    (
        "source",
        Mongo,
        "messages",
        lambda value: value is None or _text(_TOPIC)(value),
        "None, or a topic",
    ),
    ("partitions", Hourly, "start", _start, "text such as '2026-01-01' or '2026-01-01-05:00'"),
    ("partitions", Daily, "start", _start, "text such as '2026-01-01'"),
    ("partitions", Daily, "timezone", _zone, "a time zone such as 'UTC' or 'Europe/Berlin'"),
)


def arguments(stream: Stream) -> Iterator[Found]:
    """Tell which arguments are missing or are nothing that they may be.

    Yields:
        The argument, what was found, what is allowed.
    """
    table: tuple[Check, ...] = ()
    match stream:
        case Events():
            table = _EVENTS
        case Changes():
            table = _CHANGES
            yield from _debezium(stream)
    for name, right, allowed in (*_STREAM, *table):
        value = getattr(stream, name)
        if value is REQUIRED or not right(value):
            yield name, shown(value), allowed
    for outer, kind, name, right, allowed in _INNER:
        holder = getattr(stream, outer)
        if isinstance(holder, kind) and not right(value := getattr(holder, name)):
            yield f"{outer}.{name}", shown(value), allowed


def _debezium(stream: Changes) -> Iterator[Found]:
    for name in ("delete_when", "truncate_when"):
        if isinstance(stream.value, Debezium) and isinstance(value := getattr(stream, name), pl.Expr):
            yield name, shown(value), "nothing here: Debezium says itself what is deleted"


def shown(value: Any) -> str:
    """Write a value on one line, shortened."""
    return " ".join(repr(value).split())[:_SHOWN]
