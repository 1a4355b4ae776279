"""Debezium's encodings undone: what a value of a change event means in a column.

With a schema block the field's type says how a value was written; without one the column's type does, and
the connector's modes that the contract names. A text that could be both digits and base64, or a number that
could be several times, is refused rather than guessed. An undone value is then read as strictly as any JSON
(`sluice.json.values`), but that a float may be NaN or infinite, as the source's can.
"""

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from sluice.contract import Debezium, Json
from sluice.envelopes.debezium_encodings import (
    Undo,
    binary,
    bits,
    clock,
    clocks,
    date_text,
    decimal,
    duration,
    guessed,
    interval,
    mapped,
    same,
    stamp,
    variable,
    wall,
)
from sluice.json.strict import Number
from sluice.json.values import Misfit, Reader, reader, shown

Schema = Mapping[str, Any]
Fields = Mapping[str, Schema]

_WHOLE = re.compile(r"-?[0-9]{1,30}")
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
STAMPS = {
    "io.debezium.time.Timestamp": 10**6,
    "io.debezium.time.MicroTimestamp": 10**3,
    "io.debezium.time.NanoTimestamp": 1,
    "org.apache.kafka.connect.data.Timestamp": 10**6,
}
CLOCKS = {
    "io.debezium.time.Time": 10**6,
    "io.debezium.time.MicroTime": 10**3,
    "io.debezium.time.NanoTime": 1,
    "org.apache.kafka.connect.data.Time": 10**6,
}
DURATIONS = {"io.debezium.time.MicroDuration": 10**3, "io.debezium.time.NanoDuration": 1}
_DEFAULTS = Debezium("postgresql")
_MILLI, _MICRO = 10**6, 10**3
_FIXED = {"isostring": (), "connect": (_MILLI,), "microseconds": (_MICRO,), "nanoseconds": (1,)}
_OWN = {"ms": (_MILLI,), "us": (_MICRO,), "ns": ()}  # what an adaptive mode may write for a Datetime
DATES = ("io.debezium.time.Date", "org.apache.kafka.connect.data.Date")


def value_reader(dtype: pl.DataType, schema: Schema | None, options: Debezium = _DEFAULTS) -> Reader:
    """Give the reader of a field's values.

    Args:
        dtype: the column's type.
        schema: the field's block of the schema; None where the stream carries none.
        options: how the connector is configured.

    Raises:
        ColumnTypeError: no JSON value can become this type.
    """
    if isinstance(dtype, pl.List | pl.Array):
        size = dtype.size if isinstance(dtype, pl.Array) else None
        return list_reader(value_reader(dtype.inner, _block(schema, "items"), options), size)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        inner = fields_of(schema)
        return _struct({f.name: value_reader(f.dtype, inner.get(f.name), options) for f in dtype.fields})  # type: ignore[arg-type]
    plain, is_float = reader(dtype, Json()), dtype.is_float()
    encoding = str((schema.get("name") or schema.get("type")) if schema else _expected(dtype, options))
    undo = _written(encoding, schema, dtype, options) if schema else _unwritten(dtype, options)

    def read(value: Any, path: str, misfits: list[Misfit]) -> Any:
        if value is None:
            return None
        if is_float and not isinstance(value, Number) and isinstance(value, str) and value in _SPECIAL:
            return _SPECIAL[value]
        undone = undo(value)
        if undone is None:
            misfits.append((path, f"found {shown(value)}; {encoding}, as Debezium writes it, is expected"))
        return plain(undone, path, misfits)

    return read


def fields_of(schema: Any) -> Fields:
    """Give the blocks of a schema by field; empty where there are none."""
    listed = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(listed, list):
        return {}
    return {f["field"]: f for f in listed if isinstance(f, dict) and isinstance(f.get("field"), str)}


def _block(schema: Schema | None, name: str) -> Any:
    """Give a block inside a block of a schema."""
    found = schema.get(name) if schema else None
    return found if isinstance(found, dict) else None


def parameter(schema: Schema, name: str) -> int | None:
    """Give a number among a schema's parameters."""
    text = str((_block(schema, "parameters") or {}).get(name))
    return int(text) if _WHOLE.fullmatch(text) else None


def list_reader(element: Reader, size: int | None) -> Reader:
    """Give the reader of an array, of any size or of just one, by that of its elements."""

    def read(value: Any, path: str, misfits: list[Misfit]) -> Any:
        if value is None:
            return None
        if not isinstance(value, list) or size not in (None, len(value)):
            misfits.append(
                (path, f"found {shown(value)}; an array{f' of {size}' if size else ''} is expected")
            )
            return None
        return [element(item, f"{path}[{place}]", misfits) for place, item in enumerate(value)]

    return read


