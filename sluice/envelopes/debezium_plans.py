"""How columns are read from rows of one schema: worked out once a schema, not once a value."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from sluice.columns import Column, leaf_dtype
from sluice.contract import Debezium, TimePrecision
from sluice.envelopes.debezium_values import Fields, Schema, fields_of, time_mode, value_reader
from sluice.envelopes.mongodb_values import document_reader
from sluice.envelopes.mongodb_values import value_reader as bson_reader
from sluice.json.values import Misfit, Reader, shown

_COARSE = 3  # digits of a second that milliseconds have
_UNITS: dict[str, TimePrecision] = {"ms": "connect", "us": "microseconds", "ns": "nanoseconds"}
_ENVELOPE = re.compile(r"source|transaction|op|(__.*)?ts_(ms|us|ns)")  # whose times follow no mode
_MOST = 1000  # plans kept: bounds memory where each record has a schema of its own


class Plans:
    """Gives the readers of all columns."""

    def __init__(self, columns: Sequence[Column], options: Debezium) -> None:
        self._columns = columns
        self._options = options
        self._known: dict[tuple[int, bool], tuple[Fields, list[Reader]]] = {}

    def of(self, fields: Fields, *, is_document: bool = False) -> list[Reader]:
        """Give the readers for rows with these fields, or for documents."""
        key = (id(fields) if fields else 0, is_document)
        known = self._known.get(key)
        if known is None:  # the fields are kept beside, so that their id stays their own
            known = fields, [self._reader(column, fields, is_document) for column in self._columns]
            if len(self._known) < _MOST:
                self._known[key] = known
        return known[1]

    def _reader(self, column: Column, fields: Fields, is_document: bool) -> Reader:
        if is_document:
            return document_reader if column.document else bson_reader(column.dtype)
        return value_reader(column.dtype, block_of(column, fields), options_of(column, self._options))


def options_of(column: Column, options: Debezium) -> Debezium:
    """Give the options that hold for one column: its precision tells what an adaptive mode writes."""
    dtype, mode = leaf_dtype(column.dtype), time_mode(options)
    if isinstance(dtype, pl.Datetime) and _ENVELOPE.fullmatch(column.path[0]):
        return replace(options, time=_UNITS[dtype.time_unit])
    is_open = mode == "adaptive" or (mode == "adaptive_time_microseconds" and isinstance(dtype, pl.Datetime))
    if column.precision is None or not is_open:
        return options
    return replace(options, time="connect" if column.precision <= _COARSE else "microseconds")


def block_of(column: Column, fields: Fields) -> Schema | None:
    """Give the block of a schema that tells a column's field; None where there is none."""
    schema = None
    for name in column.path:
        schema = fields.get(name)
        fields = fields_of(schema)
    return schema


def inside(value: Any, path: tuple[str, ...], misfits: list[Misfit]) -> Any:
    """Walk from the value of a path's first member down to that of its last."""
    for depth, name in enumerate(path[1:], 1):
        if value is None:
            return None
        if not isinstance(value, dict):
            where = ".".join(path[:depth])
            misfits.append((where, f"found {shown(value)}; an object with the member {name!r} is expected"))
            return None
        value = value.get(name)
    return value
