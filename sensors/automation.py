"""Policies applied by selection, once: automation conditions, freshness, schedules."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

from sensors import conditions

_CONDITIONS = {
    "silver": conditions.silver_after_bronze,
    "dimensions": conditions.dimension_after_silver,
    "gold": conditions.gold_after_silver,
}
_FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=24), warn_window=timedelta(hours=6))


def with_policies(assets: Iterable[dg.AssetsDefinition | dg.AssetSpec]) -> list[Any]:
    """Give each layer its condition, and everything that runs by itself a freshness policy."""
    return list(dg.map_asset_specs(_with_policies, assets))


def _with_policies(spec: dg.AssetSpec) -> dg.AssetSpec:
    layer = spec.key.path[0]
    if layer in _CONDITIONS:
        spec = spec.replace_attributes(automation_condition=_CONDITIONS[layer]())
    return dg.apply_freshness_policy(spec, _FRESH) if layer in ("bronze", *_CONDITIONS) else spec


def automation_sensors() -> list[dg.SensorDefinition]:
    """Make the sensors that evaluate the conditions: on for silver and dimensions, off for gold.

    Gold's dates come from the sensor `touched_dates`, which knows older ones too; turn its conditions on
    instead where only the newest date matters.
    """
    below = dg.AssetSelection.groups("silver", "dimensions")
    running, stopped = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED
    return [
        dg.AutomationConditionSensorDefinition("conditions", target=below, default_status=running),
        dg.AutomationConditionSensorDefinition(
            "gold_conditions", target=dg.AssetSelection.groups("gold"), default_status=stopped
        ),
    ]
