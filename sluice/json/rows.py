"""Row by row: the strict decoder in plain Python, which defines what `read_columns` gives.

It is slow and right: each value is parsed, each column read from its member. Every misfit of every
column is listed; a column with a misfit is null in the frame.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from sluice.columns import Column
from sluice.contract import Json
from sluice.decoded import FAILURES_SCHEMA
from sluice.errors import NotJsonError
from sluice.json.strict import parse
from sluice.json.values import Misfit, Reader, physical, printable, reader, shown

READ_FAILURES: dict[str, pl.DataType] = FAILURES_SCHEMA | {"name": pl.String()}


@dataclass(frozen=True)
class Read:
    """What a series of values says.

    Attributes:
        frame: one row for each value, in order; the columns in their contract types. A column that
            did not fit, and every column of a value that is null or no object, is null.
        failures: FAILURES_SCHEMA, `_row` being the place in the series, and `name`, the column's name
            (null at stage `decode`). Ordered by row, then as the columns are. Stages decode and schema;
            nulls are not judged.
        unknown: how many values have a member that no column takes, by its name.
    """

    frame: pl.DataFrame
    failures: pl.DataFrame
    unknown: dict[str, int]


def read_rows(values: Iterable[bytes | None], columns: Sequence[Column], options: Json) -> Read:
    """Read values one by one; `sluice.json.columns.read_columns` gives the same, faster."""
    readers = [
        (column, ".".join(column.path), reader(column.dtype, options), collected)
        for column in columns
        for collected in [list[Any]()]
    ]
    taken = frozenset(column.path[0] for column in columns)
    failures: list[tuple[int, str, str | None, None, str, str | None]] = []
    unknown: Counter[str] = Counter()
    for row, value in enumerate(values):
        try:
            members = None if value is None else _object(value)
        except NotJsonError as error:
            failures.append((row, "decode", None, None, str(error), None))
            members = None
        if members is None:
            for *_, collected in readers:
                collected.append(None)
            continue
        if members.keys() - taken:
            unknown.update(map(printable, members.keys() - taken))
        for column, path, read, collected in readers:
            misfits: list[Misfit] = []
            result = _member(members, column, path, read, misfits)
            collected.append(None if misfits else result)
            for place, reason in misfits:
                failures.append((row, "schema", place, None, reason, column.name))
    series = [series_of(column, collected) for column, *_, collected in readers]
    return Read(
        pl.DataFrame(series), pl.DataFrame(failures, schema=READ_FAILURES, orient="row"), dict(unknown)
    )


def series_of(column: Column, values: list[Any]) -> pl.Series:
    """Give values as read (`sluice.json.values.physical`) as a series of the column's type."""
    collected = physical(column.dtype)
    if column.dtype.is_nested():  # Arrow builds these much faster
        arrow = pa.array(values, pl.Series([], dtype=collected).to_arrow().type)
        return pl.Series(column.name, pl.from_arrow(arrow)).cast(column.dtype)
    return pl.Series(column.name, values, dtype=collected).cast(column.dtype)


def _object(value: bytes) -> dict[str, Any]:
    parsed = parse(value)
    if not isinstance(parsed, dict):
        raise NotJsonError(f"found {shown(parsed)}")
    return parsed


def _member(members: dict[str, Any], column: Column, path: str, read: Reader, misfits: list[Misfit]) -> Any:
    value: Any = members
    for depth, name in enumerate(column.path):
        if value is None:
            return None
        if not isinstance(value, dict):
            reason = f"found {shown(value)}; an object with the member {name!r} is expected"
            misfits.append((".".join(column.path[:depth]), reason))
            return None
        value = value.get(name)
    return None if value is None else read(value, path, misfits)
