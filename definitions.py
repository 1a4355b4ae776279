"""The roof: everything that Dagster runs, composed from the rooms; no logic."""

import dagster as dg

from assets.catalog import assets, checks
from assets.jobs import jobs
from resources import connections
from resources.streams import load_streams
from sensors import triggers
from sensors.automation import with_policies

streams = load_streams()
on = triggers(streams)

defs = dg.Definitions(
    assets=with_policies(assets(streams)),
    asset_checks=checks(streams),
    jobs=jobs(streams),
    sensors=[one for one in on if isinstance(one, dg.SensorDefinition)],
    schedules=[one for one in on if isinstance(one, dg.ScheduleDefinition)],
    resources=connections(),
    executor=dg.in_process_executor,
)
