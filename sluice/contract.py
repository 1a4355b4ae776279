"""The words of a contract: what one file in `streams/` may declare about a stream.

Nothing is checked here: a wrong argument is kept as it was given, and `sluice.problems` lists all
that is wrong with all contracts at once. Defaults stand here and nowhere else.
"""

import hashlib
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal

import polars as pl

from sluice.columns import Column, model_columns
from sluice.partitions import Partitions
from sluice.sources import Source

UNAVAILABLE = "__debezium_unavailable_value"

Where = pl.Expr | Mapping[str, Any]
TimePrecision = Literal[
    "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"
]


@dataclass(frozen=True)
class Json:
    """Values are JSON objects, read strictly.

    `timezone` is the zone of naive date-times; `epoch` the unit of date-times given as numbers
    (None: numbers are refused).
    """

    timezone: str = "UTC"
    epoch: Literal["s", "ms", "us", "ns"] | None = None


@dataclass(frozen=True)
class Debezium:
    """Values are Debezium change events in JSON, with or without their schema block.

    `unavailable`, `binary` and `decimal` are the connector's `unavailable.value.placeholder`,
    `binary.handling.mode` (`bytes` is written as base64) and `decimal.handling.mode`; a schema block says
    itself how decimals are written, and where neither does, a text that could be both digits and base64 is
    refused. `time` is its `time.precision.mode` (None: its default, "adaptive", of MySQL
    "adaptive_time_microseconds"), by which times told as numbers are read where no schema block tells their
    unit. An adaptive mode follows the source's columns: a column's `metadata={"precision": 3}` tells its
    digits; else a `Datetime` is read in its own unit, and of a `Time` only what can be but one time.
    `unwrapped` says that values are rows which its transformation unwrapped without rewriting deletes: then a
    tombstone is a delete of its key, and changes are ordered by the Kafka offset. Unwrapped rows with
    `__deleted` need no such word.
    """

    source: Literal["postgresql", "mongodb", "mysql"]
    unavailable: str = UNAVAILABLE
    binary: Literal["base64", "base64-url-safe", "hex"] = "base64"
    decimal: Literal["precise", "string", "double"] | None = None
    unwrapped: bool = False
    time: TimePrecision | None = None


Format = Json | Debezium


class _Required:
    """Stands for an argument that was not given; the contract's check names it."""

    def __repr__(self) -> str:
        return "nothing"


REQUIRED: Any = _Required()


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """What events and changes have in common; not declared by itself."""

    topic: str = REQUIRED
    value: Format = REQUIRED
    schema: Any = REQUIRED
    key: str | tuple[str, ...] = REQUIRED
    partitions: Partitions = REQUIRED
    where: Where | None = None
    max_quarantined: float = 0.05
    epoch: int = 1
    source: Source | None = None
    owners: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None
    name: str = ""

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The contract's columns, in the model's order."""
        return model_columns(self.schema)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the key columns."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    def column(self, name: str) -> Column:
        """Give one column by its name; raises KeyError."""
        return {column.name: column for column in self.columns}[name]

    @cached_property
    def code_version(self) -> str:
        """Tell contracts apart: two that decide the same record differently have other versions."""
        kind = type(self).__name__
        parts = [kind, *(f"rules={number}" for of, number in _RULES.items() if of == kind)]
        for name, value in sorted(vars(self).items()):
            if name in _WITHOUT_EFFECT or name.startswith("_") or name in ("columns", "code_version"):
                continue
            parts.append(f"{name}={_describe(value)}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


_WITHOUT_EFFECT = frozenset({"owners", "tags", "description", "max_quarantined", "name", "epoch", "source"})
# Raised where mended code decides other than before, so that tiles are decided anew by themselves.
# 2: of what is told again the first telling stands; 3: -0.0 is the key 0.0, a struct of nulls that was sent
# is kept, rows of an image began when they say, a tombstone that is JSON's null deletes unwrapped rows.
_RULES = {"Changes": 3}
# postgresql 2: transactions that were open as their snapshot was taken stand behind it; 3, mysql 2: without a
# schema block, times are read in the connector's unit, and texts in columns of numbers as its decimals; the
# clock of a snapshot and the table of a truncate are part of the position.
_DECODERS = {"postgresql": 3, "mysql": 2}


def _describe(value: Any) -> str:
    """Write an argument as text that changes when its meaning does."""
    if isinstance(value, pl.Expr):
        return str(value)
    if isinstance(value, Mapping):
        return repr(sorted(value.items()))
    if isinstance(value, Debezium):
        decoder = f" decoder={_DECODERS[value.source]}" if value.source in _DECODERS else ""
        return repr(value) + decoder
    if inspect.isclass(value):  # the model: its columns, its rules, and the source of its own checks
        columns = [(c.name, str(c.dtype), c.nullable, c.path) for c in model_columns(value)]
        return "\n".join([repr(columns), repr(_rules(value)), *map(_source, value.__mro__)])
    return repr(value)


def _rules(model: Any) -> list[tuple[str, str, str]]:
    """List a model's rules, with bounds that are constants elsewhere, and those of its parents."""
    schema = model.to_schema()
    rules = [(name, check) for name, column in schema.columns.items() for check in column.checks]
    rules += [("", check) for check in schema.checks]
    return sorted((name, str(check.name), _stable(check.statistics)) for name, check in rules)


def _stable(value: Any) -> str:
    """Write what a rule knows as every process does: sets have no order, functions an address."""
    if isinstance(value, Mapping):
        return repr(sorted((str(name), _stable(what)) for name, what in value.items()))
    if isinstance(value, Collection) and not isinstance(value, str | bytes):
        return repr(sorted(map(_stable, value)))
    return str(getattr(value, "__qualname__", repr(value)))


def _source(model: type) -> str:
    if model.__module__.partition(".")[0] in ("pandera", "builtins", "typing"):
        return ""
    try:
        return inspect.getsource(model)
    except (OSError, TypeError):  # made in a session or by a program: its columns and rules must do
        return ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Events(Stream):
    """Immutable facts: one row a key in silver.

    Of the rows of one key, in the order of `(event_time, epoch, partition, offset)`, a row is kept
    unless it lies within `dedupe_within` of the row kept before it.
    """

    event_time: str = REQUIRED
    allowed_lateness: timedelta = timedelta(hours=1)
    dedupe_within: timedelta = timedelta(days=1)
    event_time_range: tuple[datetime | None, datetime | None] | Literal["default"] | None = "default"


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes(Stream):
    """The state of entities, told as inserts, updates and deletes."""

    sequence: str | tuple[str, ...] | None = None
    valid_from: str | None = None
    delete_when: pl.Expr | None = None
    truncate_when: pl.Expr | None = None
    snapshot: str | None = None
    ignore_null: bool | tuple[str, ...] = False
    history: bool = False
    track: tuple[str, ...] | None = None

    @property
    def sequences(self) -> tuple[str, ...]:
        """The columns that order changes of one key; empty: the source's position, or the offset."""
        if self.sequence is None:
            return ()
        return (self.sequence,) if isinstance(self.sequence, str) else tuple(self.sequence)
