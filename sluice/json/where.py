"""Which decoded values are of a stream: the contract's `where`.

A mapping compares JSON members, by their paths, with values: a member of another type, or none, is
not equal. An expression is over the contract's columns, and for other names over members read as
String; where a column that it needs does not fit, that failure stands. Null counts as false.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from sluice.columns import Column
from sluice.contract import Where
from sluice.json.rows import Read

_TEXTS = (pl.String, pl.Enum, pl.Categorical)


def where_columns(where: Where | None, columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that must be read beside the contract's, for `where` only."""
    if where is None:
        return ()
    if isinstance(where, Mapping):
        return tuple(
            Column(f"where {path}", _dtype(value), nullable=True, path=tuple(path.split(".")))
            for path, value in where.items()
            if _column(path, value, columns) is None
        )
    names = {column.name for column in columns}
    return tuple(
        Column(name, pl.String(), nullable=True, path=(name,))
        for name in where.meta.root_names()
        if name not in names
    )


def compared(where: Mapping[str, Any], columns: Sequence[Column]) -> list[tuple[str, Any]]:
    """Give the contract's columns that a mapping compares, with the values."""
    named = ((_column(path, value, columns), value) for path, value in where.items())
    return [(name, value) for name, value in named if name is not None]


def selected(where: Where | None, columns: Sequence[Column], read: Read) -> pl.Series:
    """Say of each value whether it is of the stream; one whose `where` is in doubt is, with its failures.

    Args:
        where: the contract's.
        columns: the contract's.
        read: of the contract's columns and of `where_columns`.
    """
    if where is None:
        return pl.repeat(True, len(read.frame), dtype=pl.Boolean, eager=True)
    if isinstance(where, Mapping):
        equal = [_equal(path, value, columns, read) for path, value in where.items()]
        return pl.select(pl.all_horizontal(pl.lit(True), *equal)).to_series()
    verdict: pl.Series = read.frame.with_columns(where.fill_null(False).alias("__where"))["__where"]
    doubtful = _misfits(read, where.meta.root_names())
    result: pl.Series = verdict | doubtful
    return result


def excluded(where: Where | None, columns: Sequence[Column], read: Read) -> pl.Series:
    """Say of each value whether what it tells is not of the stream, whatever it does not tell.

    A mapping excludes by each member that is told; an expression where all that it asks for is.
    """
    if isinstance(where, Mapping):
        differ = [
            ~_equal(path, value, columns, read) & _found(path, value, columns, read).is_not_null()
            for path, value in where.items()
        ]
        return pl.select(pl.any_horizontal(pl.lit(value=False), *differ)).to_series()
    names = [] if where is None else where.meta.root_names()
    whole = read.frame.select(pl.all_horizontal(pl.lit(value=True), pl.col(names).is_not_null()))
    return whole.to_series() & ~selected(where, columns, read)


def _found(path: str, value: Any, columns: Sequence[Column], read: Read) -> pl.Series:
    return read.frame[_column(path, value, columns) or f"where {path}"]


def _equal(path: str, value: Any, columns: Sequence[Column], read: Read) -> pl.Series:
    found = _found(path, value, columns, read)
    if value is None:
        return found.is_null() & ~_misfits(read, [found.name])
    if isinstance(value, str):
        found = found.cast(pl.String)
    elif isinstance(value, float):
        found = found.cast(pl.Float64)
    equal: pl.Series = (found == value).fill_null(False)
    return equal


def _misfits(read: Read, names: Sequence[str]) -> pl.Series:
    rows = read.failures.filter(pl.col("name").is_in(list(names)))["_row"]
    places = pl.int_range(len(read.frame), dtype=pl.UInt32, eager=True)
    return places.is_in(rows.implode())


def _column(path: str, value: Any, columns: Sequence[Column]) -> str | None:
    """The contract's column that holds this member in a type that can be compared, if there is one."""
    for column in columns:
        if column.path == tuple(path.split(".")) and _comparable(column.dtype, value):
            return column.name
    return None


def _comparable(dtype: pl.DataType, value: Any) -> bool:
    match value:
        case None:
            return True
        case bool():
            return dtype == pl.Boolean
        case str():
            return isinstance(dtype, _TEXTS)
        case _:
            return dtype.is_numeric()


def _dtype(value: Any) -> pl.DataType:
    match value:
        case bool():
            return pl.Boolean()
        case int():
            return pl.Int64()
        case float():
            return pl.Float64()
        case _:
            return pl.String()
