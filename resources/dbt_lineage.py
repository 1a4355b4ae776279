"""From which columns of which tables each column of a model comes, told by its compiled SQL.

Names in compiled SQL are `database.schema.table`; the table of the lake is `schema/table`. A column whose
origin sqlglot cannot tell has none: lineage informs, and never fails a run.
"""

from collections.abc import Iterable, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify

DATABASE = "memory"  # DuckDB's name for the database of a run
Origin = tuple[str, str]  # a table's path in the lake, a column


def column_origins(
    sql: str, columns: Iterable[str], tables: Mapping[str, Iterable[str]]
) -> dict[str, list[Origin]]:
    """Give the origins of each of a query's columns, sorted.

    Args:
        sql: a model as dbt compiled it.
        columns: the model's columns.
        tables: the columns of the tables that it reads, by their path in the lake.
    """
    layers: dict[str, dict[str, dict[str, str]]] = {}
    for path, names in tables.items():
        layer, table = path.split("/")
        layers.setdefault(layer, {})[table] = dict.fromkeys(names, "unknown")
    schema: dict[str, object] = {DATABASE: layers}
    try:
        query = qualify(sqlglot.parse_one(sql, dialect="duckdb"), dialect="duckdb", schema=schema)
        text = query.sql(dialect="duckdb")
    except SqlglotError:
        return {name: [] for name in columns}
    return {name: _origins(name, text, schema) for name in columns}


def _origins(column: str, sql: str, schema: dict[str, object]) -> list[Origin]:
    found: set[Origin] = set()
    try:
        for node in lineage(column, sql, schema=schema, dialect="duckdb").walk():
            table = node.expression.find(exp.Table)
            if not node.downstream and table is not None and table.db:
                found.add((f"{table.db}/{table.name}", exp.to_column(node.name).name))
    except SqlglotError:
        return []
    return sorted(found)
