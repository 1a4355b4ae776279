"""A small lake of silver and dimensions with known facts, and dbt run on it: for the tests of gold."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from resources.lake import Lake
from resources.settings import PROJECT
from sluice.tables import Table

UTC_TIME = pl.Datetime("us", "UTC")
DAY = date(2026, 1, 5)
COLUMNS: dict[str, dict[str, pl.DataType]] = {
    "silver/orders": {
        "order_id": pl.String(),
        "customer_id": pl.String(),
        "product_id": pl.String(),
        "quantity": pl.Int64(),
        "status": pl.String(),
        "amount": pl.Decimal(12, 2),
        "placed_at": UTC_TIME,
        "_event_date": pl.Date(),
    },
    "silver/payments": {
        "payment_id": pl.String(),
        "order_id": pl.String(),
        "method": pl.String(),
        "status": pl.String(),
        "amount": pl.Decimal(12, 2),
        "paid_at": UTC_TIME,
        "_event_date": pl.Date(),
    },
    "silver/pageviews": {"customer_id": pl.String(), "viewed_at": UTC_TIME, "_event_date": pl.Date()},
    "dimensions/customers": {
        "customer_id": pl.String(),
        "country": pl.String(),
        "segment": pl.String(),
        "valid_from": UTC_TIME,
        "valid_to": UTC_TIME,
        "version": pl.Int32(),
        "_bucket": pl.Int32(),
    },
    "dimensions/products": {
        "product_id": pl.String(),
        "category": pl.String(),
        "valid_from": UTC_TIME,
        "valid_to": UTC_TIME,
        "version": pl.Int32(),
        "_bucket": pl.Int32(),
    },
}
TIMES = {"silver/orders": "placed_at", "silver/payments": "paid_at", "silver/pageviews": "viewed_at"}
Row = Mapping[str, Any]


def at(day: int = 0, hour: float = 12) -> datetime:
    """Give a moment of a day counted from `DAY`."""
    return datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) + timedelta(days=day, hours=hour)


def order(order_id: str, when: datetime, amount: str = "10.00", **more: Any) -> dict[str, Any]:
    row = {"customer_id": "c1", "product_id": "p1", "quantity": 1, "status": "placed"} | more
    return row | {"order_id": order_id, "amount": Decimal(amount), "placed_at": when}


def version(number: int, begin: datetime, end: datetime | None = None, **more: Any) -> dict[str, Any]:
    return {"version": number, "valid_from": begin, "valid_to": end, "_bucket": 1, **more}


def put(lake: Lake, table: str, rows: Iterable[Row]) -> None:
    """Make a table hold exactly these rows."""
    columns = COLUMNS[table]
    frame = pl.DataFrame([{name: row.get(name) for name in columns} for row in rows], schema=columns)
    if table in TIMES:
        frame = frame.with_columns(pl.col(TIMES[table]).dt.date().alias("_event_date"))
    by = "_event_date" if table in TIMES else "_bucket"
    lake.commit(lake.ensure(Table(table, columns, (by,), "test")), frame, mode="overwrite")


def fill(lake: Lake, **tables: Sequence[Row]) -> None:
    """Make the whole lake; tables not named are without rows, but for one product and one customer."""
    given: dict[str, Sequence[Row]] = {
        "customers": [version(1, at(-9), customer_id="c1", country="NL", segment="retail")],
        "products": [version(1, at(-9), product_id="p1", category="books")],
    } | tables
    for table in COLUMNS:
        put(lake, table, given.get(table.split("/")[1], ()))


def gold(lake: Lake, model: str, version: int | None = None) -> pl.DataFrame:
    """Read a gold table, sorted; fails where there is none."""
    handle = lake.open(f"gold/{model}", version)
    assert handle is not None, f"gold/{model} is not in the lake"
    return lake.scan(handle).collect().sort(pl.all())


def dbt(lake: Lake, target: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run dbt alone, as `make dbt` does."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), *args, "--target-path", str(target)],
        cwd=PROJECT / "dbt_project",
        env={**os.environ, "LAKE_URI": lake.uri, "DBT_LOG_PATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )


def window(first: date, last: date) -> str:
    """Write dbt's vars for a run of these dates."""
    return f'{{"min_date": "{first}", "max_date": "{last}"}}'
