"""Which rows of a source are a stream's: those that the contract's `where` keeps.

What a mapping says of columns is asked of any source as SQL; an expression over columns, of tables of files
only. Members that are no columns tell records apart, of which a source knows nothing: it has these only.
Refused is what cannot be asked, unless the source says that it is `filtered` already.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from sluice.compare.comparable import text
from sluice.contract import Stream
from sluice.json.where import compared
from sluice.sources import Delta, Parquet, Postgres


def condition(stream: Stream, values: Mapping[str, str]) -> str:
    """Write the SQL of what a mapping says of columns, whose values are given as SQL."""
    if not _asked(stream) or not isinstance(stream.where, Mapping):
        return "true"
    terms = [_equal(values[name], value) for name, value in compared(stream.where, stream.columns)]
    return " AND ".join(terms) or "true"


def expression(stream: Stream) -> pl.Expr | None:
    """Give what keeps rows by the contract's columns; None: all are kept, or SQL tells which."""
    where = stream.where
    if not _asked(stream) or not isinstance(where, pl.Expr) or not _of_columns(stream, where):
        return None
    return where.fill_null(value=False)


def unasked(stream: Stream) -> str | None:
    """Tell what the source must be where it cannot be asked for the stream's rows."""
    where = stream.where
    if not _asked(stream) or not isinstance(where, pl.Expr) or not (asked := _of_columns(stream, where)):
        return None
    if len(asked) == len(where.meta.root_names()) and not isinstance(stream.source, Postgres):
        return None
    return (
        "a `where` that is a mapping, which any source can be asked for, or a source of these rows only "
        "(such as a view), which says `filtered=True`"
    )


def _asked(stream: Stream) -> bool:
    """Tell whether there is a source that is to be asked; documents are read as changes are."""
    source = stream.source
    return stream.where is not None and isinstance(source, Delta | Parquet | Postgres) and not source.filtered


def _of_columns(stream: Stream, where: pl.Expr) -> list[str]:
    names = {column.name for column in stream.columns}
    return [name for name in where.meta.root_names() if name in names]


def _equal(value: str, wanted: Any) -> str:
    match wanted:
        case None:
            return f"{value} IS NULL"
        case str():
            return f"CAST({value} AS VARCHAR) = {text(wanted)}"
        case bool():
            return f"{value} = {str(wanted).lower()}"
    return f"{value} = {wanted!r}"
