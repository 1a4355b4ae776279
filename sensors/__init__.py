"""When things run: arrivals, continuous mode, the dates that gold owes, conditions, schedules."""

from collections.abc import Sequence

import dagster as dg

from assets.gold import gold_assets
from resources.dbt import as_of_joins, prepared_manifest
from sensors.arrivals import arrivals_sensor
from sensors.automation import automation_sensors
from sensors.keepalive import keepalive_sensor
from sensors.schedules import gold_schedule, maintain_schedule, reconcile_schedule
from sensors.touched_dates import touched_dates_sensor
from sluice.contract import Stream


def triggers(streams: Sequence[Stream]) -> list[dg.SensorDefinition | dg.ScheduleDefinition]:
    """Make the sensors and schedules of the streams declared; those of gold where there is gold."""
    if not streams:
        return []
    found: list[dg.SensorDefinition | dg.ScheduleDefinition] = [
        arrivals_sensor(streams),
        keepalive_sensor(),
        maintain_schedule(),
        reconcile_schedule(),
        *automation_sensors(),
    ]
    for gold in gold_assets(streams):
        found += [
            touched_dates_sensor(streams, as_of_joins(prepared_manifest()), gold),
            gold_schedule(gold),
        ]
    return found
