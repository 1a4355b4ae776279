"""Gold's SQL, as dbt compiles it, against plain Python: staging, intermediate, facts, as-of joins."""

import shutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from gold_lake import COLUMNS, DAY, at, dbt, order, version, window
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.lake import Lake

FIRST, LAST = DAY, DAY + timedelta(days=1)
CUSTOMERS, PRODUCTS = ["c1", "c2", "c3"], ["p1", "p2"]
moments = st.integers(-48, 96).map(lambda half: at(0, half / 2))
amounts = st.decimals(0, 10_000, places=2)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The SQL of each model for the dates FIRST to LAST."""
    folder = tmp_path_factory.mktemp("compiled")
    done = dbt(Lake(str(folder / "lake")), folder, "compile", "--vars", window(FIRST, LAST))
    assert done.returncode == 0, done.stdout
    yield {path.stem: path.read_text() for path in Path(folder).rglob("models/*/*.sql")}
    shutil.rmtree(folder)


@st.composite
def histories(draw: st.DrawFn, key: str, names: list[str], **columns: st.SearchStrategy[Any]) -> list[Any]:
    """Versions of some of the keys: half-open intervals that may leave gaps, the last open or closed."""
    rows = []
    for name in draw(st.sets(st.sampled_from(names))):
        bounds = sorted(draw(st.sets(moments, min_size=1, max_size=6)))
        for number, begin in enumerate(bounds, start=1):
            after = bounds[number] if number < len(bounds) else None
            ends = [after, begin + timedelta(minutes=10)] if draw(st.integers(0, 3)) == 0 else [after]
            values = {column: draw(values) for column, values in columns.items()}
            rows.append(version(number, begin, ends[-1], **{key: name}, **values))
    return rows


orders = st.lists(
    st.builds(
        lambda when, customer, product, status, amount: order(
            "", when, str(amount), customer_id=customer, product_id=product, status=status
        ),
        moments,
        st.sampled_from(CUSTOMERS),
        st.sampled_from(PRODUCTS),
        st.sampled_from(["placed", "paid", "shipped", "cancelled"]),
        amounts,
    ),
    max_size=12,
).map(lambda rows: [row | {"order_id": f"o{number}"} for number, row in enumerate(rows)])
customers = histories(
    "customer_id", CUSTOMERS, country=st.sampled_from(["NL", "DE"]), segment=st.just("consumer")
)
products = histories("product_id", PRODUCTS, category=st.sampled_from(["books", "toys"]))


def run(sql: str, **tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run a model's SQL on rows of silver and dimensions."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            "SET TimeZone = 'UTC'; CREATE SCHEMA silver; CREATE SCHEMA dimensions; CREATE SCHEMA gold"
        )
        for name, rows in tables.items():
            path = next((table for table in COLUMNS if table.endswith(name)), None)
            frame = pl.DataFrame(rows, schema=COLUMNS[path] if path else None)
            if path and "_event_date" in frame.columns:
                time = {"orders": "placed_at", "pageviews": "viewed_at"}[name]
                frame = frame.with_columns(pl.col(time).dt.date().alias("_event_date"))
            connection.register("given", frame.to_arrow())
            target = path.replace("/", ".") if path else f"gold.{name}"
            connection.execute(f"CREATE TABLE {target} AS FROM given")
        return connection.sql(sql).pl().to_dicts()


def valid_version(versions: list[Any], key: str, value: str, when: datetime) -> tuple[Any, str]:
    """Say plainly which version of a key is valid at a time, and how it was found."""
    mine = [v for v in versions if v[key] == value]
    for one in mine:
        if one["valid_from"] <= when and (one["valid_to"] is None or when < one["valid_to"]):
            return one, "as_of"
    if mine and when < min(v["valid_from"] for v in mine):
        return next(v for v in mine if v["version"] == 1), "first_version"
    return None, "none"


@settings(max_examples=60, deadline=None)
@given(orders, customers, products)
def test_facts_join_the_versions_valid_then(compiled, orders, customers, products) -> None:
    """kinesis-iceberg 24 and 26: facts take their dimensions' valid versions, and keep the keys to them."""
    found = {
        row["order_id"]: row
        for row in run(compiled["fct_orders"], orders=orders, customers=customers, products=products)
    }
    inside = [row for row in orders if FIRST <= row["placed_at"].date() <= LAST]
    assert sorted(found) == sorted(row["order_id"] for row in inside)
    for row in inside:
        got = found[row["order_id"]]
        customer, how = valid_version(customers, "customer_id", row["customer_id"], row["placed_at"])
        product, which = valid_version(products, "product_id", row["product_id"], row["placed_at"])
        assert (got["customer_match"], got["product_match"]) == (how, which)
        assert got["customer_version"] == (customer and customer["version"])
        assert got["country"] == (customer and customer["country"])
        assert got["product_version"] == (product and product["version"])
        assert got["category"] == (product and product["category"])
        assert (got["customer_id"], got["product_id"]) == (row["customer_id"], row["product_id"])
        assert (got["amount"], got["order_date"]) == (row["amount"], row["placed_at"].date())


