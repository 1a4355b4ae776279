"""Row by row: the strict decoder in plain Python, which defines what `read_columns` gives.

It is slow and right: each value is parsed, each column read from its member. Every misfit of every
column is listed; a column with a misfit is null in the frame.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from sluice.columns import Column
from sluice.contract import Json
from sluice.decoded import FAILURES_SCHEMA
from sluice.errors import NotJsonError
from sluice.json_values import Misfit, Reader, physical, reader, shown
from sluice.strict_json import parse

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
    """Read values one by one; `sluice.json_columns.read_columns` gives the same, faster."""
    readers = [(column, reader(column.dtype, options)) for column in columns]
    taken = frozenset(column.path[0] for column in columns)
    data: list[list[Any]] = [[] for _ in columns]
    failures: list[tuple[int, str, str | None, None, str, str | None]] = []
    unknown: Counter[str] = Counter()
    for row, value in enumerate(values):
        members: dict[str, Any] = {}
        if value is not None:
            try:
                members = _object(value)
            except NotJsonError as error:
                failures.append((row, "decode", None, None, str(error), None))
        unknown.update(
            ascii(name)[1:-1] if not name.isprintable() else name for name in members.keys() - taken
        )
        for (column, read), collected in zip(readers, data, strict=True):
            misfits: list[Misfit] = []
            result = _member(members, column, read, misfits)
            collected.append(None if misfits else result)
            failures += [(row, "schema", path, None, reason, column.name) for path, reason in misfits]
    series = [
        pl.Series(column.name, collected, dtype=physical(column.dtype)).cast(column.dtype)
        for column, collected in zip(columns, data, strict=True)
    ]
    return Read(
        pl.DataFrame(series), pl.DataFrame(failures, schema=READ_FAILURES, orient="row"), dict(unknown)
    )


def _object(value: bytes) -> dict[str, Any]:
    parsed = parse(value)
    if not isinstance(parsed, dict):
        raise NotJsonError(f"found {shown(parsed)}")
    return parsed


def _member(members: dict[str, Any], column: Column, read: Reader, misfits: list[Misfit]) -> Any:
    value: Any = members
    for depth, name in enumerate(column.path):
        if value is None:
            return None
        if not isinstance(value, dict):
            path = ".".join(column.path[:depth])
            misfits.append((path, f"found {shown(value)}; an object with the member {name!r} is expected"))
            return None
        value = value.get(name)
    return read(value, ".".join(column.path), misfits)
