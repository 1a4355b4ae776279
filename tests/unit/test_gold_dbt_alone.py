"""dbt without Dagster, as `make dbt` runs it: build, tests and docs from the same lake."""

from pathlib import Path

import pytest
from gold_lake import DAY, at, dbt, fill, gold, order, window

from resources.lake import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    fill(made, orders=[order("one", at(0), "1.01"), order("two", at(1), "2.02")])
    return made


def test_build_tests_and_docs(lake: Lake, tmp_path: Path) -> None:
    """Models, data tests and unit tests pass; `--empty` and `--sample` change nothing."""
    target = tmp_path / "target"
    built = dbt(lake, target, "build")
    assert built.returncode == 0, built.stdout
    assert "PASS orders_join_the_version_valid_then" in built.stdout.replace("fct_orders::", "")
    facts = gold(lake, "fct_orders")
    assert facts["order_id"].to_list() == ["one", "two"]
    models = ("fct_orders", "fct_payments", "daily_revenue", "customer_activity")
    versions = {model: lake.open(f"gold/{model}").version() for model in models}
    for flag in ("--empty", "--sample=3 days"):
        emptied = dbt(lake, target, "build", flag, "--exclude", "resource_type:unit_test")
        assert emptied.returncode == 0, emptied.stdout
        assert "the lake stays as it is" in emptied.stdout
        assert {model: lake.open(f"gold/{model}").version() for model in models} == versions
    assert gold(lake, "fct_orders").equals(facts)
    docs = dbt(lake, target, "docs", "generate", "--static")
    assert docs.returncode == 0, docs.stdout
    assert (target / "static_index.html").stat().st_size > 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"min_date": "2026-01-01"}', "both vars"),
        (window(DAY.replace(day=6), DAY), "is after max_date"),
        ('{"min_date": "yesterday", "max_date": "2026-01-01"}', "yesterday"),
    ],
)
def test_wrong_dates_are_refused(lake: Lake, tmp_path: Path, given: str, said: str) -> None:
    refused = dbt(lake, tmp_path / "target", "run", "--select", "fct_payments", "--vars", given)
    assert refused.returncode != 0
    assert said in refused.stdout
    assert lake.open("gold/fct_payments") is None
