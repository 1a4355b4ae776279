"""The data files of a table that a column partitions, or none: which there are, what they hold, and new ones.

New files are seen by no reader until `Lake.commit` names them, so a table can be rewritten file by file, in
bounded memory, and change in one commit. It decides nothing about rows; how a file looks is decided in
`resources.new_files`. What a run that died has written, clean-up finds.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.schema import Schema as DeltaSchema
from deltalake.transaction import RemoveAction

from resources.new_files import NewFile, stored_schema, write_files
from resources.outages import reading

if TYPE_CHECKING:
    from resources.lake import Lake

FILE: dict[str, pl.DataType] = {"path": pl.String(), "size": pl.Int64(), "rows": pl.Int64()}  # null: not told
Value = int | date | str
_NEAR = 65_536  # rows are looked for in ranges that are not longer
_PIECE = 262_144  # rows of a file that are in memory at a time: a row group, as polars writes them


class DataFiles:
    """The files of one version of a table; the partition column holds whole numbers, dates or text.

    Where there is none its name is empty, and each `value` null.
    """

    def __init__(self, lake: "Lake", handle: DeltaTable) -> None:
        self._lake, self._handle = lake, handle
        self.column = next(iter(handle.metadata().partition_columns), "")
        self._root = lake.path(handle.metadata().name)
        self._options = reading(lake.storage_options, lake.patience_seconds)

    @cached_property
    def schema(self) -> pl.Schema:
        """The columns that a file of today has: all but the partition's."""
        schema = self._lake.scan(self._handle).collect_schema()
        return pl.Schema({name: dtype for name, dtype in schema.items() if name != self.column})

    @cached_property
    def _value(self) -> pl.DataType:
        return stored_schema(self._handle).get(self.column, pl.String())

    def listed(self, told: Collection[str] = ()) -> pl.DataFrame:
        """List the files: `FILE`, the partition's `value`, and what the log tells of columns, whole numbers.

        Where the log tells nothing there is null. `told` names statistics as delta-rs does:
        `null_count.valid_to`, `min._partition`.
        """
        files = pl.DataFrame(self._handle.get_add_actions(flatten=True))
        if not files.height:
            return pl.DataFrame(schema={**FILE, "value": self._value, **dict.fromkeys(told, pl.Int64())})
        names = {"path": "path", "size": "size_bytes", "rows": "num_records"} | {name: name for name in told}
        told_of = {n: pl.col(m) if m in files.columns else pl.lit(None) for n, m in names.items()}
        value = pl.col(f"partition.{self.column}") if self.column else pl.lit(None)
        own = value.cast(self._value).alias("value")
        return files.select(own, *(e.cast(FILE.get(n, pl.Int64())).alias(n) for n, e in told_of.items()))

    def holding(self, rows: pl.DataFrame, at: Sequence[str]) -> pl.DataFrame:
        """List the files that may hold one of some rows, by their partition and what the log tells.

        Args:
            rows: the partition's column, and `at`.
            at: what is equal in a row and its like in a file; the log tells where whole numbers may be.

        Returns:
            `FILE`, `value`, each file once.
        """
        value, whole = pl.col(self.column).alias("value"), [c for c in at if rows.schema[c].is_integer()]
        ranges = [f(c).alias(f"{f.__name__} {c}") for c in whole for f in (pl.min, pl.max)]
        wanted = rows.group_by(value, *(pl.col(c) // _NEAR for c in whole)).agg(ranges)
        files = self.listed([f"{end}.{c}" for c in whole for end in ("min", "max")])
        lows = [pl.col(f"min.{c}") <= pl.col(f"max {c}") for c in whole]
        highs = [pl.col(f"max.{c}") >= pl.col(f"min {c}") for c in whole]
        may = pl.all_horizontal(meets.fill_null(value=True) for meets in (*lows, *highs))
        found = files.join(wanted, on="value").filter(may)
        return found.select("value", *FILE).unique(maintain_order=True)

    def pieces(self, path: str) -> Iterator[pl.DataFrame]:
        """Read a file, a piece at a time."""
        start, whole = 0, self.read([path])
        while (piece := whole.slice(start, _PIECE).collect()).height:
            yield piece
            start += _PIECE

    def read(self, paths: Sequence[str]) -> pl.LazyFrame:
        """Read some files lazily, also such as left the table; FileNotFoundError where one is deleted."""
        if not paths:
            return pl.LazyFrame(schema=self.schema)
        return pl.scan_parquet(
            [f"{self._root}/{unquote(path)}" for path in paths],
            glob=False,
            schema=dict(self.schema),
            hive_partitioning=False,
            missing_columns="insert",  # of files that are older than a column
            extra_columns="ignore",
            storage_options=self._options,
            credential_provider=None,
        )

    def write(
        self, rows: pl.DataFrame, value: Value | None = None, schema: DeltaSchema | None = None
    ) -> list[NewFile]:
        """Write rows into new files, one a partition: that of a value, or (None) as their own column says.

        `schema` is what the table will have when they are committed, where that is another one than now.
        """
        own = rows if value is None else rows.with_columns(pl.lit(value, self._value).alias(self.column))
        return write_files(self._handle, self._root, own, self._options, schema)

    def gone(self, path: str, size: int, value: Value) -> RemoveAction:
        """Give what takes a file out of the table."""
        return RemoveAction(unquote(path), True, int(time.time() * 1000), size, {self.column: str(value)})
