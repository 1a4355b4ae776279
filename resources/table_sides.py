"""A side of a comparison as DuckDB reads it: the files of a table, and rows that stand in for some of them.

Decides what is read where it lies and what is copied first: files on this machine are read in place; what
DuckDB cannot reach or read right (object stores, deletion vectors, renamed or partition columns) is copied
once to a folder of the run, as a stream. It refuses a table without the columns that are to be compared.
"""

# ruff: noqa: S608  # names and texts are quoted (sluice.compare.comparable)

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import duckdb
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from resources.handles import Handle
from resources.lake import Lake
from resources.outages import reading
from sluice import sources
from sluice.compare.comparable import quoted, text
from sluice.errors import SourceError


@dataclass(frozen=True)
class Side:
    """Rows in files, of which `where` (SQL) tells the ones meant, and instead of some keys other rows.

    Attributes:
        files: Parquet files on this machine.
        names: the columns compared, by the names that the contract gives them.
        where: a condition on the files' rows.
        instead: keys (`keys`), whose rows in the files do not count, and their rows (all of `names`).
    """

    files: Sequence[str]
    names: Mapping[str, str]
    where: str = "true"
    instead: tuple[pl.DataFrame, pl.DataFrame] | None = None

    def show(self, connection: duckdb.DuckDBPyConnection, name: str, keys: Sequence[str]) -> None:
        """Make a view of the columns compared, and of each row's place (`_file`, null: no file; `_at`)."""
        base = self._of_files(connection)
        if self.instead is not None:
            for part, rows in zip(("gone", "new"), self.instead, strict=True):
                connection.register(f"{name}_{part}", rows.to_arrow())
            on = " AND ".join(f"b.{quoted(k)} = g.{quoted(k)}" for k in keys)
            own = ", ".join(quoted(name) for name in self.names)
            base = (
                f"SELECT b.* FROM ({base}) b ANTI JOIN {name}_gone g ON {on} UNION ALL BY NAME "
                f"SELECT {own}, NULL::VARCHAR AS _file, row_number() OVER () - 1 AS _at FROM {name}_new"
            )
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {base}")

    def _of_files(self, connection: duckdb.DuckDBPyConnection) -> str:
        if not self.files:
            nothing = ", ".join(f"NULL AS {quoted(name)}" for name in self.names)
            return f"SELECT {nothing}, NULL::VARCHAR AS _file, NULL::BIGINT AS _at WHERE false"
        listed = ", ".join(text(file) for file in self.files)
        files = (
            f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false, "
            "filename = '__file', file_row_number = true)"
        )
        held = {row[0] for row in connection.execute(f"DESCRIBE FROM {files}").fetchall()}
        columns = ", ".join(  # a column that was added since has no values in files of before
            f"{quoted(there) if there in held else 'NULL'} AS {quoted(name)}"
            for name, there in self.names.items()
        )
        return f"SELECT {columns}, __file AS _file, file_row_number AS _at FROM {files} WHERE {self.where}"


def delta_side(
    lake: Lake,
    handle: DeltaTable,
    names: Mapping[str, str],
    folder: Path,
    *,
    where: str = "true",
    needs: Collection[str] = (),
) -> Side:
    """Give a Delta table at the handle's version; `needs` are the columns that `where` asks for.

    Raises:
        SourceError: it lacks columns.
    """
    held = {field.name for field in handle.schema().fields}
    _refuse_lacking(handle.table_uri, held, names)
    wanted = {*names.values(), *needs}
    plain = not {*handle.metadata().partition_columns} & wanted and not handle.protocol().reader_features
    if plain and _is_local(handle.table_uri):
        return Side(handle.file_uris(), names, where)
    rows = lake.scan(handle).select(sorted(wanted))
    return Side([_copied(rows, folder)], names, where)


def source_side(
    lake: Lake, source: sources.Delta | sources.Parquet, wanted: Sequence[str], folder: Path
) -> tuple[Side, str]:
    """Open a source of files; tell its position too: a table's version, or how many files there are.

    Raises:
        SourceError: it is not there, or lacks columns.
    """
    names = {name: source.columns.get(name, name) for name in wanted}
    if isinstance(source, sources.Delta):
        try:
            handle = Handle(source.uri, storage_options=dict(lake.storage_options))
        except TableNotFoundError as error:
            raise SourceError(source.uri, "there is no Delta table", "correct `source`") from error
        return delta_side(lake, handle, names, folder), f"version {handle.version()}"
    if _is_local(source.path):
        files = sorted(glob(source.path.removeprefix("file://")))  # noqa: PTH207  # the pattern is the user's
        if not files:
            raise SourceError(source.path, "no file matches", "correct `source`")
        _refuse_lacking(source.path, set(pl.read_parquet_schema(files[0])), names)
        return Side(files, names), f"{len(files)} files"
    options = reading(lake.storage_options, lake.patience_seconds)
    rows = pl.scan_parquet(source.path, storage_options=options)
    _refuse_lacking(source.path, set(rows.collect_schema()), names)
    return Side([_copied(rows.select(sorted(names.values())), folder)], names), "as found"


def _refuse_lacking(where: str, held: Collection[str], names: Mapping[str, str]) -> None:
    if lacking := sorted(set(names.values()) - set(held)):
        raise SourceError(
            where, f"it has no column {', '.join(lacking)}", "name them in `columns` of the source"
        )


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def _copied(rows: pl.LazyFrame, folder: Path) -> str:
    """Stream rows into a file of the run."""
    path = folder / f"copy-{len(list(folder.iterdir()))}.parquet"
    rows.sink_parquet(path, compression="zstd", compression_level=1)
    return str(path)


def opened(folder: Path, memory: str = "1500MB", threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """Open DuckDB within bounds; `folder` holds what does not fit into `memory`."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = {text(memory)}")
    connection.execute(f"SET temp_directory = {text(str(folder))}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    if threads:
        connection.execute(f"SET threads = {threads}")
    return connection
