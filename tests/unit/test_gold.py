"""Gold's assets by real runs: dates as partitions, as-of joins, revenue to the cent, write-audit-publish."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from gold_lake import COLUMNS, DAY, at, fill, gold, order, put, version

from assets.gold import gold_assets
from resources.dbt import dbt_resource
from resources.dbt_delta import SOURCES
from resources.lake import Lake
from resources.settings import PROJECT
from resources.storage import lake_resource
from resources.streams import load_streams

NEXT = DAY + timedelta(days=1)
ORDERS = [
    order("before", at(-3), "1.10"),
    order("first", at(0, 1), "2.20"),
    order("early", at(0, 0), "0.05", customer_id="c2"),
    order("moved", at(0, 13), "3.30", customer_id="c2"),
    order("gone", at(0, 2), "9.99", status="cancelled"),
    order("next", at(1), "4.40", customer_id="c2", product_id="p2"),
    order("stranger", at(1), "0.01", customer_id="c9"),
]
CUSTOMERS = [
    version(1, at(-9), customer_id="c1", country="NL", segment="consumer"),
    version(1, at(0, 6), at(0, 13), customer_id="c2", country="DE", segment="business"),
    version(2, at(0, 13), customer_id="c2", country="FR", segment="business"),
]
PRODUCTS = [
    version(1, at(-9), product_id="p1", category="books"),
    version(1, at(-9), product_id="p2", category="toys"),
]


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("LAKE_URI", str(tmp_path / "José's own läke"))
    made = Lake(str(tmp_path / "José's own läke"))
    fill(made, orders=ORDERS, customers=CUSTOMERS, products=PRODUCTS)
    return made


def materialize(first: date, last: date, *models: str) -> dg.ExecuteInProcessResult:
    """Materialize dates of gold models (all, if none is named), in one run, as Dagster does."""
    assets = gold_assets(load_streams(PROJECT / "streams"))
    bounds = {
        "dagster/asset_partition_range_start": str(first),
        "dagster/asset_partition_range_end": str(last),
    }
    return dg.materialize(
        assets,
        resources={"dbt": dbt_resource(), "lake": lake_resource()},
        instance=dg.DagsterInstance.ephemeral(),
        partition_key=str(first) if first == last else None,
        tags=None if first == last else bounds,
        selection=[dg.AssetKey(["gold", model]) for model in models] or None,
        raise_on_error=False,
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Give what the failed step said."""
    (event,) = result.get_step_failure_events()
    assert event.step_failure_data.user_failure_data is not None
    return str(event.step_failure_data.user_failure_data.description)


def revenue(orders: Sequence[Any], *days: date) -> dict[date, Decimal]:
    """Add up the orders that were not cancelled, by date."""
    sums: dict[date, Decimal] = defaultdict(Decimal)
    for row in orders:
        if row["placed_at"].date() in days and row["status"] != "cancelled":
            sums[row["placed_at"].date()] += row["amount"]
    return dict(sums)


def by_date(frame: pl.DataFrame) -> dict[date, Decimal]:
    return dict(frame.group_by("order_date").agg(pl.col("revenue").sum()).iter_rows())


