"""Two sides of files held together in DuckDB: which rows differ, found by checksums, each side read once.

Keys are hashed into a grid: its rows are ranges of the hash's first bits, its columns ranges of the bits
after them, and each has a count and the sum of its rows' hashes. A row that differs shows in one row and in
one column of the grid, so only what lies where they cross is looked at: the key columns once more, then the
few rows in doubt, at their place in their file. Where much differs, all rows of the ranges that differ are
compared by their hashes, with the connection's memory as the bound. Hashes are DuckDB's: they are compared
within one process and never kept.
"""

# ruff: noqa: S608  # names and texts are quoted (sluice.compare.comparable)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from resources.table_sides import Side, opened
from sluice.compare.comparable import Type, alike, quoted, text
from sluice.compare.compared import DIFFERENT, EXTRA, MISSING, Compared

_BITS = 14  # of the hash, for the rows of the grid, and as many for its columns
_CELLS = 1 << _BITS
_FEW = 200_000  # rows in doubt that are read at their places
_ROW = f"(_k >> {64 - _BITS})"
_COLUMN = f"((_k >> {64 - 2 * _BITS}) & {_CELLS - 1})"


def compare(
    lake: Side,
    source: Side,
    keys: Sequence[str],
    *,
    folder: Path,
    memory: str = "1500MB",
    threads: int | None = None,
    most: int = 10_000,
) -> Compared:
    """Compare two sides, whose `names` are the same columns; list at most `most` rows that differ.

    A key that a side has more than once differs, unless the other has the same rows as often. `folder` holds
    what does not fit into `memory`.
    """
    with opened(folder, memory, threads) as connection:
        return _Comparison(connection, (lake, source), list(keys), most).run()


