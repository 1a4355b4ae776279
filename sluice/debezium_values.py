"""Debezium's encodings undone: what a value of a change event means in a column.

With a schema block the field's type says how a value was written; without one the column's type does, and
a text that could be both digits and base64 is refused rather than guessed. An undone value is then read as
strictly as any JSON (`sluice.json_values`), but that a float may be NaN or infinite, as the source's can.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from sluice.contract import Json
from sluice.json_numbers import exact
from sluice.json_values import Misfit, Reader, reader, shown
from sluice.strict_json import Number

Schema = Mapping[str, Any]
Fields = Mapping[str, Schema]
Undo = Callable[[Any], Any]
"""Gives the value as plain JSON would have it; None where it is not what the encoding allows."""

UNAVAILABLE = "__debezium_unavailable_value"
_UNAVAILABLE_BYTES = base64.b64encode(UNAVAILABLE.encode()).decode()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400 * 10**9
_WHOLE = re.compile(r"-?[0-9]{1,30}")
_LONGEST, _DEEPEST = 1700, 16383  # bytes whose digits Python still writes; decimals that PostgreSQL has
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_UNITS = {"ms": 10**6, "us": 10**3, "ns": 1}
_STAMPS = {
    "io.debezium.time.Timestamp": 10**6,
    "io.debezium.time.MicroTimestamp": 10**3,
    "io.debezium.time.NanoTimestamp": 1,
    "org.apache.kafka.connect.data.Timestamp": 10**6,
}
_CLOCKS = {
    "io.debezium.time.Time": 10**6,
    "io.debezium.time.MicroTime": 10**3,
    "io.debezium.time.NanoTime": 1,
    "org.apache.kafka.connect.data.Time": 10**6,
}
_DURATIONS = {"io.debezium.time.MicroDuration": 10**3, "io.debezium.time.NanoDuration": 1}
_DATES = ("io.debezium.time.Date", "org.apache.kafka.connect.data.Date")


def is_unavailable(value: Any, dtype: pl.DataType) -> bool:
    """Tell whether a value stands for one that the source did not send."""
    if value is None or isinstance(value, Number):
        return False
    if isinstance(value, list):
        return len(value) == 1 and not isinstance(dtype, pl.String) and value[0] == UNAVAILABLE
    if isinstance(value, dict):
        return list(value) == [UNAVAILABLE]
    return value == UNAVAILABLE or (isinstance(dtype, pl.Binary) and value == _UNAVAILABLE_BYTES)


def value_reader(dtype: pl.DataType, schema: Schema | None) -> Reader:
    """Give the reader of a field's values.

    Args:
        dtype: the column's type.
        schema: the field's block of the schema; None where the stream carries none.

    Raises:
        ColumnTypeError: no JSON value can become this type.
    """
    if isinstance(dtype, pl.List | pl.Array):
        size = dtype.size if isinstance(dtype, pl.Array) else None
        return _list(value_reader(dtype.inner, _block(schema, "items")), size)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        inner = fields_of(schema)
        return _struct({f.name: value_reader(f.dtype, inner.get(f.name)) for f in dtype.fields})  # type: ignore[arg-type]
    plain, is_float = reader(dtype, Json()), dtype.is_float()
    encoding = str((schema.get("name") or schema.get("type")) if schema else f"a value of {dtype}")
    undo = _written(encoding, schema, dtype) if schema else _unwritten(dtype)

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


def _parameter(schema: Schema, name: str) -> int | None:
    text = str((_block(schema, "parameters") or {}).get(name))
    return int(text) if _WHOLE.fullmatch(text) else None


def _list(element: Reader, size: int | None) -> Reader:
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


def _written(encoding: str, schema: Schema, dtype: pl.DataType) -> Undo:
    """Undo what the schema says; a column of integers takes counted times as they are."""
    raw = dtype.is_integer()
    if encoding == "org.apache.kafka.connect.data.Decimal":
        return _decimal(_parameter(schema, "scale"), _parameter(schema, "connect.decimal.precision"), dtype)
    if encoding == "io.debezium.data.VariableScaleDecimal":
        return lambda value: _variable(value, dtype)
    if encoding == "io.debezium.data.Bits":
        return _bits(_parameter(schema, "length") or 1, dtype)
    if encoding in _DURATIONS:
        unit = _DURATIONS[encoding]
        return _same if raw else lambda value: _duration(value, unit)
    if encoding in _DATES and not raw:
        return _date
    if encoding in _STAMPS and not raw:
        unit = _STAMPS[encoding]
        return lambda value: _stamp(value, unit)
    if encoding in _CLOCKS and not raw:
        unit = _CLOCKS[encoding]
        return lambda value: _clock(value, unit)
    return _wall if isinstance(dtype, pl.Time) else _same


def _unwritten(dtype: pl.DataType) -> Undo:
    """Undo what Debezium's defaults would write for a column of this type."""
    match dtype:
        case pl.Decimal():
            return lambda value: _guessed(value, dtype)
        case pl.String():
            return lambda value: _variable(value, dtype) if isinstance(value, dict) else value
        case pl.Date():
            return lambda value: _date(value) if isinstance(value, Number) else value
        case pl.Datetime():
            unit = _UNITS[dtype.time_unit]
            return lambda value: _stamp(value, unit) if isinstance(value, Number) else value
        case pl.Time():  # microseconds, in which Debezium writes times of full precision
            return lambda value: _clock(value, 10**3) if isinstance(value, Number) else _wall(value)
        case pl.Duration():
            return lambda value: _duration(value, 10**3) if isinstance(value, Number) else value
        case _:
            return _same


