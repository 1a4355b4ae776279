"""The long run as a whole over a Kafka in memory: its job, its reports, their rate, errors; keepalive."""

from datetime import UTC, datetime, timedelta
from threading import Thread
from threading import enumerate as enumerate_threads

import dagster as dg
import pytest

from assets.catalog import assets, checks
from assets.continuous import Options, Run, worker_of
from assets.flow import Pace
from assets.jobs import CONTINUOUS, jobs
from assets.leases import Leases
from resources.lake import Lake
from resources.storage import LakeResource
from sensors.keepalive import WORKER, keepalive_sensor
from sluice import Changes, Daily, Json
from sluice.errors import KafkaReadError, TopicMissingError
from tests.engine import Order, assert_same, both, busy_log, orders, prove, state
from tests.fake_kafka import FakeKafka, KafkaInMemory

TILES = Daily(start="2026-01-01")
STREAM = orders(partitions=TILES)
PEOPLE = Changes(
    topic="t",
    value=Json(),
    schema=Order,
    key="order_id",
    partitions=TILES,
    name="people",
    max_quarantined=1.0,
)


def said(_text: str) -> None:
    """Say nothing."""


def run(lake: Lake, kafka: FakeKafka, *streams, **options) -> Run:
    made = Options(**{"until": "caught_up", "pace": Pace(interval=0.01, rows=9)} | options)
    return Run(lake, kafka, streams or (STREAM,), "some-run", made, said)


def job(lake: Lake, kafka: FakeKafka, instance, **config) -> dg.ExecuteInProcessResult:
    streams = (STREAM, PEOPLE)
    made = dg.Definitions(
        assets=[a for a in assets(streams) if not isinstance(a, dg.AssetSpec)],
        asset_checks=checks(streams),
        jobs=jobs(streams),
        resources={"lake": LakeResource(uri=lake.uri), "kafka": KafkaInMemory.over(kafka)},
    )
    return made.resolve_job_def(CONTINUOUS).execute_in_process(
        run_config={"ops": {"follow": {"config": config}}}, instance=instance, raise_on_error=False
    )