@dataclass
class _Comparison:
    connection: duckdb.DuckDBPyConnection
    sides: tuple[Side, Side]
    keys: list[str]
    most: int

    def __post_init__(self) -> None:
        self.values = [name for name in self.sides[0].names if name not in self.keys]
        for number, side in enumerate(self.sides):
            side.show(self.connection, f"side_{number}", self.keys)
        types = [self._types(f"side_{number}") for number in (0, 1)]
        names = [*self.keys, *self.values]
        both = alike(types[0], types[1], [(name, name) for name in names])
        self.alike = [dict(zip(names, expressions, strict=True)) for expressions in both]

    def _types(self, relation: str) -> dict[str, Type]:
        told = self.connection.sql(f"FROM {relation}")
        return dict(zip(told.columns, told.types, strict=True))

    def run(self) -> Compared:
        """Compare."""
        grids = [self._grid(number) for number in (0, 1)]
        both = grids[0].join(grids[1], on=["axis", "place"], how="full", coalesce=True, suffix="_source")
        differ = both.filter(
            pl.col("count").ne_missing(pl.col("count_source"))
            | pl.col("sum").ne_missing(pl.col("sum_source"))
        )
        rows, columns = (
            differ.filter(pl.col("axis") == axis)["place"].to_list() for axis in ("row", "column")
        )
        totals = [grid.filter(pl.col("axis") == "row")["count"].sum() for grid in grids]
        ranges = both.filter(pl.col("axis") == "row").height
        outcome = Compared(ranges, len(rows), int(totals[0]), int(totals[1]))
        return self._bisected(outcome, rows, columns) if rows else outcome

    def _hashed(self, number: int, names: Sequence[str], *, extra: str = "") -> str:
        told = self.alike[number]
        keys = ", ".join(told[k] for k in self.keys)
        every = ", ".join(told[n] for n in [*self.keys, *self.values])
        columns = {"k": f"hash({keys}) AS _k", "h": f"hash({every}) AS _h"}
        return f"SELECT {', '.join(columns[n] for n in names)}{extra} FROM side_{number}"

    def _grid(self, number: int) -> pl.DataFrame:
        """Count and sum up a side, by rows and by columns of the grid, in one scan."""
        found = self.connection.execute(
            f"WITH hashed AS ({self._hashed(number, 'kh')}) "
            f"SELECT {_ROW} AS r, {_COLUMN} AS c, count(*), sum(_h)::VARCHAR "
            "FROM hashed GROUP BY GROUPING SETS ((1), (2))"
        ).fetchall()
        told = [
            ("row" if c is None else "column", r if c is None else c, count, total)
            for r, c, count, total in found
        ]
        schema = {"axis": pl.String, "place": pl.Int64, "count": pl.Int64, "sum": pl.String}
        return pl.DataFrame(told, schema=schema, orient="row")

    def _bisected(self, outcome: Compared, rows: list[int], columns: list[int]) -> Compared:
        """Look at what lies where the rows and the columns that differ cross."""
        for name, places in (("cell_rows", rows), ("cell_columns", columns)):
            self.connection.register(
                name, pl.DataFrame({"place": places}, schema={"place": pl.UInt64}).to_arrow()
            )
        for number in (0, 1):
            self._doubtful(number)
        keys = ", ".join(f"k{i}" for i in range(len(self.keys)))
        gathered = f"SELECT {keys}, count(*) AS n, sum(_h) AS h, any_value(_file) AS f, any_value(_at) AS a"
        same = " AND ".join(f"l.k{i} IS NOT DISTINCT FROM s.k{i}" for i in range(len(self.keys)))
        self.connection.execute(
            "CREATE TEMP TABLE found AS SELECT "
            f"CASE WHEN l.n IS NULL THEN '{MISSING}' WHEN s.n IS NULL THEN '{EXTRA}' "
            f"ELSE '{DIFFERENT}' END AS kind, "
            f"{', '.join(f'coalesce(l.k{i}, s.k{i}) AS k{i}' for i in range(len(self.keys)))}, "
            "l.f AS f0, l.a AS a0, s.f AS f1, s.a AS a1 "
            f"FROM ({gathered} FROM doubtful_0 GROUP BY ALL) l "
            f"FULL JOIN ({gathered} FROM doubtful_1 GROUP BY ALL) s "
            f"ON {same} WHERE l.n IS DISTINCT FROM s.n OR l.h IS DISTINCT FROM s.h"
        )
        counts = dict(self.connection.execute("SELECT kind, count(*) FROM found GROUP BY 1").fetchall())
        missing, extra, different = (int(counts.get(kind, 0)) for kind in (MISSING, EXTRA, DIFFERENT))
        listed_all = missing + extra + different <= self.most
        return Compared(
            outcome.ranges,
            outcome.differing,
            outcome.lake_rows,
            outcome.source_rows,
            missing,
            extra,
            different,
            self._listed(keys),
            listed_all,
        )

    def _doubtful(self, number: int) -> None:
        """Gather a side's rows in doubt: their keys, hashes and places."""
        crossing = (
            f"{_ROW} IN (SELECT place FROM cell_rows) AND {_COLUMN} IN (SELECT place FROM cell_columns)"
        )
        keys = "".join(f", {self.alike[number][k]} AS k{i}" for i, k in enumerate(self.keys))
        self.connection.execute(
            f"CREATE TEMP TABLE places_{number} AS SELECT _file, _at FROM "
            f"({self._hashed(number, 'k', extra=', _file, _at')}) WHERE {crossing}"
        )
        count = self.connection.execute(f"SELECT count(*) FROM places_{number}").fetchall()[0][0]
        wanted = self._hashed(number, "kh", extra=f"{keys}, _file, _at")
        if count > _FEW:
            kept = f"SELECT * FROM ({wanted}) WHERE {crossing}"
            self.connection.execute(f"CREATE TEMP TABLE doubtful_{number} AS {kept}")
            return
        self.connection.execute(f"CREATE TEMP TABLE doubtful_{number} AS {wanted} WHERE false")
        for at in self._at(f"SELECT _file, _at FROM places_{number}"):
            self.connection.execute(f"INSERT INTO doubtful_{number} {wanted} WHERE {at}")

    def _at(self, places: str) -> Iterator[str]:
        """Give conditions that name rows by their places, a file each: others are then not opened."""
        query = f"SELECT _file, list(_at ORDER BY _at) FROM ({places}) WHERE _at IS NOT NULL GROUP BY 1"
        for file, numbers in self.connection.execute(query).fetchall():
            named = "_file IS NULL" if file is None else f"_file = {text(file)}"
            yield f"{named} AND _at IN ({', '.join(map(str, numbers))})"

    def _listed(self, keys: str) -> pl.DataFrame:
        """Read the rows that differ, as many as are listed, with all columns of both sides."""
        self.connection.execute(
            f"CREATE TEMP TABLE listed AS SELECT row_number() OVER () AS id, * FROM "
            f"(SELECT * FROM found ORDER BY {keys} LIMIT {self.most})"
        )
        names = [*self.keys, *self.values]
        for number in (0, 1):
            raw = ", ".join(quoted(name) for name in names)
            held = ", ".join(f"{self.alike[number][name]} AS v{i}" for i, name in enumerate(names))
            packed = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in names)
            own = f"SELECT _file, _at, {raw} FROM side_{number}"
            query = f"SELECT _file, _at, {held}, struct_pack({packed}) AS told FROM ({own})"
            self.connection.execute(f"CREATE TEMP TABLE rows_{number} AS {query} WHERE false")
            for at in self._at(f"SELECT f{number} AS _file, a{number} AS _at FROM listed"):
                self.connection.execute(f"INSERT INTO rows_{number} {query} WHERE {at}")
        differs = ", ".join(
            f"CASE WHEN l.v{i} IS DISTINCT FROM s.v{i} THEN {text(name)} END" for i, name in enumerate(names)
        )
        own = ", ".join(
            f"coalesce(struct_extract(l.told, {text(k)}), struct_extract(s.told, {text(k)})) AS {quoted(k)}"
            for k in self.keys
        )
        place = "ON listed.f{0} IS NOT DISTINCT FROM {1}._file AND listed.a{0} = {1}._at"
        found: pl.DataFrame = self.connection.sql(
            f"SELECT {own}, kind, CASE WHEN kind = '{DIFFERENT}' THEN "
            f"list_filter([{differs}], lambda x: x IS NOT NULL) ELSE [] END AS columns, "
            f"l.told AS lake, s.told AS source FROM listed "
            f"LEFT JOIN rows_0 l {place.format(0, 'l')} "
            f"LEFT JOIN rows_1 s {place.format(1, 's')} ORDER BY listed.id"
        ).pl()
        return found
