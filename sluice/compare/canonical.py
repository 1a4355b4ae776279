"""Canonical text: one text for one value, written alike by DuckDB over the lake and by PostgreSQL.

A contract's type says how: integers and decimals by their digits without trailing zeros; times as
microseconds since 1970 (naive ones as UTC), dates as days; floats by their bits (-0.0 is 0.0, all NaN are
one; a float of 32 bits counts as the shortest decimal that names it); bytes as hex; lists by their elements,
structs by the members that the contract names, in its order.
What is no number, or no finite time, in a decimal or a time of PostgreSQL counts as null: its stream has no
way to say it. Structs, and lists of lists or structs, PostgreSQL tells by `to_jsonb`: of a composite type, an
array, json or jsonb alike.
"""

# ruff: noqa: S608  # of a contract, and quoted (sluice.compare.comparable)

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from sluice.columns import Column, model_dtype, storage_dtype
from sluice.compare.comparable import text

Dialect = Literal["duckdb", "postgresql"]
NULL = "~"
_DIGITS = 15  # of the md5, in hex: 60 bits, so that sums stay exact


def canonical(value: str, dtype: pl.DataType, dialect: Dialect) -> str:
    """Write the SQL that gives a value's canonical text (null: null).

    Args:
        value: the SQL of the value; in DuckDB of the type in which the lake stores the contract's.
        dtype: the contract's type.
        dialect: whose SQL.
    """
    if dialect == "duckdb":
        return _duckdb(value, dtype)
    inner: Any = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    if isinstance(inner, pl.Struct | pl.List | pl.Array):  # a composite type, an array, json or jsonb
        return _jsonb(f"to_jsonb({value})", dtype)
    if inner is dtype:
        return _postgresql(value, dtype)
    items = f"FROM unnest({value}) WITH ORDINALITY AS items(item, place)"
    told = _aggregated(f"SELECT {_postgresql('item', inner)}, place {items}", "[]")
    return f"CASE WHEN {value} IS NOT NULL THEN {told} END"


def row_text(texts: Sequence[str]) -> str:
    """Write the SQL of a row's text: its values between bars, so that no two rows have one text.

    Each value is named once: a database works out an expression as often as it is named.
    """
    return " || '|' || ".join(
        f"coalesce(replace(replace({t}, '~', '~~'), '|', '~-'), '{NULL}')" for t in texts
    )


def row_sum(text: str, dialect: Dialect) -> str:
    """Write the SQL of a row's share in a checksum: the first 60 bits of its text's md5."""
    digits = f"substr(md5({text}), 1, {_DIGITS})"
    return f"('0x' || {digits})::UBIGINT" if dialect == "duckdb" else f"('x' || {digits})::bit(60)::bigint"


def _duckdb(value: str, dtype: pl.DataType, depth: int = 0) -> str:
    match storage_dtype(dtype):
        case pl.Decimal(scale=scale) if scale:
            return f"rtrim(rtrim({value}::VARCHAR, '0'), '.')"
        case pl.Float32():
            return _float_bits(f"{value}::VARCHAR::DOUBLE")
        case pl.Float64():
            return _float_bits(value)
        case pl.Boolean():
            return _boolean(value)
        case pl.Datetime():
            return f"epoch_us({value})::VARCHAR"
        case pl.Date():
            return f"({value} - DATE '1970-01-01')::VARCHAR"
        case pl.Binary():
            return f"lower(hex({value}))"
        case pl.List():
            inner, item = dtype.inner, f"item{depth}"  # type: ignore[attr-defined]  # of lists and arrays
            told = f"list_transform({value}, lambda {item}: {_duckdb(item, model_dtype(inner), depth + 1)})"
            return f"'[' || {_joined(told)} || ']'"
        case pl.Struct(fields=fields):
            of = dict(zip((f.name for f in fields), dtype.fields, strict=True))  # type: ignore[attr-defined]
            told = ", ".join(
                _duckdb(f"struct_extract({value}, {text(name)})", model_dtype(f.dtype), depth)
                for name, f in of.items()
            )
            return f"CASE WHEN {value} IS NOT NULL THEN '{{' || {_joined(f'[{told}]')} || '}}' END"
        case _:
            return f"{value}::VARCHAR"


def _framed(value: str) -> str:
    """Write the SQL of a text with its length before it, by which `_items` takes lists apart."""
    return f"coalesce(length({value}) || ':' || {value}, '{NULL}')"


def _joined(texts: str) -> str:
    """Write DuckDB's SQL of a list of texts as one text, in which each has its length."""
    return f"array_to_string(list_transform({texts}, lambda t: {_framed('t')}), ',')"


def _aggregated(rows: str, around: str) -> str:
    """Write PostgreSQL's SQL of rows (a text, its place) as one text, in which each has its length."""
    told = f"SELECT string_agg({_framed('t')}, ',' ORDER BY place) FROM ({rows}) told(t, place)"
    return f"'{around[0]}' || coalesce(({told}), '') || '{around[1]}'"


def _float_bits(value: str) -> str:
    return f"CASE WHEN isnan({value}) THEN 'NaN' ELSE ({value} + 0.0::DOUBLE)::BIT::BIGINT::VARCHAR END"


def _boolean(value: str) -> str:
    return f"CASE {value} WHEN true THEN 't' WHEN false THEN 'f' END"


