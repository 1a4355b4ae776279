"""The sensor of gold: asks for exactly the dates that changes touched, and waits while checks are red.

Its cursor holds the versions of silver and of the dimensions that gold was asked for; dates follow from what
was committed after them. While a blocking check of a table stands failed, gold waits and the cursor stays.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import pairwise

import dagster as dg

from assets import touched
from resources.dbt import AsOfJoin
from resources.lake import Lake
from resources.settings import settings
from resources.storage import LakeResource
from sensors.arrivals import END, START
from sluice.contract import Changes, Stream

_RUN = "sluice/gold"


def dates_owed(
    lake: Lake,
    streams: Sequence[Stream],
    joins: Sequence[AsOfJoin],
    since: dict[str, int],
    upto: dict[str, int],
) -> set[date]:
    """Give the dates of gold that the commits between two sets of table versions touched."""
    by_name = {stream.name: stream for stream in streams}
    owed: set[date] = set()
    for table, version in upto.items():
        layer, name = table.split("/")
        before = since.get(table, -1)
        if layer == "silver":
            owed |= touched.by_rows(lake, by_name[name], before, version)
            continue
        dimension = by_name[name]
        for join in joins:
            if join.dimension == name and join.fact in by_name and isinstance(dimension, Changes):
                fact = by_name[join.fact]
                owed |= touched.by_dimension(lake, dimension, fact, join, max(before, 0), version)
    return owed


def date_ranges(dates: set[date]) -> list[tuple[date, date]]:
    """Join dates that follow each other into ranges, first and last date named."""
    ordered = sorted(dates)
    if not ordered:
        return []
    breaks = [i + 1 for i, (a, b) in enumerate(pairwise(ordered)) if b - a > timedelta(days=1)]
    edges = [0, *breaks, len(ordered)]
    return [(ordered[a], ordered[b - 1]) for a, b in pairwise(edges)]


def touched_dates_sensor(
    streams: Sequence[Stream], joins: Sequence[AsOfJoin], gold: dg.AssetsDefinition
) -> dg.SensorDefinition:
    """Make the sensor that asks for the dates of gold that were touched."""
    partitions = gold.partitions_def
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        raise TypeError("gold is partitioned by date")
    first = partitions.start.date()

    @dg.sensor(
        name="touched_dates",
        description="Asks gold for exactly the dates that rows or dimensions touched.",
        target=dg.AssetSelection.assets(gold),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def touched_dates(
        context: dg.SensorEvaluationContext, lake: LakeResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        since: dict[str, int] = json.loads(context.cursor or "{}")
        upto = touched.versions(lake.lake, streams)
        if red := _failed(context.instance, list(upto)):
            yield dg.SkipReason(f"gold waits for these checks to pass: {', '.join(red)}")
            return
        if upto == since:
            yield dg.SkipReason("nothing was committed since gold was asked last")
            return
        owed = {day for day in dates_owed(lake.lake, streams, joins, since, upto) if day >= first}
        ranges = date_ranges(owed)
        if len(ranges) > settings().run_tiles_per_tick:  # many single dates: one run over all is cheaper
            ranges = [(ranges[0][0], ranges[-1][1])]
        for begin, end in ranges:
            yield _request(begin, end)
        context.update_cursor(json.dumps(upto, sort_keys=True))
        if not ranges:
            yield dg.SkipReason("what was committed since then touches no date of gold")

    return touched_dates


def _request(begin: date, end: date) -> dg.RunRequest:
    if begin == end:
        return dg.RunRequest(partition_key=begin.isoformat(), tags={_RUN: "touched_dates"})
    return dg.RunRequest(
        tags={START: begin.isoformat(), END: end.isoformat(), _RUN: "touched_dates"},
    )


def _failed(instance: dg.DagsterInstance, tables: Sequence[str]) -> list[str]:
    """Name the checks of some tables, and of the silver behind them, that stand failed."""
    named = {
        "silver": ("accounts_balance", "records_accounted_for", "no_tile_left_failed"),
        "dimensions": ("intervals_hold", "no_forbidden_nulls"),
    }
    silver = {f"silver/{table.split('/')[1]}" for table in tables}
    keys = [
        dg.AssetCheckKey(dg.AssetKey(table.split("/")), check)
        for table in sorted({*tables, *silver})
        for check in named[table.split("/")[0]]
    ]
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    return [
        f"{key.asset_key.to_user_string()}: {key.name}"
        for key, record in records.items()
        if record.status.value in ("FAILED", "EXECUTION_FAILED")
    ]
