"""Schedules: gold's newest complete date each night, then upkeep; once a week lakes against their sources."""

import dagster as dg

from assets.maintain import JOB
from assets.reconciliation import JOB as RECONCILE


def maintain_schedule() -> dg.ScheduleDefinition:
    """Make the daily upkeep of all tables, at 04:00 UTC."""
    return dg.ScheduleDefinition(
        name="maintain_daily",
        description="Joins small files, cuts logs and deletes what is not read any more.",
        job_name=JOB,
        cron_schedule="0 4 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def reconcile_schedule() -> dg.ScheduleDefinition:
    """Make the weekly reconciliation of streams that declare a source, Sunday 05:00 UTC; off at first."""
    return dg.ScheduleDefinition(
        name="reconcile_weekly",
        description="Holds the lake against the sources that contracts declare.",
        job_name=RECONCILE,
        cron_schedule="0 5 * * 0",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )


def gold_schedule(gold: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    """Make the nightly rebuild of yesterday's gold, at 03:00 UTC."""
    partitions = gold.partitions_def

    @dg.schedule(
        name="gold_daily",
        description="Builds yesterday's date of gold again.",
        cron_schedule="0 3 * * *",
        execution_timezone="UTC",
        target=dg.AssetSelection.assets(gold),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def gold_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        keys = (
            partitions.get_partition_keys(current_time=context.scheduled_execution_time) if partitions else []
        )
        if len(keys) < 2:  # noqa: PLR2004  # the last one is today
            return dg.SkipReason("gold has no complete date yet")
        return dg.RunRequest(partition_key=keys[-2])

    return gold_daily
