"""A lake's side in files held against a database's table: checksums of canonical text over ranges of keys.

The lake proposes the ranges; both sides count and sum them up where their data is. Only ranges that differ
are cut again, by whichever side has more there, and only their last pieces are read, row by row.
"""

# ruff: noqa: S608  # names and texts are quoted (sluice.compare.comparable)

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from resources.source_postgres import PostgresSnapshot
from resources.table_sides import Side, opened
from sluice.compare.canonical import Texts, parsed, row_sum, row_text
from sluice.compare.comparable import quoted
from sluice.compare.compared import DIFFERENT, EXTRA, MISSING, Compared

RANGE = 10_000  # rows of a range at first
_AT_ONCE = 10  # ranges in a query
_FEW = 2_000  # rows of a range that are compared one by one
_PARTS = 16  # of a range that is cut
_SAMPLE = 200_000  # keys that ranges are chosen by
_BATCH = 500_000
_MOST_RANGES = 20_000
_KEEP_SECONDS = 10.0  # between two notes of what is equal


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

    def _texts(self) -> list[str]:
        return self.texts.of([quoted(name) for name in self.texts.names], "duckdb")

    def bounds(self, size: int) -> list[str]:
        """Choose keys, as texts, that cut the rows into ranges of about `size`."""
        rows = self._connection.execute("SELECT count(*) FROM lake").fetchall()[0][0]
        wanted = min(rows // size, _MOST_RANGES)
        sample = self._connection.sql(f"SELECT {self._key} AS k FROM lake USING SAMPLE {_SAMPLE} ROWS").pl()
        keys = sample["k"].drop_nulls().unique().sort()
        step = max(1, len(keys) // (wanted + 1))
        chosen = keys.gather_every(step, offset=step).head(wanted)
        return [self._text(value) for value in chosen.to_list()]

    def values(self, bounds: Sequence[str]) -> list[Any]:
        """Read bounds as values of the key."""
        query = f"SELECT CAST(b AS {self._typed}) FROM unnest(CAST(? AS VARCHAR[])) t(b)"
        return [value for (value,) in self._connection.execute(query, [list(bounds)]).fetchall()]

    @staticmethod
    def _text(value: Any) -> str:
        return value.isoformat() if hasattr(value, "isoformat") else str(value)

    def sums(self, bounds: Sequence[Any], piece: "Range | None" = None) -> pl.DataFrame:
        """Count and sum up the ranges between bounds (columns range, count, sum), in one scan."""
        total = row_sum(row_text(self._texts()), "duckdb")
        where, given = self._within(piece or Range(None, None))
        query = f"SELECT {self._key} AS k, {total} AS h FROM lake WHERE {where}"
        reader = self._connection.sql(query, params=given).to_arrow_reader(_BATCH)
        schema = {"range": pl.Int64, "count": pl.Int64, "sum": pl.Int128}
        parts = [pl.DataFrame(schema=schema)]
        for batch in reader:
            frame = pl.DataFrame(pl.from_arrow(batch))
            edges = pl.Series(bounds, dtype=frame.schema["k"])
            place = (
                edges.search_sorted(frame["k"], side="right")
                if len(edges)
                else pl.repeat(0, frame.height, eager=True)
            )
            counted = frame.with_columns(range=place.cast(pl.Int64)).group_by("range")
            parts.append(counted.agg(count=pl.len().cast(pl.Int64), sum=pl.col("h").cast(pl.Int128).sum()))
        every = pl.concat(parts).group_by("range").agg(pl.col("count", "sum").sum())
        return every.with_columns(pl.col("sum").cast(pl.String))

    def _within(self, piece: Range) -> tuple[str, list[str]]:
        terms, values = ["true"], []
        for bound, sign in ((piece.low, ">="), (piece.high, "<")):
            if bound is not None:
                terms.append(f"{self._key} {sign} CAST(? AS {self._typed})")
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
        shares = [n / _PARTS for n in range(1, _PARTS)]
        query = f"SELECT quantile_disc({self._key}, {shares}) FROM lake WHERE {where}"
        found = self._connection.execute(query, values).fetchall()[0][0] or []
        return [self._text(value) for value in dict.fromkeys(found) if value is not None]

    def rows(self, piece: Range) -> pl.DataFrame:
        """Read the canonical texts of a range's rows."""
        where, values = self._within(piece)
        names = zip(self._texts(), self.texts.names, strict=True)
        told = ", ".join(f"{text} AS {quoted(name)}" for text, name in names)
        found: pl.DataFrame = self._connection.sql(
            f"SELECT {told} FROM lake WHERE {where}", params=values
        ).pl()
        return found


@dataclass
class Progress:
    """Which ranges were found equal: kept now and then, so that who was stopped can go on."""

    bounds: list[str] | None = None
    equal: set[int] = field(default_factory=set)
    kept: Callable[[list[str], list[int]], None] = lambda _bounds, _equal: None


def differing(
    lake: LakeTexts, source: PostgresSnapshot, progress: Progress, say: Callable[[str], None]
) -> tuple[list[Range], Compared]:
    """Give the ranges whose checksums differ, and the counts; those known to be equal are not asked for."""
    bounds = lake.bounds(RANGE) if progress.bounds is None else progress.bounds
    sums = lake.sums(lake.values(bounds))
    known = pl.col("range").is_in(list(progress.equal))
    here, before = sums.filter(~known), int(sums.filter(known)["count"].sum())
    wanted = [n for n in range(len(bounds) + 1) if n not in progress.equal]
    schema = {"range": pl.Int64, "count": pl.Int64, "sum": pl.String}
    parts, unkept, looked = [pl.DataFrame(schema=schema)], [pl.DataFrame(schema=schema)], time.monotonic()
    for part in source.sums(bounds, wanted, _AT_ONCE):
        parts.append(part)
        unkept.append(part)
        say(f"{source.source}: {before + sum(p['count'].sum() for p in parts)} rows summed up")
        if time.monotonic() - looked > _KEEP_SECONDS:
            equal = pl.concat(unkept).join(here, on=["range", "count", "sum"], how="semi")
            progress.kept(bounds, equal["range"].to_list())
            unkept, looked = unkept[:1], time.monotonic()
    there = pl.concat(parts)
    both = here.join(there, on="range", how="full", coalesce=True, suffix="_source")
    ends: list[str | None] = [None, *bounds, None]
    ranges = [Range(ends[n], ends[n + 1]) for n in _unlike(both)]
    rows = int(here["count"].sum()) + before, int(there["count"].sum()) + before
    return ranges, Compared(both.height + len(progress.equal), len(ranges), *rows)


def rows_of(
    lake: LakeTexts, source: PostgresSnapshot, ranges: Sequence[Range], most: int
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Compare ranges down to the row; give `most` differences, and how many there are of each kind."""
    listed: list[pl.DataFrame] = []
    counts = {MISSING: 0, EXTRA: 0, DIFFERENT: 0}
    waiting = list(reversed(ranges))
    while waiting:
        piece = waiting.pop()
        rows = source.rows(*piece.bounds, _FEW) if lake.count(piece) <= _FEW else None
        if rows is None or rows.height > _FEW:
            cuts = lake.cuts(piece) if rows is None else source.cuts(*piece.bounds, _PARTS)
            inside = [cut for cut in cuts if cut not in (piece.low, piece.high)]
            if inside:
                waiting += reversed(_unequal(lake, source, [piece.low, *inside, piece.high]))
                continue
            rows = source.rows(*piece.bounds, None)  # one value of the first key column has them all
        found = _differences(lake.rows(piece), rows, lake.texts)
        for kind in counts:
            counts[kind] += found.filter(pl.col("kind") == kind).height
        if sum(part.height for part in listed) < most:
            listed.append(found)
    nothing = pl.DataFrame(schema=dict.fromkeys(lake.texts.names, pl.String()))
    listed.append(_differences(nothing, nothing, lake.texts))
    return pl.concat(listed).head(most), counts


def _unequal(lake: LakeTexts, source: PostgresSnapshot, ends: Sequence[str | None]) -> list[Range]:
    """Give the pieces between ends whose checksums differ."""
    pieces = [Range(low, high) for low, high in pairwise(ends)]
    bounds = [end for end in ends if end is not None]
    first = int(ends[0] is not None)
    there = source.part(bounds, first, first + len(pieces))
    here = lake.sums(lake.values(bounds), Range(ends[0], ends[-1]))
    both = here.join(there, on="range", how="full", coalesce=True, suffix="_source")
    return [pieces[n - first] for n in _unlike(both)]


def _unlike(both: pl.DataFrame) -> list[int]:
    """Give the ranges whose counts or sums differ."""
    differ = pl.struct("count", "sum").ne_missing(pl.struct(count="count_source", sum="sum_source"))
    return both.filter(differ)["range"].sort().to_list()


def _differences(lake: pl.DataFrame, source: pl.DataFrame, texts: Texts) -> pl.DataFrame:
    """Pair rows by key and tell those that differ, with their values as the lake stores them."""
    keys, values = list(texts.keys), [n for n in texts.names if n not in texts.keys]
    marked = [side.with_columns(there=pl.lit(value=True)) for side in (lake, source)]
    both = marked[0].join(marked[1], on=keys, how="full", coalesce=True, suffix="_source", nulls_equal=True)
    lacks_lake, lacks_source = pl.col("there").is_null(), pl.col("there_source").is_null()
    columns = [pl.when(pl.col(n).ne_missing(pl.col(f"{n}_source"))).then(pl.lit(n)) for n in values]
    none = pl.lit([], pl.List(pl.String))
    told = both.select(
        *both.columns,
        kind=pl.when(lacks_lake)
        .then(pl.lit(MISSING))
        .when(lacks_source)
        .then(pl.lit(EXTRA))
        .otherwise(pl.lit(DIFFERENT)),
        columns=pl.when(~lacks_lake & ~lacks_source)
        .then(pl.concat_list(columns).list.drop_nulls() if columns else none)
        .otherwise(none),
    ).filter((pl.col("kind") != DIFFERENT) | (pl.col("columns").list.len() > 0))
    typed = [parsed(told[c.name], c.dtype).alias(c.name) for c in texts.columns]
    there = [
        parsed(told[c.name + "_source"], c.dtype).alias(c.name) for c in texts.columns if c.name in values
    ]
    here = pl.DataFrame(typed)
    other = pl.DataFrame([here[k] for k in keys] + there).select(texts.names)
    return pl.DataFrame(
        [
            *(here[k] for k in keys),
            told["kind"],
            told["columns"],
            here.select(
                pl.when(told["kind"] != MISSING).then(pl.struct(texts.names)).alias("lake")
            ).to_series(),
            other.select(
                pl.when(told["kind"] != EXTRA).then(pl.struct(texts.names)).alias("source")
            ).to_series(),
        ]
    )