def test_a_date_then_another_then_bad_rows(lake: Lake) -> None:
    """A run builds its date; the next leaves it alone; bad rows are named and change nothing."""
    done = materialize(DAY, DAY)
    assert done.success
    facts = gold(lake, "fct_orders")
    found = {row["order_id"]: (row["country"], row["customer_match"]) for row in facts.to_dicts()}
    assert found == {
        "first": ("NL", "as_of"),
        "early": ("DE", "first_version"),  # before its customer was known
        "moved": ("FR", "as_of"),  # at the very moment that the second version began
        "gone": ("NL", "as_of"),
    }
    assert by_date(gold(lake, "daily_revenue")) == revenue(ORDERS, DAY)
    cancelled = gold(lake, "daily_revenue")["cancelled_amount"].sum()
    assert cancelled == Decimal("9.99")
    told = {
        event.asset_key.path[-1]: event.materialization for event in done.get_asset_materialization_events()
    }
    assert set(told) == {"fct_orders", "fct_payments", "daily_revenue", "customer_activity"}
    metadata = told["fct_orders"].metadata
    assert metadata["dagster/partition_row_count"].value == facts.height
    assert metadata["dagster/uri"].value == lake.path("gold/fct_orders")
    handle = lake.open("gold/fct_orders")
    assert handle is not None
    silver = lake.open("silver/orders")
    assert silver is not None
    sources = json.loads(handle.history(1)[0][SOURCES])
    assert sources["silver/orders"] == silver.version()
    assert metadata["versions_read"].value == sources
    assert metadata["table_version"].value == handle.version()
    lineage = metadata["dagster/column_lineage"].value.deps_by_column
    assert [(d.asset_key.to_user_string(), d.column_name) for d in lineage["country"]] == [
        ("dimensions/customers", "country")
    ]
    assert all(check.passed for check in done.get_asset_check_evaluations())

    doubled = [*ORDERS, order("next", at(1, 3), "7.70")]
    put(lake, "silver/orders", doubled)
    refused = materialize(NEXT, NEXT)
    assert not refused.success
    assert "order_id=next" in failure(refused)
    assert "unique_fct_orders_order_id" in failure(refused)
    failed = [check.check_name for check in refused.get_asset_check_evaluations() if not check.passed]
    assert failed == ["unique_fct_orders_order_id"]
    after = lake.open("gold/fct_orders")
    assert after is not None
    assert after.version() == handle.version()
    assert gold(lake, "fct_orders").equals(facts)


def test_a_range_is_one_run_and_leaves_other_dates(lake: Lake) -> None:
    """A range is replaced in one commit; a model alone reads its parents from the lake."""
    assert materialize(DAY, NEXT, "fct_orders", "daily_revenue").success
    facts = lake.open("gold/fct_orders")
    assert facts is not None
    assert set(gold(lake, "fct_orders")["order_date"]) == {DAY, NEXT}
    assert by_date(gold(lake, "daily_revenue")) == revenue(ORDERS, DAY, NEXT)
    before = gold(lake, "daily_revenue").filter(pl.col("order_date") == DAY)

    more = [*ORDERS, order("late", at(1, 5), "100.01"), order("unseen", at(0, 5), "50.00")]
    put(lake, "silver/orders", more)
    assert materialize(NEXT, NEXT, "fct_orders").success
    assert materialize(NEXT, NEXT, "daily_revenue").success
    after = gold(lake, "daily_revenue")
    assert after.filter(pl.col("order_date") == DAY).equals(before)
    assert by_date(after)[NEXT] == revenue(more, NEXT)[NEXT]


def test_revenue_that_does_not_reconcile_is_not_published(lake: Lake) -> None:
    """The singular test guards daily_revenue: facts that are behind silver are not added up."""
    assert materialize(DAY, DAY, "fct_orders", "daily_revenue").success
    before = gold(lake, "daily_revenue")
    put(lake, "silver/orders", [*ORDERS, order("unseen", at(0, 5), "50.00")])
    refused = materialize(DAY, DAY, "daily_revenue")
    assert not refused.success
    assert "revenue_reconciles_with_silver" in failure(refused)
    assert str(DAY) in failure(refused)
    assert gold(lake, "daily_revenue").equals(before)


def test_a_broken_contract_fails_before_the_commit(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that has another type than the model's contract says is never written."""
    columns = COLUMNS["silver/payments"] | {"amount": pl.Float64()}
    monkeypatch.setitem(COLUMNS, "silver/payments", columns)
    handle = lake.open("silver/payments")
    assert handle is not None
    wrong = Lake(lake.uri + "-wrong")
    monkeypatch.setenv("LAKE_URI", wrong.uri)
    fill(wrong, payments=[{"payment_id": "y1", "amount": 1.5, "paid_at": at(0)}])
    refused = materialize(DAY, DAY, "fct_payments")
    assert not refused.success
    assert "contract" in failure(refused)
    assert wrong.open("gold/fct_payments") is None


def test_a_missing_table_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without silver there is no gold, and the error says what to materialize."""
    monkeypatch.setenv("LAKE_URI", lake.uri + "-empty")
    refused = materialize(DAY, DAY, "fct_payments")
    assert not refused.success
    assert "materialize silver/payments first" in failure(refused)
