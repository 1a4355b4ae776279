"""The job `maintain`: joins small files, cuts logs and deletes what is not read any more, of all tables."""

from collections.abc import Sequence

import dagster as dg

from assets.gold import gold_assets
from assets.maintenance import Keeping, maintain
from assets.shell import failing_clearly
from assets.verdicts import DIFFERENCES_TABLE, PROGRESS_TABLE, VERDICTS_TABLE
from resources.settings import settings
from resources.storage import LakeResource
from sluice.contract import Stream

JOB = "maintain"
RECONCILED = (VERDICTS_TABLE, DIFFERENCES_TABLE, PROGRESS_TABLE)


def keeping() -> Keeping:
    """Give how much of the past the settings keep."""
    read = settings()
    return Keeping(read.history_retention_hours, read.history_commits)


def maintain_job(streams: Sequence[Stream]) -> dg.JobDefinition:
    """Make the job over the tables of some streams, and gold's."""

    @dg.op
    def maintain_tables(context: dg.OpExecutionContext, lake: LakeResource) -> None:
        with failing_clearly():
            gold = ["/".join(key.path) for one in gold_assets(streams) for key in one.keys]
            more = [*gold, *(table.name for table in RECONCILED)]
            maintain(lake.lake, streams, keeping(), more=more, say=context.log.info)

    @dg.job(name=JOB, description="Join small files, cut logs, delete what is not read any more.")
    def maintain_all() -> None:
        maintain_tables()

    return maintain_all
