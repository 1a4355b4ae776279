"""A table of PostgreSQL as of one position: a snapshot that any number of sessions read, a marker after it.

Decides how ranges of keys are asked for: by the first key column, in the order that the lake has too, each
answer from an index where there is one. A change counts if its transaction is visible in the snapshot. The
load is bounded: so many rows a second, so many sessions. What fails is told without the address.
"""

# ruff: noqa: S608  # names come from the contract, which may say any expression

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import uuid4

import polars as pl
import psycopg

from resources.source_ranges import SUMS, Pace, in_parts
from sluice.compare.canonical import Texts, row_sum, row_text
from sluice.compare.comparable import quoted
from sluice.errors import SourceError, SourceUnreachableError
from sluice.sources import Postgres

MARK = "sluice"  # the prefix of our logical messages
_BYTEWISE = ("C", "POSIX", "C.UTF-8", "C.UTF8")  # collations that order as the lake does
_NAME = re.compile(r'[\w$."]+')  # of a table, not of a query
_PAGES = 2_000  # of a table in one query, where its keys have another order than the lake's
_BY_PAGES = 140_000  # the first version that reads some pages of a table without the others
_TRANSACTIONS = 1 << 32  # how many ids the connector's numbers tell apart


@dataclass(frozen=True)
class Visible:
    """What a snapshot sees: `xmin:xmax:running` as PostgreSQL writes it, the place of its log just before."""

    snapshot: str
    lsn: int
    oldest: datetime  # when the oldest transaction that it does not see, and ran then, began
    taken: datetime  # by the database's clock

    def sees(self, transaction: int) -> bool:
        """Tell whether a transaction, by the 32 bits of its id, is in it."""
        low, high, running = self.snapshot.split(":")
        ahead = (transaction - int(high)) % _TRANSACTIONS
        whole = int(high) + (ahead if ahead < _TRANSACTIONS // 2 else ahead - _TRANSACTIONS)
        if whole < int(low):
            return True
        return whole < int(high) and str(whole) not in running.split(",")


@dataclass
class PostgresSnapshot:
    """One snapshot of a table; made by `snapshot_of`.

    Attributes:
        source: what is read.
        texts: the columns, and how they are written.
        dsn: where the database is.
        visible: what the snapshot sees.
        name: by which other sessions import it.
        pace: of all sessions.
        parallel: how many sessions.
        kept: the SQL of which rows are the stream's.
    """

    source: Postgres
    texts: Texts
    dsn: str = field(repr=False)
    visible: Visible
    name: str
    key: str  # the SQL of the first key column, ordered as the lake orders
    key_type: str
    paced: bool  # whether ranges can be asked for one by one
    pace: Pace
    parallel: int = 1
    kept: str = "true"  # the SQL of which rows are the stream's

    def _texts(self) -> list[str]:
        values = values_of(self.source, self.texts).values()
        return [_literal(text) for text in self.texts.of(list(values), "postgresql")]

    def sums(self, bounds: Sequence[str], wanted: Sequence[int], at_once: int) -> Iterator[pl.DataFrame]:
        """Count and sum up some ranges of keys, `at_once` of them in a query."""
        if self.paced:
            yield from in_parts(partial(self.part, bounds), wanted, at_once, self.parallel)
            return
        parts = [self._summed(bounds, 0, len(bounds) + 1, pages) for pages in self._pages()]
        numbers = pl.concat(parts).with_columns(pl.col("sum").cast(pl.Int128))
        every = numbers.group_by("range").agg(pl.col("count", "sum").sum())
        yield every.with_columns(pl.col("sum").cast(pl.String)).filter(pl.col("range").is_in(list(wanted)))

    def _pages(self) -> list[str]:
        """Write conditions that cut a table by its pages; one for all of it where it cannot be cut so."""
        if not _NAME.fullmatch(self.source.table):
            return ["true"]
        found = self._fetch(
            "SELECT pg_relation_size(oid) / current_setting('block_size')::int FROM pg_class "
            "WHERE oid = to_regclass(%s) AND relkind IN ('r', 'm') "
            f"AND current_setting('server_version_num')::int >= {_BY_PAGES}",
            [self.source.table],
        )
        cuts = [f"'({page},0)'::tid" for page in range(_PAGES, int(found[0][0]) if found else 0, _PAGES)]
        if not cuts:
            return ["true"]
        between = (f"ctid >= {low} AND ctid < {high}" for low, high in pairwise(cuts))
        return [f"ctid < {cuts[0]}", *between, f"ctid >= {cuts[-1]}"]  # open: children may have more pages

    def part(self, bounds: Sequence[str], start: int, stop: int) -> pl.DataFrame:
        """Count and sum up the ranges `[start, stop)`, in one query."""
        return self._summed(bounds, start, stop)

    def _summed(self, bounds: Sequence[str], start: int, stop: int, pages: str = "true") -> pl.DataFrame:
        total = row_sum(row_text(self._texts()), "postgresql")
        where, values = self._between(bounds, start, stop)
        query = (
            f"SELECT coalesce(width_bucket({self.key}, %s::{self.key_type}[]), 0) + {start}, count(*), "
            f"sum({total})::text FROM {_literal(self.source.table)} WHERE {where} AND {pages} GROUP BY 1"
        )
        found = self._fetch(query, [list(bounds[start : stop - 1]), *values])
        rows = pl.DataFrame(found, schema=SUMS, orient="row")
        self.pace.wait(int(rows["count"].sum()))
        return rows

    def _between(self, bounds: Sequence[str], start: int, stop: int) -> tuple[str, list[str]]:
        """Write the condition for the ranges `[start, stop)`; the first one has the rows without a key."""
        terms, values = [_literal(self.kept)], []
        if start > 0:
            terms.append(f"{self.key} >= %s::{self.key_type}")
            values.append(bounds[start - 1])
        if stop <= len(bounds):
            below = f"{self.key} < %s::{self.key_type}"
            terms.append(below if start > 0 else f"({below} OR {self.key} IS NULL)")
            values.append(bounds[stop - 1])
        return " AND ".join(terms), values

    def rows(self, bounds: Sequence[str], number: int, most: int | None) -> pl.DataFrame:
        """Read the canonical texts of a range's rows, of more than `most` one more than these."""
        where, values = self._between(bounds, number, number + 1)
        query = f"SELECT {', '.join(self._texts())} FROM {_literal(self.source.table)} WHERE {where}"
        found = self._fetch(query if most is None else f"{query} LIMIT {most + 1}", values)
        self.pace.wait(len(found))
        return pl.DataFrame(found, schema=dict.fromkeys(self.texts.names, pl.String()), orient="row")

    def cuts(self, bounds: Sequence[str], number: int, parts: int) -> list[str]:
        """Give keys that cut a range into parts of about the same size."""
        where, values = self._between(bounds, number, number + 1)
        shares = ", ".join(str(n / parts) for n in range(1, parts))
        query = (
            f"SELECT percentile_disc(ARRAY[{shares}]::float8[]) WITHIN GROUP (ORDER BY {self.key})::text[] "
            f"FROM {_literal(self.source.table)} WHERE {where}"
        )
        found = self._fetch(query, values)[0][0] or []
        return list(dict.fromkeys(text for text in found if text is not None))

    def _fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with _talking(self.source), psycopg.connect(self.dsn, application_name=MARK) as session:
            session.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                session.execute(f"SET TRANSACTION SNAPSHOT '{self.name}'")
            except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):
                detail = "the session that held the snapshot was ended"
                raise SourceUnreachableError(str(self.source), detail) from None
            if not self.source.filtered:  # rows that we may not see would count as gone
                session.execute("SET LOCAL row_security = off")
            return session.execute(query.encode(), values).fetchall()


