"""A seeded random workload on a real PostgreSQL: transactions of several sessions that run into each other.

Decides which rows live and die: inserts, updates of a few columns, changes of key, deletes and re-inserts,
rollbacks, savepoints, truncates, ALTER TABLE between transactions. The database refuses what it refuses
(locks, keys): that statement's transaction is rolled back. What became of it all, the database says itself.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from demo.postgres import Postgres
from tests.integration.workload_types import LINES, PAGES, PEOPLE, STAY, STAYS, TEXT, THINGS, Column

_SESSIONS = 3
_LOCK_MS, _LONG_MS = 40, 60_000


@dataclass(frozen=True)
class Table:
    """A table of the workload: its key columns (few keys, so that they meet), and the others."""

    keys: Mapping[str, Column]
    columns: Mapping[str, Column]
    weight: int = 4

    @property
    def all(self) -> dict[str, Column]:
        """All columns."""
        return {**self.keys, **self.columns}


def _number(most: int) -> Column:
    return Column("int", lambda rng: rng.randrange(most), int)


TABLES = {
    "things": Table({"id": _number(60)}, THINGS, 6),
    "pages": Table({"id": _number(25)}, PAGES, 5),
    "pages_full": Table({"id": _number(25)}, PAGES, 3),
    "lines": Table({"order_id": _number(6), "line_no": Column("str", lambda r: r.choice("abc☃ "))}, LINES, 5),
    "stays": Table(STAY, STAYS, 4),
    "scratch": Table({"id": _number(30)}, {"v": TEXT}, 3),
    "people": Table({"id": Column("str", lambda rng: str(UUID(int=rng.randrange(30))))}, PEOPLE, 5),
}
# What happens to `people`, at even distances, and whether what was told before must be read before it.
ALTERS = (
    ("ALTER TABLE people ADD tier text", False),
    ("ALTER TABLE people ALTER qty TYPE bigint, ALTER weight TYPE numeric(12, 2)", False),
    ("ALTER TABLE people RENAME due TO due_on", False),
    ("ALTER TABLE people ALTER name TYPE text", False),
    ("ALTER TABLE people ALTER code TYPE integer USING code::integer", True),
    ("ALTER TABLE people DROP weight", False),
    ("ALTER TABLE people ADD joined timestamptz DEFAULT '2020-01-01Z'", False),
)


@dataclass(frozen=True)
class Marker:
    """A moment between two transactions by the database's clock, and all tables then (`told`, `typed`)."""

    at: datetime
    tables: Mapping[str, list[tuple[dict[str, Any], dict[str, Any]]]]


