"""Which gold exists: only models whose streams are declared; and what the manifest says without a lake."""

import os
import textwrap
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets.gold import gold_assets
from resources.dbt import as_of_joins, dbt_resource, prepared_manifest, sources_of
from resources.dbt_lineage import column_origins
from resources.settings import PROJECT
from resources.storage import lake_resource
from resources.streams import load_streams
from sluice.contract import Stream
from sluice.errors import DbtParseError

ALL = {"fct_orders", "fct_payments", "daily_revenue", "customer_activity"}


def declared(*names: str) -> list[Stream]:
    return [stream for stream in load_streams(PROJECT / "streams") if stream.name in names]


def built(streams: list[Stream]) -> set[str]:
    """Give the models that definitions with these streams have; they load."""
    assets = gold_assets(streams)
    defs = dg.Definitions(assets=assets, resources={"dbt": dbt_resource(), "lake": lake_resource()})
    dg.Definitions.validate_loadable(defs)
    return {key.path[-1] for made in assets for key in made.keys}


@pytest.mark.parametrize(
    ("streams", "models"),
    [
        (["orders", "payments", "pageviews", "customers", "products"], ALL),
        (["payments"], {"fct_payments"}),
        (["orders", "pageviews"], {"customer_activity"}),
        (["orders", "customers", "products"], {"fct_orders", "daily_revenue"}),
        (["orders", "customers"], set()),
        ([], set()),
    ],
)
def test_models_need_their_streams(streams: list[str], models: set[str]) -> None:
    assert built(declared(*streams)) == models


def test_a_stream_of_that_name_with_other_columns_is_not_enough(tmp_path: Path) -> None:
    source = (PROJECT / "streams" / "payments.py").read_text()
    (tmp_path / "payments.py").write_text(source.replace("    method:", "    way:"))
    assert built(list(load_streams(tmp_path))) == set()


def test_assets_say_what_they_are() -> None:
    (gold,) = gold_assets(declared("orders", "payments", "pageviews", "customers", "products"))
    specs = {spec.key.path[-1]: spec for spec in gold.specs}
    orders = specs["fct_orders"]
    assert orders.group_name == "gold"
    assert orders.kinds == {"dbt", "duckdb", "deltalake"}
    assert list(orders.owners) == ["team:shop"]
    assert {dep.asset_key.to_user_string() for dep in orders.deps} == {
        "silver/orders",
        "dimensions/customers",
        "dimensions/products",
    }
    assert isinstance(orders.partitions_def, dg.DailyPartitionsDefinition)
    assert orders.partitions_def.start.date() == date(2025, 12, 31)  # a day early: such events are believed
    assert gold.backfill_policy == dg.BackfillPolicy.single_run()
    checks = {spec.name: spec for spec in gold.check_specs}
    assert checks["unique_fct_orders_order_id"].blocking
    assert checks["revenue_reconciles_with_silver"].asset_key == dg.AssetKey(["gold", "daily_revenue"])
    assert not checks["relationships_fct_payments_order_id__order_id__ref_fct_orders_"].blocking
    columns = {c.name: c for c in orders.metadata["dagster/column_schema"].columns}
    assert columns["amount"].type == "decimal(12,2)"
    assert columns["country"].description


def test_as_of_joins_are_told() -> None:
    manifest = prepared_manifest()
    joins = {(j.model, j.dimension, j.fact, j.key, j.time) for j in as_of_joins(manifest)}
    assert joins == {
        ("fct_orders", "customers", "orders", "customer_id", "placed_at"),
        ("fct_orders", "products", "orders", "product_id", "placed_at"),
    }
    read = sources_of(manifest, "model.sluice.daily_revenue")
    assert read == {"silver/orders", "dimensions/customers", "dimensions/products"}


def test_the_manifest_follows_the_files(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "dbt_project.yml").write_text("name: small\nprofile: sluice\nconfig-version: 2\n")
    (tmp_path / "profiles.yml").write_text((PROJECT / "dbt_project" / "profiles.yml").read_text())
    model = tmp_path / "models" / "one.sql"
    model.write_text("{{ config(materialized='table') }} select 1 as id")
    assert "model.small.one" in prepared_manifest(tmp_path)["nodes"]
    written = (tmp_path / "target" / "definitions" / "manifest.json").stat()
    assert "model.small.one" in prepared_manifest(tmp_path)["nodes"]
    assert (tmp_path / "target" / "definitions" / "manifest.json").stat() == written  # not parsed again
    model.write_text("select * from {{ ref('nowhere') }}")
    os.utime(model, ns=(written.st_mtime_ns + 1, written.st_mtime_ns + 10**9))
    with pytest.raises(DbtParseError, match="nowhere"):
        prepared_manifest(tmp_path)


def test_lineage_goes_through_renames_and_unions() -> None:
    sql = textwrap.dedent("""
        with both as (
            select id as key, a from "memory"."silver"."left_one"
            union all
            select other, b from "memory"."silver"."right_one"
        )
        select key, sum(a) as total, 1 as one from both group by key
    """)
    tables = {"silver/left_one": ["id", "a"], "silver/right_one": ["other", "b"]}
    assert column_origins(sql, ["key", "total", "one"], tables) == {
        "key": [("silver/left_one", "id"), ("silver/right_one", "other")],
        "total": [("silver/left_one", "a"), ("silver/right_one", "b")],
        "one": [],
    }
    assert column_origins("this is no sql (", ["key"], tables) == {"key": []}
