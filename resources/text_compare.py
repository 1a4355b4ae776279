"""A lake's side in files held against a database's table: checksums of canonical text over ranges of keys.

The lake proposes the ranges; both sides count and sum them up where their data is. Only ranges that differ
are cut again, by whichever side has more there, and only their last pieces are read, row by row.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl

from resources.lake_texts import PARTS, LakeTexts, Range
from resources.source_ranges import SUMS, Ranged
from sluice.columns import Column
from sluice.compare.canonical import Texts, parsed
from sluice.compare.compared import DIFFERENT, EXTRA, MISSING, Compared
from sluice.errors import SourceError

RANGE = 10_000  # rows of a range at first
_AT_ONCE = 10  # ranges in a query
_FEW = 2_000  # rows of a range that are compared one by one
_KEEP_SECONDS = 10.0  # between two notes of what is equal


@dataclass
class Progress:
    """Which ranges were found equal: kept now and then, so that who was stopped can go on."""

    bounds: list[str] | None = None
    equal: set[int] = field(default_factory=set)
    kept: Callable[[list[str], list[int]], None] = lambda _bounds, _equal: None


def differing(
    lake: LakeTexts, source: Ranged, progress: Progress, say: Callable[[str], None]
) -> tuple[list[Range], Compared]:
    """Give the ranges whose checksums differ, and the counts; those known to be equal are not asked for."""
    bounds = lake.bounds(RANGE) if progress.bounds is None else progress.bounds
    sums = lake.sums(lake.values(bounds))
    known = pl.col("range").is_in(list(progress.equal))
    here, before = sums.filter(~known), int(sums.filter(known)["count"].sum())
    wanted = [n for n in range(len(bounds) + 1) if n not in progress.equal]
    parts, unkept, looked = [pl.DataFrame(schema=SUMS)], [pl.DataFrame(schema=SUMS)], time.monotonic()
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
    lake: LakeTexts, source: Ranged, ranges: Sequence[Range], most: int
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Compare ranges down to the row; give `most` differences, and how many there are of each kind.

    Raises:
        SourceError: the source has a value that its column of the lake cannot hold.
    """
    listed: list[pl.DataFrame] = []
    counts = {MISSING: 0, EXTRA: 0, DIFFERENT: 0}
    waiting = list(reversed(ranges))
    while waiting:
        piece = waiting.pop()
        rows = source.rows(*piece.bounds, _FEW) if lake.count(piece) <= _FEW else None
        if rows is None or rows.height > _FEW:
            cuts = lake.cuts(piece) if rows is None else source.cuts(*piece.bounds, PARTS)
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


def _unequal(lake: LakeTexts, source: Ranged, ends: Sequence[str | None]) -> list[Range]:
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
    typed = [_read(told[c.name], c) for c in texts.columns]
    there = [_read(told[c.name + "_source"], c) for c in texts.columns if c.name in values]
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


def _read(texts: pl.Series, column: Column) -> pl.Series:
    """Read texts back; a source may have what the lake's column cannot hold, and its change was refused."""
    try:
        return parsed(texts, column.dtype).alias(column.name)
    except pl.exceptions.PolarsError:
        found = "a value" if column.pii else next(t for t in texts.drop_nulls() if not _fits(t, column))
        told = f"it has {found}, which {column.dtype} cannot hold"
        raise SourceError(f"of column {column.name!r}", told, "give the column a wider type") from None


def _fits(text: str, column: Column) -> bool:
    try:
        parsed(pl.Series([text]), column.dtype)
    except pl.exceptions.PolarsError:
        return False
    return True
