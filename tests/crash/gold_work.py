"""Gold, killed: the real run starts dbt, a program of its own, and both die together."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from assets.gold import gold_assets
from resources.dbt import dbt_resource
from resources.lake import Lake
from resources.storage import LakeResource
from resources.streams import load_streams
from tests.crash import seam
from tests.crash.sites import PROJECT
from tests.gold_lake import DAY, at, fill, gold, order, version

MODELS = ("fct_orders", "daily_revenue")
_ORDERS = [order(f"o{n}", at(n % 2, 3 + n % 20), f"{n}.50", customer_id=f"c{n % 3}") for n in range(40)]
_CUSTOMERS = [version(1, at(-9), customer_id=f"c{n}", country="NL", segment="retail") for n in range(3)]


def prepare(uri: str) -> None:
    """Fill silver and the dimensions of a lake."""
    fill(Lake(uri), orders=_ORDERS, customers=_CUSTOMERS)


def run(uri: str, *, log: str = "", death: Mapping[str, Any] | None = None, expected: str = "") -> None:
    """Build two models of one date; hold gold against another lake's, where one is named."""
    os.environ |= {"LAKE_URI": uri, "PYTHONPATH": f"{Path(__file__).parent / 'inside'}:{PROJECT}"}
    if log:
        told = dict(death) if death else None
        if told:
            told["event"] = seam.Event(**told["event"])
        seam.arm(uri, Path(log), seam.Death(**told) if told else None)
    result = dg.materialize(
        gold_assets(load_streams(PROJECT / "streams")),
        resources={"dbt": dbt_resource(), "lake": LakeResource(uri=uri)},
        instance=dg.DagsterInstance.ephemeral(),
        partition_key=str(DAY),
        selection=[dg.AssetKey(["gold", model]) for model in MODELS],
    )
    assert result.success
    for model in MODELS if expected else ():
        found, wanted = gold(Lake(uri), model), gold(Lake(expected), model)
        assert wanted.height, model
        assert found.equals(wanted), f"{model}:\n{found}\n{wanted}"