def _same(value: Any) -> Any:
    return value


def _count(value: Any) -> int | None:
    """Read a whole number of units."""
    return int(value) if isinstance(value, Number) and _WHOLE.fullmatch(value) else None


def _bytes(value: Any) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except (binascii.Error, ValueError):
        return None


def _digits(
    data: bytes | None, scale: int | None, dtype: pl.DataType, precision: int | None = None
) -> str | None:
    """Write an unscaled integer of two's complement as digits; None if it has more than the schema says."""
    if data is None or len(data) > _LONGEST or scale is None or abs(scale) > _DEEPEST:
        return None
    unscaled = int.from_bytes(data, "big", signed=True)
    text = str(abs(unscaled))
    if precision is not None and len(text) > precision:
        return None
    text = text + "0" * -scale if scale <= 0 else text.zfill(scale + 1)
    whole = f"{text[:-scale]}.{text[-scale:]}" if scale > 0 else text
    signed = f"-{whole}" if unscaled < 0 else whole
    return signed if isinstance(dtype, pl.String) else Number(signed)


def _decimal(scale: int | None, precision: int | None, dtype: pl.DataType) -> Undo:
    def undo(value: Any) -> Any:
        if isinstance(value, Number):  # Kafka Connect's decimal.format=NUMERIC
            return str(value) if isinstance(dtype, pl.String) else value
        return _digits(_bytes(value), scale, dtype, precision)

    return undo


def _variable(value: Any, dtype: pl.DataType) -> Any:
    if not isinstance(value, dict) or value.keys() != {"scale", "value"}:
        return None
    scale = _count(value["scale"])
    return _digits(_bytes(value["value"]), scale, dtype)


def _guessed(value: Any, dtype: pl.Decimal) -> Any:
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        return _variable(value, dtype)
    if not isinstance(value, str):
        return None
    number, encoded = exact(value) is not None, bool(_bytes(value))
    if number and encoded:  # such as "1234": digits, or three bytes
        return None
    return _digits(_bytes(value), dtype.scale, dtype) if encoded else value


def _bits(length: int, dtype: pl.DataType) -> Undo:
    def undo(value: Any) -> Any:
        data = _bytes(value)
        if data is None or isinstance(dtype, pl.Binary):
            return data and value
        number = int.from_bytes(data, "little")
        return f"{number:0{length}b}" if isinstance(dtype, pl.String) else Number(number)

    return undo


def _date(value: Any) -> str | None:
    days = _count(value)
    text = None if days is None else _stamp(Number(days), _DAY)
    return text and text[:10]


def _stamp(value: Any, unit: int) -> str | None:
    """Write a count since 1970 as ISO text without an offset; None outside the years 1 to 9999."""
    count = _count(value)
    if count is None:
        return None
    seconds, nanos = divmod(count * unit, 10**9)
    try:
        at = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return f"{at:%Y-%m-%dT%H:%M:%S}".zfill(19) + (f".{nanos:09d}".rstrip("0") if nanos else "")


def _clock(value: Any, unit: int) -> str | None:
    count = _count(value)
    return _stamp(value, unit)[11:] if count is not None and 0 <= count * unit < _DAY else None  # type: ignore[index]


def _wall(value: Any) -> Any:
    """Drop the offset of a time with zone, which Debezium moves to UTC."""
    return value.removesuffix("Z") if isinstance(value, str) else value


def _duration(value: Any, unit: int) -> str | None:
    count = _count(value)
    if count is None:
        return None
    seconds, nanos = divmod(abs(count) * unit, 10**9)
    return f"{'-' if count < 0 else ''}PT{seconds}.{nanos:09d}S"