def _postgresql(value: str, dtype: pl.DataType) -> str:
    match dtype:
        case pl.Decimal() | pl.UInt64():
            number, no_number = f"({value})::numeric", "'NaN', 'Infinity', '-Infinity'"
            return f"CASE WHEN {number} NOT IN ({no_number}) THEN trim_scale({number})::text END"
        case _ if dtype.is_integer():
            return f"({value})::bigint::text"
        case pl.Float32() | pl.Float64():
            return _float(value, dtype)
        case pl.Boolean():
            return _boolean(value)
        case pl.Datetime():
            return (
                f"CASE WHEN isfinite({value}) THEN (extract(epoch FROM {value}) * 1000000)::bigint::text END"
            )
        case pl.Date():
            return f"CASE WHEN isfinite(({value})::date) THEN (({value})::date - date '1970-01-01')::text END"
        case pl.Time():
            return f"(extract(epoch FROM ({value})::time) * 1000000)::bigint::text"
        case pl.Duration():
            return f"(extract(epoch FROM ({value})::interval) * 1000000)::bigint::text"
        case pl.Binary():
            return f"encode({value}, 'hex')"
        case _:
            return f"({value})::text"


def _float(value: str, dtype: pl.DataType) -> str:
    number = f"({value})::text::float8"
    if dtype == pl.Float64():  # by way of its text only what has 32 bits: that costs
        number = f"CASE WHEN pg_typeof({value}) = 'real'::regtype THEN {number} ELSE ({value})::float8 END"
    bits = f"('x' || encode(float8send({number} + 0.0), 'hex'))::bit(64)::bigint::text"
    return f"CASE WHEN {number} = 'NaN' THEN 'NaN' ELSE {bits} END"


def _jsonb(value: str, dtype: pl.DataType, depth: int = 0) -> str:
    """Write the SQL of a value of PostgreSQL's jsonb; no object or array, where one is meant, is null."""
    if isinstance(dtype, pl.List | pl.Array):
        item = f"item{depth}"
        told = _jsonb(item, model_dtype(dtype.inner), depth + 1)
        items = f"FROM jsonb_array_elements({value}) WITH ORDINALITY AS items({item}, place)"
        told = _aggregated(f"SELECT {told}, place {items}", "[]")
        return f"CASE jsonb_typeof({value}) WHEN 'array' THEN {told} END"
    if isinstance(dtype, pl.Struct):
        members = [_jsonb(f"({value} -> {text(f.name)})", model_dtype(f.dtype), depth) for f in dtype.fields]
        rows = f"SELECT * FROM unnest(ARRAY[{', '.join(members)}]) WITH ORDINALITY"
        return f"CASE jsonb_typeof({value}) WHEN 'object' THEN {_aggregated(rows, '{}')} END"
    as_text = f"({value} #>> '{{}}')"
    casts = {pl.Datetime: "timestamp", pl.Boolean: "boolean", pl.Binary: "bytea"}
    zone = "tz" if isinstance(dtype, pl.Datetime) and dtype.time_zone else ""
    cast = next((f"::{name}{zone}" for kind, name in casts.items() if isinstance(dtype, kind)), "")
    return _postgresql(as_text + cast, dtype)


def parsed(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Read canonical texts back, as the lake stores the contract's type.

    Raises:
        polars.exceptions.PolarsError: the type cannot hold one of them.
    """
    storage = storage_dtype(dtype)
    match storage:
        case pl.Float32() | pl.Float64():
            bits = texts.replace("NaN", None).cast(pl.Int64)
            floats = pl.Series(bits.to_arrow().view(pa.float64()), dtype=pl.Float64)
            nan = pl.repeat(float("nan"), len(texts), eager=True)
            return (
                nan.zip_with((texts == "NaN").fill_null(value=False), floats).cast(storage).alias(texts.name)
            )
        case pl.Boolean():
            return texts == "t"
        case pl.Datetime():
            return texts.cast(pl.Int64).cast(storage)
        case pl.Date():
            return texts.cast(pl.Int32).cast(storage)
        case pl.Binary():
            return texts.str.decode("hex")
        case pl.List():
            inner: Any = storage.inner
            items = [
                None if t is None else parsed(pl.Series(_items(t), dtype=pl.String), inner) for t in texts
            ]
            return pl.Series(texts.name, items, dtype=storage)
        case pl.Struct(fields=fields):
            members = [None if t is None else _items(t) for t in texts]
            read = [
                parsed(pl.Series(f.name, [m and m[n] for m in members], pl.String), model_dtype(f.dtype))
                for n, f in enumerate(fields)
            ]
            told = pl.when(texts.is_not_null()).then(pl.struct(f.name for f in fields))
            return pl.DataFrame(read).select(told.alias(texts.name)).to_series()
        case pl.Decimal():
            numbers = [None if t is None else Decimal(t) for t in texts]
            held = pl.Series(texts.name, numbers, dtype=storage)
            if held.to_list() != numbers:  # polars rounds
                raise pl.exceptions.InvalidOperationError(f"{storage} has too few places")
            return held
        case _:
            return texts.cast(storage)


def _items(text: str) -> list[str | None]:
    """Take the text of a list or a struct apart."""
    found: list[str | None] = []
    at = 1
    while at < len(text) - 1:
        if text[at] == NULL:
            found.append(None)
            at += 2
            continue
        size, _, _ = text[at:].partition(":")
        begin = at + len(size) + 1
        found.append(text[begin : begin + int(size)])
        at = begin + int(size) + 1
    return found


@dataclass(frozen=True)
class Texts:
    """What is compared of a stream by canonical text, and how both sides write it."""

    keys: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]

    def of(self, values: Sequence[str], dialect: Dialect) -> list[str]:
        """Write the texts of the columns, whose values are given as SQL."""
        return [canonical(v, c.dtype, dialect) for v, c in zip(values, self.columns, strict=True)]
