"""The history that a database kept of itself, as the versions that a dimension must have.

Reads the workload's audit log, whose rows were written in the transactions that they tell of, with the times
at which PostgreSQL committed those. Knows nothing of Kafka, Debezium or the engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.json import set_json_loads

from tests.integration.workload import TABLES, Table, exact
from tests.integration.workload_types import Column

Row = dict[str, Any]
Key = tuple[Any, ...]
States = dict[Key, list[tuple[datetime, Row | None]]]


@dataclass(frozen=True)
class Blind:
    """A window `(begin, end]` in which nobody looked: what stood at its end is told as of `told_at`."""

    begin: datetime
    end: datetime
    told_at: datetime


_AUDIT = """
    SELECT op, was, told, typed, pg_xact_commit_timestamp(xid::xid)
    FROM audit.log WHERE tab = %s ORDER BY seq
"""


def states(session: "psycopg.Connection[Any]", name: str, *, precise: bool) -> States:
    """Give for each key when the database committed which row; None: it has no row since.

    `precise` is what the connector does with decimals: one that is not a number is then null.
    """
    set_json_loads(exact, session)
    table, found = TABLES[name], States()
    for op, was, told, typed, at in session.execute(_AUDIT, [name]):
        if op == "TRUNCATE":
            for told_states in found.values():
                told_states.append((at.astimezone(UTC), None))
            continue
        for text in (was, told):  # a change of key: a row less, then a row more
            if text and (text is told or _key(table, was) != (told and _key(table, told))):
                row = as_row(table, told, typed, precise=precise) if text is told else None
                found.setdefault(_key(table, text), []).append((at.astimezone(UTC), row))
    return found


def as_row(table: Table, told: Mapping[str, Any], typed: Mapping[str, Any], *, precise: bool) -> Row:
    """Give a stored row as the lake must have it; a column that the table lacks is null."""

    def must(name: str, column: Column) -> Any:
        text = told.get(name)
        if text is None or (precise and text == "NaN" and name == "free"):
            return None
        return column.must(typed[name] if column.typed else text)

    return {name: must(name, column) for name, column in table.all.items()}


def as_of(history: States, at: datetime) -> dict[Key, Row]:
    """Give the rows that stood at a moment."""
    rows = {}
    for key, told in history.items():
        before = [row for when, row in told if when <= at]
        if before and before[-1] is not None:
            rows[key] = before[-1]
    return rows


def versions(history: States, blind: Sequence[Blind]) -> list[Row]:
    """Give the versions of all keys, as they are told by who was blind at times.

    Of several states at one moment only the last was ever seen.
    """
    listed = []
    for told in history.values():
        of: list[Row] = []
        previous: Row | None = None
        for when, row in _seen(told, blind).items():
            if row != previous and not _both_nan(row, previous):
                if previous is not None:
                    of[-1]["valid_to"] = when
                if row is not None:
                    of.append({**row, "valid_from": when, "valid_to": None, "version": len(of) + 1})
            previous = row
        listed += of
    return listed


def _seen(told: Sequence[tuple[datetime, Row | None]], blind: Sequence[Blind]) -> dict[datetime, Row | None]:
    """Give what is seen at which moment, in order."""
    seen: dict[datetime, Row | None] = {}
    for when, row in told:
        window = next((w for w in blind if w.begin < when <= w.end), None)
        at = window.told_at if window else when
        seen = {other: state for other, state in seen.items() if other < at}  # what was told later, is not
        seen[at] = row
    return seen


def _both_nan(one: Row | None, other: Row | None) -> bool:
    """Tell whether rows differ in nothing but in that NaN is not equal to itself."""
    return one is not None and other is not None and repr(one) == repr(other)


def _key(table: Table, told: Mapping[str, Any]) -> Key:
    return tuple(column.must(told[name]) for name, column in table.keys.items())
