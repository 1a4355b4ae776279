"""What one parsed JSON value means in a column: the strict reading that defines all others.

`reader` gives a function for a type. It returns the value as polars stores it (see `physical`) and
lists every misfit with its path; a misfit reads as null. Nullability is not decided here.
"""

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any

import polars as pl

from sluice.contract import Json
from sluice.errors import ColumnTypeError
from sluice.json import times
from sluice.json.numbers import decimal, exact, integer
from sluice.json.strict import Number, is_unicode

SHOWN = 80  # characters of a value that a reason quotes

FLOATS: dict[type[pl.DataType], float] = {  # what rounds to less than infinity
    pl.Float16: 65520.0,
    pl.Float32: float(2**128 - 2**103),
    pl.Float64: math.inf,
}

Misfit = tuple[str, str]
"""Where, and the sentence."""
Reader = Callable[[Any, str, list[Misfit]], Any]
Scalar = Callable[[Any], Any]

INTEGERS: dict[type[pl.DataType], tuple[int, int]] = {
    **{t: (-(2 ** (b - 1)), 2 ** (b - 1) - 1) for t, b in (
        (pl.Int8, 8), (pl.Int16, 16), (pl.Int32, 32), (pl.Int64, 64))},
    **{t: (0, 2**b - 1) for t, b in ((pl.UInt8, 8), (pl.UInt16, 16), (pl.UInt32, 32), (pl.UInt64, 64))},
}  # fmt: skip


def reader(dtype: pl.DataType, options: Json) -> Reader:
    """Give the reader of a type.

    Raises:
        ColumnTypeError: no JSON value can become this type.
    """
    match dtype:
        case pl.List():
            return _list(reader(dtype.inner, options), None)  # type: ignore[arg-type]  # an instance
        case pl.Array():
            return _list(reader(dtype.inner, options), dtype.size)  # type: ignore[arg-type]  # an instance
        case pl.Struct():
            return _struct([(f.name, reader(f.dtype, options)) for f in dtype.fields])  # type: ignore[arg-type]
    read, accepted = _scalar(dtype, options)

    def scalar(value: Any, path: str, misfits: list[Misfit]) -> Any:
        if value is None:
            return None
        result = read(value)
        if result is None:
            misfits.append((path, f"found {shown(value)}; {dtype} accepts {accepted}"))
        return result

    return scalar


def physical(dtype: pl.DataType) -> pl.DataType:
    """The type in which read values are collected; a cast leads to `dtype`."""
    match dtype:
        case pl.Datetime() | pl.Time() | pl.Duration():
            return pl.Int64()
        case pl.Date():
            return pl.Int32()
        case pl.Enum() | pl.Categorical():
            return pl.String()
        case pl.List() | pl.Array():
            return pl.List(physical(dtype.inner))  # type: ignore[arg-type]  # an instance
        case pl.Struct():
            return pl.Struct({f.name: physical(f.dtype) for f in dtype.fields})  # type: ignore[arg-type]
        case _ if dtype.is_float():
            return pl.Float64()
        case _:
            return dtype


def shown(value: Any) -> str:
    """Quote a value in a reason, shortened."""
    match value:
        case Number():
            return f"the number {shortened(value)}"
        case str():
            return f"the text {shortened(repr(value))}"
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case list():
            return f"an array of {len(value)}"
        case _:
            return f"an object with {shortened(printable(', '.join(value))) or 'no members'}"


def printable(text: str) -> str:
    """A text that any table and any log can hold: lone surrogates are escaped."""
    return text if is_unicode(text) else ascii(text)[1:-1]


def shortened(text: str, size: int = SHOWN) -> str:
    """Cut a text for a person to read."""
    return text if len(text) <= size else f"{text[: size - 1]}…"


def _list(element: Reader, size: int | None) -> Reader:
    accepted = "an array" if size is None else f"an array of {size}"

    def read(value: Any, path: str, misfits: list[Misfit]) -> Any:
        if value is None:
            return None
        if not isinstance(value, list) or (size is not None and len(value) != size):
            misfits.append((path, f"found {shown(value)}; the column accepts {accepted}"))
            return None
        return [
            None if item is None else element(item, f"{path}[{place}]", misfits)
            for place, item in enumerate(value)
        ]

    return read