@settings(max_examples=60, deadline=None)
@given(orders)
def test_staging_keeps_the_rows_of_the_dates(compiled, orders) -> None:
    """kinesis-iceberg 22: silver becomes staging: the run's dates, all of their rows, nothing changed."""
    names = ["order_id", "customer_id", "product_id", "quantity", "status", "amount", "placed_at"]
    found = run(compiled["stg_orders"], orders=orders)
    assert [{name: row[name] for name in names} for row in found] == [
        {name: row[name] for name in names} for row in orders if FIRST <= row["placed_at"].date() <= LAST
    ]
    assert all(row["order_date"] == row["placed_at"].date() for row in found)


views = st.lists(
    st.fixed_dictionaries({"customer_id": st.sampled_from([*CUSTOMERS, None]), "viewed_at": moments}),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(orders, views)
def test_activity_counts_what_customers_did(compiled, orders, views) -> None:
    """kinesis-iceberg 23: staging becomes intermediate, an event a row, then activity."""
    events = run(compiled["int_customer_events"], orders=orders, pageviews=views)
    counted: dict[tuple[date, str], list[Any]] = {}
    for row in [*orders, *views]:
        day = (row.get("placed_at") or row["viewed_at"]).date()
        if row["customer_id"] is not None and FIRST <= day <= LAST:
            counted.setdefault((day, row["customer_id"]), []).append(row)
    assert len(events) == sum(map(len, counted.values()))
    found = run(compiled["customer_activity"], orders=orders, pageviews=views)
    assert len(found) == len(counted)
    for row in found:
        mine = counted[row["activity_date"], row["customer_id"]]
        kept = [r for r in mine if "order_id" in r and r["status"] != "cancelled"]
        assert row["page_views"] == sum("viewed_at" in r for r in mine)
        assert row["orders"] == len(kept)
        assert row["spent"] == sum((r["amount"] for r in kept), Decimal(0))


@settings(max_examples=60, deadline=None)
@given(orders, customers, products)
def test_revenue_is_the_sum_to_the_cent(compiled, orders, customers, products) -> None:
    """kinesis-iceberg 24: the mart adds up the facts, cancelled orders apart."""
    facts = run(compiled["fct_orders"], orders=orders, customers=customers, products=products)
    if not facts:
        return
    expected: dict[tuple[Any, ...], list[Any]] = {}
    for row in facts:
        place = (row["order_date"], row["category"] or "unknown", row["country"] or "unknown")
        sums = expected.setdefault(place, [0, Decimal(0), 0, Decimal(0)])
        first = 2 if row["status"] == "cancelled" else 0
        sums[first] += 1
        sums[first + 1] += row["amount"]
    found = run(compiled["daily_revenue"], fct_orders=facts)
    assert {
        (r["order_date"], r["category"], r["country"]): [
            r["orders"],
            r["revenue"],
            r["cancelled_orders"],
            r["cancelled_amount"],
        ]
        for r in found
    } == expected
