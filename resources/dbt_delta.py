"""The dbt-duckdb plugin `delta`: tables of the lake as relations, staged rows as Delta commits.

Decides how a table is read (the files of one version by DuckDB; from an object store, which DuckDB cannot
reach here, the run's dates by polars) and that a model's dates are replaced in one commit, which names the
version of each table that was read. A table that was opened stays at its version for the whole run. It
refuses rows outside the run's dates. What is staged, and what guards it, is decided in dbt_project/macros.

dbt-duckdb offers plugins one door that a macro can use, `store`; the location's format says what to do:
`open`, `publish`, or `stand_in` (a run that publishes nothing shows its staged rows to what follows).
"""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import duckdb
import polars as pl
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError
from deltalake import DeltaTable

from resources.lake import Lake, lake_from_settings
from sluice.errors import RetryableError, SluiceError, StagedDatesError, TableMissingError
from sluice.tables import Table

SOURCES = "sluice.sources"  # {table: version} that a commit of gold was made from
WINDOW = "sluice.window"  # [first, last] date replaced, or null: all
ROWS = "sluice.rows"
GUARDS = "sluice.guards"
RETRYABLE = "[retryable]"  # at the end of a message: dbt hands on no exceptions, only their text
INVOCATION = "sluice.invocation"  # of dbt: finds the commit that a run made

_HIVE_TYPES = {pl.Date: "DATE", pl.Int32: "INTEGER", pl.Int64: "BIGINT", pl.String: "VARCHAR"}
Dates = tuple[date, date]


class Plugin(BasePlugin):
    """See the module; made by dbt-duckdb once a process."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:  # noqa: ARG002  # dbt-duckdb's signature
        """Begin without any table opened."""
        self._versions: dict[str, int] = {}
        self._connection: duckdb.DuckDBPyConnection | None = None

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Keep dbt's connection: `store` works on cursors of it."""
        self._connection = conn

    def store(self, target_config: Any) -> None:
        """Do what the location's format says.

        Raises:
            DbtRuntimeError: with the message of the error of `sluice.errors` that arose.
        """
        table, options = target_config.location.path, target_config.config
        relation = target_config.relation.render()
        if self._connection is None:
            raise DbtRuntimeError("the plugin `delta` has no connection: open one before `store`")
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SET TimeZone = 'UTC'")  # the zone that times have in the lake
                match target_config.location.format:
                    case "open":
                        self._open(cursor, relation, table, options)
                    case "publish":
                        self._publish(cursor, relation, table, options)
                    case _:
                        _replace(cursor, relation, f"VIEW {relation} AS FROM {options['staged']}")
        except SluiceError as error:
            mark = f" {RETRYABLE}" if isinstance(error, RetryableError) else ""
            raise DbtRuntimeError(f"{error}{mark}") from error

    def _open(
        self, cursor: duckdb.DuckDBPyConnection, relation: str, table: str, options: Mapping[str, Any]
    ) -> None:
        if table in self._versions:
            return
        lake = lake_from_settings()
        handle = lake.open(table)
        if handle is not None:
            self._show(cursor, relation, lake, handle, _dates(options))
            self._versions[table] = int(handle.version())
        elif options["required"]:
            raise TableMissingError(table, lake.path(table))
        elif options["columns"]:
            columns = ", ".join(f"{_quoted(name)} {kind}" for name, kind in options["columns"].items())
            _replace(cursor, relation, f"TABLE {relation} ({columns})")

    def _publish(
        self, cursor: duckdb.DuckDBPyConnection, relation: str, table: str, options: Mapping[str, Any]
    ) -> None:
        lake, dates, by = lake_from_settings(), _dates(options), options["partition_by"]
        staged = cursor.sql(f"FROM {options['staged']}").pl()
        target = Table(table, dict(staged.schema), (by,) if by else (), options["description"])
        if by and dates:
            _refuse_other_dates(table, staged[by], dates)
        metadata = {
            SOURCES: json.dumps({name: self._versions[name] for name in sorted(options["reads"])}),
            WINDOW: json.dumps([day.isoformat() for day in dates] if by and dates else None),
            ROWS: str(staged.height),
            GUARDS: json.dumps(sorted(options["guards"])),
            INVOCATION: options["invocation_id"],
        }
        predicate = f"{by} >= DATE '{dates[0]}' AND {by} <= DATE '{dates[1]}'" if by and dates else None

        def step() -> DeltaTable:
            handle = lake.ensure(target)
            lake.commit(handle, staged, mode="overwrite", predicate=predicate, metadata=metadata)
            return handle

        handle = lake.retrying(table, step)
        self._show(cursor, relation, lake, handle, dates)
        self._versions[table] = int(handle.version())

    def _show(
        self,
        cursor: duckdb.DuckDBPyConnection,
        relation: str,
        lake: Lake,
        handle: DeltaTable,
        dates: Dates | None,
    ) -> None:
        """Put one version of a table under the name that dbt gives it."""
        scanned = lake.scan(handle)
        schema = scanned.collect_schema()
        partitions = handle.metadata().partition_columns
        files = handle.file_uris()
        if "://" in lake.uri or not files:
            for name in partitions:
                if dates and schema[name] == pl.Date:
                    scanned = scanned.filter(pl.col(name).is_between(*dates))
            cursor.register("rows_of_the_lake", scanned.collect().to_arrow())
            _replace(cursor, relation, f"TABLE {relation} AS FROM rows_of_the_lake")
            cursor.unregister("rows_of_the_lake")
            return
        types = ", ".join(f"{_quoted(name)}: {_HIVE_TYPES[type(schema[name])]}" for name in partitions)
        hive = (
            f"hive_partitioning = true, hive_types = {{{types}}}"
            if partitions
            else "hive_partitioning = false"
        )
        paths = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        # Files older than a column lack it: the table's columns, without rows, give it name and type.
        columns = f'{relation[:-1]}__columns"'
        cursor.register("rows_of_the_lake", pl.DataFrame(schema=schema).to_arrow())
        _replace(cursor, columns, f"TABLE {columns} AS FROM rows_of_the_lake")
        cursor.unregister("rows_of_the_lake")
        read = f"FROM read_parquet([{paths}], union_by_name = true, {hive})"
        _replace(cursor, relation, f"VIEW {relation} AS FROM {columns} UNION ALL BY NAME {read}")


def _replace(cursor: duckdb.DuckDBPyConnection, relation: str, definition: str) -> None:
    """Create a view or table in place of what has its name, of whichever kind."""
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {relation.rsplit('.', 1)[0]}")
    schema, name = (part.strip('"') for part in relation.split(".")[-2:])
    found = cursor.execute(
        "SELECT table_type FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
        [schema, name],
    ).fetchone()
    if found:
        cursor.execute(f"DROP {'VIEW' if found[0] == 'VIEW' else 'TABLE'} {relation}")
    cursor.execute(f"CREATE {definition}")


def _dates(options: Mapping[str, Any]) -> Dates | None:
    window = options["window"]
    return (date.fromisoformat(window[0]), date.fromisoformat(window[1])) if window else None


def _refuse_other_dates(table: str, column: pl.Series, dates: Dates) -> None:
    others = column.filter(~column.is_between(*dates).fill_null(value=False)).unique().sort()
    if others.len():
        raise StagedDatesError(table, column.name, [str(day) for day in others.head(5)], dates)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