def _struct(fields: list[tuple[str, Reader]]) -> Reader:
    def read(value: Any, path: str, misfits: list[Misfit]) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict):
            misfits.append((path, f"found {shown(value)}; the column accepts an object"))
            return None
        return {name: field(value.get(name), f"{path}.{name}", misfits) for name, field in fields}

    return read


def scalar_reader(dtype: pl.DataType, options: Json) -> Scalar:
    """Give the reader of one text, `Number` or bool of a scalar type; None means that it does not fit."""
    return _scalar(dtype, options)[0]


def _scalar(dtype: pl.DataType, options: Json) -> tuple[Scalar, str]:
    """The reader of a scalar (None: it does not fit), and what it accepts in words."""
    match dtype:
        case pl.String() | pl.Categorical():
            return _unicode, "text of valid Unicode"
        case pl.Boolean():
            return lambda v: v if isinstance(v, bool) else None, "true or false"
        case pl.Decimal():
            precision, scale = dtype.precision, dtype.scale
            words = f"a number of at most {precision} digits, {scale} of them decimals"
            return _text(lambda v: decimal(v, precision, scale)), words
        case pl.Binary():
            return _plain(_base64), "base64 text"
        case pl.Enum():
            members = frozenset(dtype.categories)
            return _plain(lambda v: v if v in members else None), f"one of {shortened(', '.join(members))}"
    if dtype.is_temporal():
        return _temporal(dtype, options)
    return _number(dtype)


def _number(dtype: pl.DataType) -> tuple[Scalar, str]:
    if type(dtype) in INTEGERS:
        low, high = INTEGERS[type(dtype)]
        return _text(lambda v: integer(v, low, high)), f"a whole number from {low} to {high}"
    if type(dtype) in FLOATS:
        limit = FLOATS[type(dtype)]
        return _text(lambda v: _float(v, limit)), "a finite number in its range"
    raise ColumnTypeError(str(dtype))


def _temporal(dtype: pl.DataType, options: Json) -> tuple[Scalar, str]:
    match dtype:
        case pl.Datetime():
            return _datetime(dtype, options)
        case pl.Date():
            return _plain(times.day), "a date such as 2026-01-31"
        case pl.Time():
            return _plain(times.clock), "a time such as 09:30:00, to the microsecond"
        case pl.Duration():
            unit = dtype.time_unit
            return _plain(lambda v: times.duration(v, unit)), "a duration such as P1DT2H30M, exactly"
    raise ColumnTypeError(str(dtype))


def _unicode(value: Any) -> str | None:
    return value if _is_text(value) and (value.isascii() or is_unicode(value)) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def _text(read: Callable[[str], Any]) -> Scalar:
    """For numbers, and strings that are one."""
    return lambda value: read(value) if isinstance(value, str) else None


def _plain(read: Callable[[str], Any]) -> Scalar:
    """For strings only."""
    return lambda value: read(value) if _is_text(value) else None


def _float(text: str, limit: float) -> float | None:
    if exact(text) is None:
        return None
    value = float(text)
    return value if abs(value) < limit else None


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _datetime(dtype: pl.Datetime, options: Json) -> tuple[Scalar, str]:
    unit, given = dtype.time_unit, options.epoch
    if dtype.time_zone is None:
        return _plain(lambda v: times.naive(v, unit)), "a date-time without offset: 2026-01-31T09:30:00"
    words = f"a date-time such as 2026-01-31T09:30:00Z (naive: in {options.timezone})"
    text = _plain(lambda v: times.moment(v, unit, options.timezone))
    if given is None:
        return text, words

    def read(value: Any) -> int | None:
        return times.epoch(value, given, unit) if isinstance(value, Number) else text(value)

    return read, f"{words}, or a number in {given} since 1970"
