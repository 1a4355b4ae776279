"""The keepalive sensor: one run of continuous mode for each worker that the settings ask for.

Off unless `CONTINUOUS_STREAMS` is set. A worker's run that ended is asked for again at once; one that keeps
failing at growing pauses, so that an error which does not pass fills no event log. Dagster believes that a
run goes on whose machine died: it is ended when it has held no lease for minutes.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

from assets import leases
from assets.continuous import worker_of
from assets.jobs import CONTINUOUS
from resources.settings import settings
from resources.storage import LakeResource
from sensors.arrivals import UNFINISHED

WORKER = "sluice/worker"
_PAUSE = timedelta(seconds=30)  # after one failure; doubled by each more
_GRACE = timedelta(minutes=5)  # without a lease; a worker that has no lake for so long gives up by itself
_LOOKED = 6  # runs: so the longest pause is a quarter of an hour


def keepalive_sensor() -> dg.SensorDefinition:
    """Make the sensor that keeps continuous runs alive."""
    wanted = settings().continuous_streams

    @dg.sensor(
        name="keepalive",
        description="Keeps a run of continuous mode alive for each of CONTINUOUS_WORKERS.",
        job_name=CONTINUOUS,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING if wanted else dg.DefaultSensorStatus.STOPPED,
    )
    def keepalive(
        context: dg.SensorEvaluationContext, lake: LakeResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        streams = [name.strip() for name in (settings().continuous_streams or "").split(",") if name.strip()]
        if not streams:
            yield dg.SkipReason("CONTINUOUS_STREAMS names no stream")
            return
        skipped, now, known = [], datetime.now(UTC), leases.ends(lake.lake)
        for worker in map(str, range(settings().continuous_workers)):
            runs = context.instance.get_run_records(dg.RunsFilter(tags={WORKER: worker}), limit=_LOOKED)
            newest = runs[0] if runs and runs[0].dagster_run.status in UNFINISHED else None
            if newest and not _is_dead(newest, known, now):
                skipped.append(f"worker {worker} runs")
                continue
            if newest:
                _end(context, newest.dagster_run.run_id)
            if (until := _pausing(runs)) > now:
                skipped.append(f"worker {worker} failed, and is asked for again at {until:%H:%M:%S} UTC")
            else:
                config = {"ops": {"follow": {"config": {"streams": streams}}}}
                yield dg.RunRequest(run_config=config, tags={WORKER: worker})
        if len(skipped) == settings().continuous_workers:
            yield dg.SkipReason("; ".join(skipped))

    return keepalive


def _is_dead(run: dg.RunRecord, known: Mapping[str, datetime], now: datetime) -> bool:
    """Tell whether a run was started and gave no sign of life for too long."""
    if run.dagster_run.status != dg.DagsterRunStatus.STARTED:
        return False
    begun = datetime.fromtimestamp(run.start_time or run.create_timestamp.timestamp(), UTC)
    own = worker_of(run.dagster_run.run_id)
    return now > max([begun, *(end for worker, end in known.items() if worker.startswith(own))]) + _GRACE


def _end(context: dg.SensorEvaluationContext, run_id: str) -> None:
    """End a run that seems dead, as a person would: one that only slept ends well."""
    context.log.warning("run %s holds no lease any more: another one is asked for", run_id)
    try:
        context.instance.run_launcher.terminate(run_id)
    except dg.DagsterError as error:
        context.log.info("nobody ends it: %s", error)


def _pausing(runs: Sequence[dg.RunRecord]) -> datetime:
    """Tell until when a worker is left alone: its runs, the newest first."""
    failed = list(takewhile(lambda run: run.dagster_run.status == dg.DagsterRunStatus.FAILURE, runs))
    if not failed:
        return datetime.min.replace(tzinfo=UTC)
    ended = datetime.fromtimestamp(failed[0].end_time or failed[0].create_timestamp.timestamp(), UTC)
    return ended + _PAUSE * (1 << len(failed) - 1)