@dataclass
class Workload:
    """Runs transactions; `settle` waits until the connectors have read all so far."""

    postgres: Postgres
    seed: int
    settle: Callable[[], None] = lambda: None
    markers: list[Marker] = field(default_factory=list)
    committed: int = 0
    _alters: int = 0

    def __post_init__(self) -> None:
        """Open the sessions."""
        self._rng = Random(self.seed)  # noqa: S311  # made-up data
        self._sessions = [self.postgres.connect(autocommit=True) for _ in range(_SESSIONS)]
        for session in self._sessions:
            session.execute(f"SET lock_timeout = {_LOCK_MS}")
        self._left = [0] * _SESSIONS  # statements left in each open transaction
        self._names: dict[str, list[str]] = {}

    def create(self) -> None:
        """Make the tables, and some rows in one transaction."""
        self._sessions[0].execute((Path(__file__).parent / "workload.sql").read_text())
        self._learn()

    def close(self) -> None:
        """End the sessions."""
        for session in self._sessions:
            session.close()

    def run(self, transactions: int, *, alters: int = 0, truncates: int = 0) -> None:
        """Run so many transactions to their ends, and between them alter `people` and truncate so often."""
        until = self.committed + transactions
        step = transactions // (alters + 1)
        alter_at = {self.committed + step * (n + 1) for n in range(alters)}
        truncate_at = {self.committed + transactions // (truncates + 1) * (n + 1) for n in range(truncates)}
        while self.committed < until:
            if self.committed in alter_at:
                alter_at.discard(self.committed)
                self._alter()
            if self.committed in truncate_at:
                truncate_at.discard(self.committed)
                self.everything("TRUNCATE scratch")
            self.step()
        self.quiesce()

    def step(self) -> None:
        """Let one session do one thing."""
        number = self._rng.randrange(_SESSIONS)
        session = self._sessions[number]
        if not self._left[number]:
            session.execute("BEGIN")
            self._left[number] = self._rng.choice((1, 1, 2, 3, 6))
        try:
            self._statement(session)
        except psycopg.Error:
            self._end(number, "ROLLBACK")
            return
        self._left[number] -= 1
        if not self._left[number]:
            self._end(number, "ROLLBACK" if self._rng.random() < 0.1 else "COMMIT")

    def quiesce(self) -> None:
        """Commit what is open."""
        for number, left in enumerate(self._left):
            if left:
                self._end(number, "COMMIT")

    def mark(self) -> Marker:
        """Remember all tables as they are now."""
        self.quiesce()
        tables = {}
        with self.postgres.connect() as session:
            set_json_loads(exact, session)
            session.execute("SET intervalstyle = 'iso_8601'")
            for name in TABLES:
                query = f"SELECT hstore_to_json(hstore(t)), to_jsonb(t) FROM {name} t"
                tables[name] = session.execute(query).fetchall()
            (at,) = session.execute("SELECT clock_timestamp()").fetchone() or (None,)
        self.markers.append(Marker(at, tables))
        return self.markers[-1]

    def place(self) -> int:
        """Write a mark of our own into PostgreSQL's log; gives its place (LSN)."""
        told = self._sessions[0].execute("SELECT pg_logical_emit_message(true, 'sluice', '') - '0/0'::pg_lsn")
        return int((told.fetchone() or (0,))[0])

    def everything(self, statement: str) -> None:
        """Execute a statement by itself, and wait for its locks: a snapshot may hold some."""
        self.quiesce()
        self._sessions[0].execute(f"SET lock_timeout = {_LONG_MS}")
        self._sessions[0].execute(statement)
        self._sessions[0].execute(f"SET lock_timeout = {_LOCK_MS}")

    def _alter(self) -> None:
        statement, settled = ALTERS[self._alters]
        self._alters += 1
        if settled:
            self.settle()
        self.everything(statement)
        self._learn()

    def _learn(self) -> None:
        """Read which columns the tables have."""
        query = (
            "SELECT attrelid::regclass::text, attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
        )
        self._names = {name: [] for name in TABLES}
        for table, column in self._sessions[0].execute(query):
            if column in self._names.get(table, ()) or table not in TABLES:
                continue
            if column in TABLES[table].columns:
                self._names[table].append(column)

    def _end(self, number: int, how: str) -> None:
        self._left[number] = 0
        self._sessions[number].execute(how)
        self.committed += how == "COMMIT"

    def _statement(self, session: "psycopg.Connection[Any]") -> None:
        rng = self._rng
        (name,) = rng.choices(list(TABLES), [table.weight for table in TABLES.values()])
        table = TABLES[name]
        key = {column: of.make(rng) for column, of in table.keys.items()}
        chance = rng.random()
        if chance < 0.1:  # undone by itself
            session.execute("SAVEPOINT s")
            with suppress(psycopg.Error):
                self._write(session, name, table, key)
            session.execute("ROLLBACK TO SAVEPOINT s")
        elif chance < 0.22:
            _execute(session, "DELETE FROM {} WHERE " + _where(table), name, key)
        elif chance < 0.32:
            new = {f"new_{column}": of.make(rng) for column, of in table.keys.items()}
            sets = ", ".join(f"{column} = %(new_{column})s" for column in table.keys)
            more = self._values(name, 1) if rng.random() < 0.3 else {}
            sets += "".join(f", {column} = %({column})s" for column in more)
            session.execute("SAVEPOINT k")
            try:
                _execute(
                    session, f"UPDATE {{}} SET {sets} WHERE {_where(table)}", name, {**key, **new, **more}
                )
            except psycopg.errors.UniqueViolation:
                session.execute("ROLLBACK TO SAVEPOINT k")
        else:
            self._write(session, name, table, key)

    def _write(self, session: Any, name: str, table: Table, key: dict[str, Any]) -> None:
        """Insert a row, or update some columns of the one that has the key."""
        (there,) = _execute(session, "SELECT count(*) FROM {} WHERE " + _where(table), name, key).fetchone()
        count = len(self._names[name])
        values = self._values(name, self._rng.randrange(1, count + 1) if there else count)
        if there:
            sets = ", ".join(f"{column} = %({column})s" for column in values)
            _execute(session, f"UPDATE {{}} SET {sets} WHERE {_where(table)}", name, {**key, **values})
            return
        columns = [*key, *values]
        listed = f"({', '.join(columns)}) VALUES ({', '.join(f'%({c})s' for c in columns)})"
        _execute(session, f"INSERT INTO {{}} {listed} ON CONFLICT DO NOTHING", name, {**key, **values})

    def _values(self, name: str, count: int) -> dict[str, Any]:
        """Make values for some columns, nulls among them."""
        rng, columns = self._rng, TABLES[name].columns
        chosen = sorted(rng.sample(self._names[name], count))
        return {
            column: None if rng.random() < 0.15 and column != "whole" else columns[column].make(rng)
            for column in chosen
        }


def exact(text: str | bytes) -> Any:
    """Read JSON, decimals digit for digit."""
    return json.loads(text, parse_float=Decimal)


def _where(table: Table) -> str:
    return " AND ".join(f"{column} = %({column})s" for column in table.keys)


def _execute(session: Any, query: str, name: str, values: dict[str, Any]) -> Any:
    """Execute a query on a table; lists of texts are arrays of what the column has."""
    return session.execute(sql.SQL(query).format(sql.Identifier(name)), values)
