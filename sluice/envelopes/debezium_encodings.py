"""Debezium's encodings, one by one: from what the connector wrote to what plain JSON would say.

Each gives None for what its encoding does not allow. Which of them a field has is decided in
`sluice.envelopes.debezium_values`.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from sluice.json.numbers import exact
from sluice.json.strict import Number

Undo = Callable[[Any], Any]
"""Gives the value as plain JSON would have it; None where it is not what the encoding allows."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400 * 10**9
_LONGEST, _DEEPEST = 1700, 16383  # bytes whose digits Python still writes; decimals that PostgreSQL has
_INTERVAL = re.compile(
    r"P0Y0M(-?[0-9]{1,9})DT(-?[0-9]{1,12})H(-?[0-9]{1,12})M(-?[0-9]{1,18}(?:\.[0-9]{1,9})?)S"
)
_URL_SAFE = str.maketrans("-_", "+/")
_WHOLE = re.compile(r"-?[0-9]{1,30}")


def same(value: Any) -> Any:
    """Leave a value as it is."""
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


def decimal(scale: int | None, precision: int | None, dtype: pl.DataType) -> Undo:
    """Undo base64 with the schema's scale, or a number as it stands."""

    def undo(value: Any) -> Any:
        if isinstance(value, Number):  # Kafka Connect's decimal.format=NUMERIC
            return str(value) if isinstance(dtype, pl.String) else value
        return _digits(_bytes(value), scale, dtype, precision)

    return undo


def variable(value: Any, dtype: pl.DataType) -> Any:
    """Undo `{scale, value}`."""
    if not isinstance(value, dict) or value.keys() != {"scale", "value"}:
        return None
    scale = _count(value["scale"])
    return _digits(_bytes(value["value"]), scale, dtype)


def mapped(value: dict[str, Any], dtype: pl.DataType) -> Any:
    """Undo an object that is to be text: `{scale, value}`, or an hstore told as a map."""
    if value.keys() == {"scale", "value"} and isinstance(value["scale"], Number):
        return variable(value, dtype)
    if all(
        item is None or (isinstance(item, str) and not isinstance(item, Number)) for item in value.values()
    ):
        return json.dumps(value, ensure_ascii=False)
    return None


def binary(mode: str) -> Undo:
    """Undo bytes in the connector's `binary.handling.mode`; of a geometry take its well-known binary."""

    def undo(value: Any) -> Any:
        text = value.get("wkb") if isinstance(value, dict) else value
        if isinstance(value, dict) or mode == "base64" or not isinstance(text, str):
            return text
        if mode == "base64-url-safe":
            return text.translate(_URL_SAFE) + "=" * (-len(text) % 4)
        try:
            return base64.b64encode(bytes.fromhex(text)).decode()
        except ValueError:
            return None

    return undo


def guessed(value: Any, dtype: pl.DataType, mode: str | None = None) -> Any:
    """Undo a number of which no schema says how it is written: base64 has the column's scale, if any."""
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        return variable(value, dtype)
    if not isinstance(value, str):
        return None
    is_digits = mode == "string" or (mode is None and exact(value) is not None)
    is_encoded = mode == "precise" or (mode is None and bool(_bytes(value)))
    if is_digits and is_encoded:  # such as "1234": digits, or three bytes
        return None
    scale = dtype.scale if isinstance(dtype, pl.Decimal) else 0 if dtype.is_integer() else None
    return _digits(_bytes(value), scale, dtype) if is_encoded else value


def bits(length: int, dtype: pl.DataType) -> Undo:
    """Undo little-endian base64: ones and zeros for text, bytes as they came, else a number."""

    def undo(value: Any) -> Any:
        data = _bytes(value)
        if data is None or len(data) > _LONGEST:
            return None
        if isinstance(dtype, pl.Binary):
            return value
        number = int.from_bytes(data, "little")
        padded = f"{number:b}".zfill(min(length, 8 * len(data)))
        return padded if isinstance(dtype, pl.String) else Number(number)

    return undo


def date_text(value: Any) -> str | None:
    """Write days since 1970 as ISO text."""
    days = _count(value)
    text = None if days is None else stamp(Number(days), _DAY)
    return text and text[:10]


def stamp(value: Any, unit: int) -> str | None:
    """Write a count since 1970, in units of so many nanoseconds, as ISO text (years 1 to 9999)."""
    count = _count(value)
    if count is None:
        return None
    seconds, nanos = divmod(count * unit, 10**9)
    try:
        at = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return f"{at:%Y-%m-%dT%H:%M:%S}".zfill(19) + (f".{nanos:09d}".rstrip("0") if nanos else "")


def clock(value: Any, unit: int) -> str | None:
    """Write a count since midnight, in units of so many nanoseconds, as ISO text."""
    count = _count(value)
    return stamp(value, unit)[11:] if count is not None and 0 <= count * unit < _DAY else None  # type: ignore[index]


def clocks(value: Any, units: Sequence[int]) -> str | None:
    """Write a count since midnight, in one of these units, as ISO text; None where that can be several."""
    texts = {text for unit in units if (text := clock(value, unit)) is not None}
    return texts.pop() if len(texts) == 1 else None


def wall(value: Any) -> Any:
    """Drop the offset of a time with zone, which Debezium moves to UTC."""
    return value.removesuffix("Z") if isinstance(value, str) else value


def interval(value: Any) -> Any:
    """Undo an interval told by its parts, each with its sign; one of months or years has no one length."""
    parts = _INTERVAL.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        return value
    days, hours, minutes, seconds = (Decimal(part) for part in parts.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return f"{'-' if total < 0 else ''}PT{abs(total):f}S"


def duration(value: Any, unit: int) -> str | None:
    """Write a count of units of so many nanoseconds as an ISO duration."""
    count = _count(value)
    if count is None:
        return None
    seconds, nanos = divmod(abs(count) * unit, 10**9)
    return f"{'-' if count < 0 else ''}PT{seconds}.{nanos:09d}S"