def _struct(fields: Mapping[str, Reader]) -> Reader:
    def read(value: Any, path: str, misfits: list[Misfit]) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict):
            misfits.append((path, f"found {shown(value)}; an object is expected"))
            return None
        return {name: field(value.get(name), f"{path}.{name}", misfits) for name, field in fields.items()}

    return read


def _written(encoding: str, schema: Schema, dtype: pl.DataType, options: Debezium) -> Undo:
    """Undo what the schema says; a column of integers takes counted times as they are."""
    raw = dtype.is_integer()
    if encoding == "org.apache.kafka.connect.data.Decimal":
        return decimal(parameter(schema, "scale"), parameter(schema, "connect.decimal.precision"), dtype)
    if encoding == "io.debezium.data.VariableScaleDecimal":
        return lambda value: variable(value, dtype)
    if encoding == "io.debezium.data.Bits":
        return bits(parameter(schema, "length") or 1, dtype)
    if encoding in DURATIONS:
        unit = DURATIONS[encoding]
        return same if raw else lambda value: duration(value, unit)
    if encoding in DATES and not raw:
        return date_text
    if encoding in STAMPS and not raw:
        unit = STAMPS[encoding]
        return lambda value: stamp(value, unit)
    if encoding in CLOCKS and not raw:
        unit = CLOCKS[encoding]
        if isinstance(dtype, pl.Duration):  # MySQL's TIME may be negative, or longer than a day
            return lambda value: duration(value, unit)
        return lambda value: clock(value, unit)
    if isinstance(dtype, pl.Binary):
        return binary(options.binary if schema.get("type") == "string" else "base64")
    return _text(dtype)


def _unwritten(dtype: pl.DataType, options: Debezium) -> Undo:
    """Undo what the connector, as it is configured, would write for a column of this type."""
    units = time_units(dtype, options)
    match dtype:
        case _ if dtype.is_numeric():
            return lambda value: guessed(value, dtype, options.decimal)
        case pl.Date():
            return lambda value: date_text(value) if isinstance(value, Number) else wall(value)
        case pl.Datetime():
            unit, text = next(iter(units), None), _text(dtype)
            return lambda value: (unit and stamp(value, unit)) if isinstance(value, Number) else text(value)
        case pl.Binary():
            return binary(options.binary)
        case pl.Time():
            return lambda value: clocks(value, units) if isinstance(value, Number) else wall(value)
        case pl.Duration():
            unit = next(iter(units), None)
            return lambda value: (
                (unit and duration(value, unit)) if isinstance(value, Number) else interval(value)
            )
        case _:
            return _text(dtype)


def time_mode(options: Debezium) -> str:
    """Give the connector's `time.precision.mode`."""
    return options.time or ("adaptive_time_microseconds" if options.source == "mysql" else "adaptive")


def time_units(dtype: pl.DataType, options: Debezium) -> tuple[int, ...]:
    """Give the units, in nanoseconds, in which a time may be counted that no schema tells of.

    Several where the source's column decides: what can be but one time in them is sure. None where the
    connector writes no numbers.
    """
    mode = time_mode(options)
    if options.source == "mongodb":
        return (_MILLI,)
    if isinstance(dtype, pl.Duration) and options.source == "postgresql":  # an interval, in any mode
        return (_MICRO,)
    if mode in _FIXED:
        return _FIXED[mode]
    if isinstance(dtype, pl.Datetime):
        return _OWN[dtype.time_unit]
    return (_MICRO,) if isinstance(dtype, pl.Duration) or mode != "adaptive" else (_MILLI, _MICRO)


def _expected(dtype: pl.DataType, options: Debezium) -> str:
    """Say what a value must be that no schema tells of, and which word would make more of it certain."""
    words = f"a value of {dtype}"
    if dtype.is_numeric() and options.decimal is None:
        return f"{words} that is either digits or base64 (Debezium(decimal=…) says which)"
    if isinstance(dtype, pl.Time | pl.Datetime) and len(time_units(dtype, options)) != 1:
        return (
            f"{words} in a known unit (Debezium(time=…) names the connector's time.precision.mode, the "
            "column's metadata the precision of the source's)"
        )
    return words


def _text(dtype: pl.DataType) -> Undo:
    """Undo what is written as text in any mode: times, and maps where they are to be text."""
    match dtype:
        case pl.Time() | pl.Date():
            return wall
        case pl.Datetime() if dtype.time_zone is None:  # ISO texts end in Z, whether they have a zone or not
            return wall
        case pl.Duration():
            return interval
        case pl.String():
            return lambda value: mapped(value, dtype) if isinstance(value, dict) else value
        case _:
            return same