def _literal(sql: str) -> str:
    """Write SQL as a query with values wants it: a percent sign begins a value there."""
    return sql.replace("%", "%%")


def values_of(source: Postgres, texts: Texts) -> dict[str, str]:
    """Give the SQL of the columns' values, by name."""
    return {c.name: f"({source.columns[c.name]})" if c.name in source.columns else quoted(c.path[0])
            for c in texts.columns}  # fmt: skip


@contextmanager
def snapshot_of(
    source: Postgres,
    texts: Texts,
    dsn: str,
    *,
    kept: str = "true",
    rows_per_second: int | None = None,
    parallel: int = 1,
) -> Iterator[PostgresSnapshot]:
    """Hold a snapshot of a table, or of the rows of it that `kept` (SQL) keeps, while the block runs.

    Raises:
        SourceError: the table or a column is not there, or may not be read.
        SourceUnreachableError: the database does not answer.
    """
    with _talking(source), psycopg.connect(dsn, application_name=MARK, autocommit=True) as session:
        session.execute("SET idle_in_transaction_session_timeout = 0")  # others read, this one waits
        lsn = session.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        session.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        told = session.execute(
            "SELECT pg_export_snapshot(), pg_current_snapshot()::text, least(now(), "
            "(SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL), "
            "(SELECT min(prepared) FROM pg_prepared_xacts)), clock_timestamp()"
        ).fetchone()
        if lsn is None or told is None:  # a query without a table has one row
            raise SourceError(str(source), "no answer", "try again")
        key, key_type, paced = _key(session, source, texts)
        yield PostgresSnapshot(
            source=source,
            texts=texts,
            dsn=dsn,
            visible=Visible(told[1], int(lsn[0]), told[2], told[3]),
            name=told[0],
            key=_literal(key),
            key_type=key_type,
            paced=paced,
            pace=Pace(rows_per_second),
            parallel=parallel,
            kept=kept,
        )


