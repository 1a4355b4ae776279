"""Rows in canonical text by DuckDB: counted and summed up over ranges of keys, or told one by one.

What a lake's files hold, and what was fetched from a source that has no such texts itself (MongoDB), goes the
same way: the SQL of a row's texts, its share in a checksum, and the range that its key falls into.
"""

# ruff: noqa: S608  # names and texts are quoted (sluice.compare.comparable)

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from resources.source_ranges import SUMS
from resources.table_sides import Side, opened
from sluice.compare.canonical import Texts, row_sum, row_text
from sluice.compare.comparable import quoted

PARTS = 16  # of a range that is cut
_SAMPLE = 200_000  # keys that ranges are chosen by
_BATCH = 500_000
_MOST_RANGES = 20_000
_HEX = "\\x"  # before bytes in hex, as PostgreSQL writes them


def shares(texts: Texts) -> str:
    """Write the SQL of a row's first key column (k) and of its share in a checksum (h)."""
    total = row_sum(row_text(_texts(texts)), "duckdb")
    return f"{quoted(texts.keys[0])} AS k, {total} AS h"


def written(texts: Texts) -> str:
    """Write the SQL of a row's canonical texts, under the columns' names."""
    named = zip(_texts(texts), texts.names, strict=True)
    return ", ".join(f"{text} AS {quoted(name)}" for text, name in named)


def _texts(texts: Texts) -> list[str]:
    return texts.of([quoted(name) for name in texts.names], "duckdb")


def summed(batches: Iterable[pl.DataFrame], bounds: Sequence[Any]) -> pl.DataFrame:
    """Count and sum up rows (of `shares`) by range (columns of SUMS); range n begins with `bounds[n - 1]`."""
    parts = [pl.DataFrame(schema=SUMS | {"sum": pl.Int128()})]
    for rows in batches:
        counted = rows.with_columns(range=placed(rows["k"], bounds)).group_by("range")
        parts.append(counted.agg(count=pl.len().cast(pl.Int64), sum=pl.col("h").cast(pl.Int128).sum()))
    every = pl.concat(parts).group_by("range").agg(pl.col("count", "sum").sum())
    return every.with_columns(pl.col("sum").cast(pl.String))


def placed(keys: pl.Series, bounds: Sequence[Any]) -> pl.Series:
    """Tell the range that each key falls into."""
    edges = pl.Series(bounds, dtype=keys.dtype)
    found = edges.search_sorted(keys, side="right") if len(edges) else pl.repeat(0, len(keys), eager=True)
    return found.cast(pl.Int64)


def key_values(connection: duckdb.DuckDBPyConnection, bounds: Sequence[str], dtype: str) -> list[Any]:
    """Read bounds as values of a type of DuckDB's."""
    query = f"SELECT {_read('b', dtype)} FROM unnest(CAST(? AS VARCHAR[])) t(b)"
    return [value for (value,) in connection.execute(query, [list(bounds)]).fetchall()]


def _read(bound: str, dtype: str) -> str:
    """Write the SQL that reads a bound as `key_text` writes it."""
    return f"unhex(substr({bound}, {len(_HEX) + 1}))" if dtype == "BLOB" else f"CAST({bound} AS {dtype})"


def key_text(value: Any) -> str:
    """Write a key as a bound, so that PostgreSQL reads it, too."""
    if isinstance(value, bytes):
        return _HEX + value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@dataclass(frozen=True)
class Range:
    """Keys from `low` on and before `high`, as texts that the database reads; None: without end."""

    low: str | None
    high: str | None

    @property
    def bounds(self) -> tuple[list[str], int]:
        """Give it as bounds, and which of the ranges between them it is."""
        return [b for b in (self.low, self.high) if b is not None], int(self.low is not None)


class LakeTexts:
    """The lake's side in canonical text."""

    def __init__(self, side: Side, texts: Texts, folder: Path) -> None:
        self._connection = opened(folder)
        self.texts = texts
        side.show(self._connection, "lake", texts.keys)
        self._key = quoted(texts.keys[0])
        self._typed = self._connection.execute(f"SELECT typeof(any_value({self._key})) FROM lake").fetchall()[
            0
        ][0]

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()

    def bounds(self, size: int) -> list[str]:
        """Choose keys, as texts, that cut the rows into ranges of about `size`."""
        rows = self._connection.execute("SELECT count(*) FROM lake").fetchall()[0][0]
        wanted = min(rows // size, _MOST_RANGES)
        sample = self._connection.sql(f"SELECT {self._key} AS k FROM lake USING SAMPLE {_SAMPLE} ROWS").pl()
        keys = sample["k"].drop_nulls().unique().sort()
        step = max(1, len(keys) // (wanted + 1))
        chosen = keys.gather_every(step, offset=step).head(wanted)
        return [key_text(value) for value in chosen.to_list()]

    def values(self, bounds: Sequence[str]) -> list[Any]:
        """Read bounds as values of the key."""
        return key_values(self._connection, bounds, self._typed)

    def sums(self, bounds: Sequence[Any], piece: "Range | None" = None) -> pl.DataFrame:
        """Count and sum up the ranges between bounds (columns range, count, sum), in one scan."""
        where, given = self._within(piece or Range(None, None))
        query = f"SELECT {shares(self.texts)} FROM lake WHERE {where}"
        reader = self._connection.sql(query, params=given).to_arrow_reader(_BATCH)
        return summed((pl.DataFrame(pl.from_arrow(batch)) for batch in reader), bounds)

    def _within(self, piece: Range) -> tuple[str, list[str]]:
        terms, values = ["true"], []
        for bound, sign in ((piece.low, ">="), (piece.high, "<")):
            if bound is not None:
                terms.append(f"{self._key} {sign} {_read('CAST(? AS VARCHAR)', self._typed)}")
                values.append(bound)
        return " AND ".join(terms), values

    def count(self, piece: Range) -> int:
        """Count the rows of a range."""
        where, values = self._within(piece)
        return int(
            self._connection.execute(f"SELECT count(*) FROM lake WHERE {where}", values).fetchall()[0][0]
        )

    def cuts(self, piece: Range) -> list[str]:
        """Give keys that cut a range into parts of about the same size."""
        where, values = self._within(piece)
        quantiles = [n / PARTS for n in range(1, PARTS)]
        query = f"SELECT quantile_disc({self._key}, {quantiles}) FROM lake WHERE {where}"
        found = self._connection.execute(query, values).fetchall()[0][0] or []
        return [key_text(value) for value in dict.fromkeys(found) if value is not None]

    def rows(self, piece: Range) -> pl.DataFrame:
        """Read the canonical texts of a range's rows."""
        where, values = self._within(piece)
        query = f"SELECT {written(self.texts)} FROM lake WHERE {where}"
        found: pl.DataFrame = self._connection.sql(query, params=values).pl()
        return found