def test_the_job_catches_up_and_reports_by_tile(lake, tmp_path):
    kafka = busy_log()
    with dg.instance_for_test() as instance:
        done = job(lake, kafka, instance, streams=["orders", "people"], until="caught_up")
        assert done.success
        keys = [dg.AssetKey(["silver", "orders"]), dg.AssetKey(["dimensions", "people"])]
        told = instance.get_materialized_partitions(keys[0])
        assert told == {"2026-01-01"}
        record = instance.get_latest_materialization_event(keys[0])
        assert record is not None
        names = record.asset_materialization.metadata.keys()
        assert {"read", "accepted", "freshness_p50", "freshness_p95", "freshness_p99"} <= names
        evaluated = [e for e in done.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
        assert all(event.asset_check_evaluation_data.passed for event in evaluated)
        assert {e.asset_check_evaluation_data.check_name for e in evaluated} == {
            "accounts_balance",
            "offsets_accounted_for",
            "nothing_lost",
            "records_accounted_for",
            "quarantine_within_limit",
            "no_tile_left_failed",
        }
    for stream in (STREAM, PEOPLE):
        prove(lake, stream)
    scheduled = Lake(str(tmp_path / "scheduled"))
    both(scheduled, busy_log(), STREAM, ["2026-01-01"])
    assert_same(state(lake, STREAM), state(scheduled, STREAM))
    assert lake.open("dimensions/people") is not None


def test_the_job_names_a_stream_that_it_does_not_know(lake):
    with dg.instance_for_test() as instance:
        done = job(lake, FakeKafka(), instance, streams=["parcels"])
        failure = next(e for e in done.all_events if e.event_type_value == "STEP_FAILURE")
        assert "no contract declares a stream 'parcels'" in failure.step_failure_data.error.to_string()


def test_reports_are_few_whatever_the_commits(lake):
    """Twenty commits, one report a tile and layer (design section 5)."""
    made = run(lake, busy_log(), pace=Pace(interval=0.01, rows=3))
    told = [event for event in made.events() if isinstance(event, dg.AssetMaterialization)]
    assert len({(e.asset_key, e.partition) for e in told}) == len(told) == 4
    handle = lake.open("silver/orders")
    assert handle is not None
    assert handle.version() >= 20


def working() -> set[str]:
    """Name the threads at work; polars lets its own run Python, and these stay."""
    return {thread.name for thread in enumerate_threads() if not thread.name.startswith("Dummy-")}


def test_an_error_that_does_not_pass_ends_the_run_with_it(lake):
    before = working()
    with pytest.raises(TopicMissingError):
        list(run(lake, FakeKafka(), until="stopped").events())
    assert working() == before


def test_the_first_error_of_any_thread_is_the_one(lake):
    kafka = busy_log()

    def failing(*_given, **_more):
        raise KafkaReadError("t", "the disk of the broker is gone")

    kafka.read = failing
    with pytest.raises(KafkaReadError, match="the disk of the broker"):
        list(run(lake, kafka, pace=Pace(interval=0.01, patience=0.0)).events())


def test_whoever_closes_it_gets_a_lake_that_holds(lake, monkeypatch):
    """Dagster's termination is an error in the caller's thread."""
    monkeypatch.setattr("assets.continuous._GRACE", 300.0)  # however busy the machine is
    kafka, before = busy_log(), working()
    made = run(lake, kafka, until="stopped", upkeep=0.01, report=0.0)
    events = made.events()
    next(events)
    events.close()
    assert working() == before
    prove(lake, STREAM)
    list(run(lake, kafka).events())
    prove(lake, STREAM)


def test_two_workers_in_one_process_share_the_partitions(lake):
    kafka = busy_log()
    workers = [run(lake, kafka, until="stopped", lease=0.6, upkeep=0.05) for _ in range(2)]
    threads = [Thread(target=lambda w=worker: list(w.events())) for worker in workers]
    for thread in threads:
        thread.start()
    list(run(lake, kafka).events())
    for worker in workers:
        worker.stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    prove(lake, STREAM)


@pytest.fixture
def tick(tmp_path):
    """Evaluate the sensor."""
    resources = {"lake": LakeResource(uri=str(tmp_path))}

    def ticked(instance):
        return keepalive_sensor().evaluate_tick(dg.build_sensor_context(instance, resources=resources))

    return ticked


def start(instance, worker: str, status: dg.DagsterRunStatus, ended: float = 0) -> str:
    """Leave the trace of a run."""
    made = instance.create_run_for_job(dg.job(name=CONTINUOUS)(lambda: None), tags={WORKER: worker})
    event = dg.DagsterEvent(
        event_type_value="PIPELINE_FAILURE" if status == dg.DagsterRunStatus.FAILURE else "PIPELINE_START",
        job_name=CONTINUOUS,
    )
    at = (datetime.now(UTC) - timedelta(seconds=ended)).timestamp()
    instance.run_storage.handle_run_event(made.run_id, event, datetime.fromtimestamp(at, UTC))
    return made.run_id


@pytest.fixture
def wanted(monkeypatch) -> None:
    monkeypatch.setenv("CONTINUOUS_STREAMS", "orders, people")
    monkeypatch.setenv("CONTINUOUS_WORKERS", "2")


def test_keepalive_is_off_unless_streams_are_named(tick):
    assert keepalive_sensor().default_status == dg.DefaultSensorStatus.STOPPED
    with dg.instance_for_test() as instance:
        assert "CONTINUOUS_STREAMS" in tick(instance).skip_message


@pytest.mark.usefixtures("wanted")
def test_keepalive_asks_for_each_worker_once(tick):
    assert keepalive_sensor().default_status == dg.DefaultSensorStatus.RUNNING
    with dg.instance_for_test() as instance:
        requests = tick(instance).run_requests
        assert [r.tags[WORKER] for r in requests] == ["0", "1"]
        assert requests[0].run_config == {"ops": {"follow": {"config": {"streams": ["orders", "people"]}}}}
        start(instance, "0", dg.DagsterRunStatus.STARTED)
        assert [r.tags[WORKER] for r in tick(instance).run_requests] == ["1"]
        start(instance, "1", dg.DagsterRunStatus.STARTED)
        assert tick(instance).skip_message == "worker 0 runs; worker 1 runs"


@pytest.mark.usefixtures("wanted")
@pytest.mark.parametrize(
    ("failures", "ago", "again"), [(1, 10, False), (1, 40, True), (3, 100, False), (3, 130, True)]
)
def test_keepalive_leaves_a_worker_that_keeps_failing_alone_for_longer(tick, failures, ago, again):
    with dg.instance_for_test() as instance:
        start(instance, "1", dg.DagsterRunStatus.STARTED)
        for _ in range(failures):
            start(instance, "0", dg.DagsterRunStatus.FAILURE, ago)
        requests = tick(instance).run_requests or []
        assert [r.tags[WORKER] for r in requests] == (["0"] if again else [])


@pytest.mark.usefixtures("wanted")
@pytest.mark.parametrize(
    ("begun", "beat", "dead"), [(100, None, False), (1000, None, True), (1000, 200, False), (1000, 400, True)]
)
def test_keepalive_ends_a_run_that_has_held_no_lease_for_minutes(tmp_path, tick, begun, beat, dead):
    """Its machine died, and Dagster goes on believing that it is started; ages in seconds."""
    now = datetime.now(UTC)
    with dg.instance_for_test() as instance:
        run_ids = [start(instance, worker, dg.DagsterRunStatus.STARTED, begun) for worker in ("0", "1")]
        beats = {run_ids[0]: beat, run_ids[1]: 5}
        for run_id, ago in beats.items():
            if ago is not None:
                lease = Leases(Lake(str(tmp_path)), f"{worker_of(run_id)}abc", ["orders"])
                lease.beat(now - timedelta(seconds=ago))
        assert [r.tags[WORKER] for r in tick(instance).run_requests or []] == (["0"] if dead else [])
        status = [instance.get_run_by_id(run_id).status for run_id in run_ids]
        ended = dg.DagsterRunStatus.CANCELING if dead else dg.DagsterRunStatus.STARTED
        assert status == [ended, dg.DagsterRunStatus.STARTED]