def _key(session: "psycopg.Connection[Any]", source: Postgres, texts: Texts) -> tuple[str, str, bool]:
    """Give the first key column in the lake's order, as SQL, its type, and whether an index may serve it."""
    column = next(c for c in texts.columns if c.name == texts.keys[0])
    value = f"({source.columns[column.name]})" if column.name in source.columns else quoted(column.path[0])
    table = f"FROM (SELECT) one LEFT JOIN {source.table} ON false"
    typed = session.execute(f"SELECT pg_typeof({value})::text {table}".encode()).fetchone()
    name = str(typed[0]) if typed else "text"
    if name == "uuid" or not isinstance(column.dtype, pl.String | pl.Enum | pl.Categorical):
        return value, name, True
    if name in ("text", "character varying"):
        default = "(SELECT datcollate FROM pg_database WHERE datname = current_database())"
        found = session.execute(f"SELECT pg_collation_for({value}), {default} {table}".encode()).fetchone()
        collation, of_database = found or (None, None)
        used = of_database if collation in (None, '"default"') else str(collation).strip('"')
        if str(used).upper() in _BYTEWISE:
            return value, "text", True
    return f'({value})::text COLLATE "C"', "text", False


def emit_marker(source: Postgres, dsn: str) -> tuple[str, int]:
    """Write a logical message into the database's log; give its content, and its place."""
    content = uuid4().hex
    with _talking(source), psycopg.connect(dsn, application_name=MARK, autocommit=True) as session:
        query = "SELECT pg_logical_emit_message(false, %s, %s) - '0/0'"
        found = session.execute(query, [MARK, content]).fetchone()
        if found is None:  # a query without a table has one row
            raise SourceError(str(source), "no answer", "try again")
        return content, int(found[0])


def is_marker(value: bytes | None, content: str) -> bool:
    """Tell whether a record of the connector's messages is our marker; its content comes as base64."""
    if value is None or MARK.encode() not in value:
        return False
    try:
        body: Any = json.loads(value)
    except ValueError:
        return False
    payload = body.get("payload", body) if isinstance(body, dict) else {}
    message = (payload or {}).get("message") if isinstance(payload, Mapping) else None
    return isinstance(message, dict) and message.get("content") in (
        content,
        base64.b64encode(content.encode()).decode(),
    )


@contextmanager
def _talking(source: Postgres) -> Iterator[None]:
    """Turn the driver's failures into ours; what they say has no address in it."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise SourceUnreachableError(str(source), type(error).__name__) from None
    except psycopg.Error as error:
        detail = str(error.diag.message_primary or type(error).__name__)
        raise SourceError(str(source), detail, "correct `source`, or grant what is missing") from None
