"""The code location: what it holds, that it loads without a network, and how runs of it end."""

import runpy
import socket
from pathlib import Path

import dagster as dg

import assets.bronze
from assets import bounds
from assets.bronze import bronze_asset, bronze_checks
from assets.dimensions import dimension_asset, dimension_checks
from assets.jobs import jobs
from assets.silver import silver_assets, silver_checks
from resources.lake import Lake
from resources.storage import LakeResource
from sensors.arrivals import END, START
from sluice import tables
from sluice.errors import KafkaUnreachableError
from tests.engine import HOURS, NOW, busy_log, orders, prove, send, state, told, value
from tests.fake_kafka import FakeKafka, KafkaInMemory
from tests.unit.test_merge import LIFE, customers, log_of

ROOT = Path(__file__).resolve().parents[2]
ORDERS = orders()

EVENTS, CHANGES = ("orders", "pageviews", "payments"), ("customers", "products")
LAYERS = ("bronze", "silver", "quarantine", "losers", "reconciliation")
TOPICS = {
    "kafka/shop.orders",
    "kafka/shop.pageviews",
    "kafka/shop.payments",
    "kafka/shop.public.customers",
    "kafka/shop.public.products",
}
SYSTEM = {"system/ledger", "system/tiles"}
CHECKS = {
    "bronze": {"accounts_balance", "offsets_accounted_for", "nothing_lost", "no_tile_left_failed"},
    "silver": {"accounts_balance", "records_accounted_for", "quarantine_within_limit", "no_tile_left_failed"},
    "dimensions": {"intervals_hold", "no_forbidden_nulls"},
    "reconciliation": {"no_differences_stand"},
}


def loaded(monkeypatch, folder: Path | None = None) -> dg.Definitions:
    """Load the code location as Dagster does, where no connection can be made."""

    def refused(*_address: object) -> None:
        raise AssertionError("the code location connects to something while it loads")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    if folder:
        monkeypatch.setenv("STREAMS_DIR", str(folder))
    definitions = runpy.run_path(str(ROOT / "definitions.py"))["defs"]
    dg.Definitions.validate_loadable(definitions)
    return definitions


def assets_of(definitions: dg.Definitions) -> set[str]:
    return {"/".join(key.path) for key in definitions.resolve_asset_graph().get_all_asset_keys()}


def checks_of(definitions: dg.Definitions) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key in definitions.resolve_asset_graph().asset_check_keys:
        found.setdefault("/".join(key.asset_key.path), set()).add(key.name)
    return found


def test_the_demos_streams_bring_their_assets_and_checks(monkeypatch):
    """Spelled out by hand: each stream's layers, dimensions of changes, gold, what they read and keep."""
    definitions = loaded(monkeypatch, ROOT / "streams")
    layers = {f"{layer}/{name}" for layer in LAYERS for name in EVENTS + CHANGES}
    dimensions = {f"dimensions/{name}" for name in CHANGES}
    gold = {f"gold/{name}" for name in ("fct_orders", "fct_payments", "daily_revenue", "customer_activity")}
    assert assets_of(definitions) == layers | dimensions | gold | TOPICS | SYSTEM
    checks = checks_of(definitions)
    for layer, names in (
        ("bronze", EVENTS + CHANGES),
        ("silver", EVENTS + CHANGES),
        ("dimensions", CHANGES),
        ("reconciliation", EVENTS + CHANGES),
    ):
        for name in names:
            assert checks.pop(f"{layer}/{name}") == CHECKS[layer]
    assert set(checks) == gold
    assert all(checks.values())
    assert {job.name for job in definitions.jobs} == {
        "replay_quarantine",
        "acknowledge_loss",
        "verify_ledger",
        "continuous",
        "maintain",
        "reconcile",
    }
    assert {s.name for s in definitions.sensors} == {
        "arrivals",
        "conditions",
        "gold_conditions",
        "keepalive",
        "touched_dates",
    }
    assert {s.name for s in definitions.schedules} == {"gold_daily", "maintain_daily", "reconcile_weekly"}


def test_a_folder_without_streams_loads(monkeypatch, tmp_path):
    definitions = loaded(monkeypatch, tmp_path)
    assert assets_of(definitions) == SYSTEM
    assert checks_of(definitions) == {}


def test_other_streams_load_without_gold(monkeypatch, tmp_path):
    (tmp_path / "clicks.py").write_text(
        '"""Clicks."""\nimport pandera.polars as pa\nimport polars as pl\n'
        "from sluice import Daily, Events, Json\n\n\nclass Click(pa.DataFrameModel):\n"
        '    id: int\n    at: pl.Datetime("us", "UTC")\n\n\n'
        'clicks = Events(topic="clicks", value=Json(), schema=Click, key="id", event_time="at",\n'
        '                partitions=Daily(start="2026-01-01"))\n'
    )
    definitions = loaded(monkeypatch, tmp_path)
    assert assets_of(definitions) == {f"{layer}/clicks" for layer in LAYERS} | SYSTEM | {"kafka/clicks"}
    assert set(checks_of(definitions)) == {"bronze/clicks", "silver/clicks", "reconciliation/clicks"}


# --- runs in this process


def run(lake: Lake, kafka: FakeKafka, first: str, last: str | None = None, stream=ORDERS, extra=()):
    """Materialize bronze and silver of a tile, or of a range, with their checks."""
    chosen = [bronze_asset(stream), bronze_checks(stream), silver_assets(stream), silver_checks(stream)]
    return dg.materialize(
        [*chosen, *extra],
        partition_key=None if last else first,
        tags={START: first, END: last} if last else None,
        resources={"lake": LakeResource(uri=lake.uri), "kafka": KafkaInMemory.over(kafka)},
        raise_on_error=False,
    )


def made(result, name: str) -> list:
    return [e for e in result.get_asset_materialization_events() if "/".join(e.asset_key.path) == name]


def test_a_tile_is_materialized_with_its_checks(lake):
    """(kinesis 13, 14)."""
    result = run(lake, busy_log(), HOURS[1])
    assert result.success
    checks = result.get_asset_check_evaluations()
    assert {check.check_name for check in checks} == CHECKS["bronze"] | CHECKS["silver"]
    assert all(check.passed for check in checks)
    tiles = set(lake.read(tables.bronze(ORDERS)).collect()["tile"])
    assert tiles == {HOURS[1]}
    metadata = made(result, "silver/orders")[0].materialization.metadata
    assert metadata["dagster/row_count"].value == state(lake, ORDERS)["silver"].height
    prove(lake, ORDERS)


def test_a_range_is_one_run_and_a_second_one_says_unchanged(lake):
    """(kafka-medallion 5, 14)."""
    kafka = busy_log()
    assert run(lake, kafka, HOURS[0], HOURS[3]).success
    before = told(lake, ORDERS)
    again = run(lake, kafka, HOURS[0], HOURS[3])
    assert again.success
    for name in ("bronze/orders", "silver/orders"):
        events = made(again, name)
        assert {event.partition for event in events} == set(HOURS[:4])
        assert {event.materialization.metadata["said"].value for event in events} == {"unchanged"}
    assert told(lake, ORDERS) == before
    prove(lake, ORDERS)


def test_a_failed_blocking_check_fails_the_run_and_keeps_silver_away(lake):
    """Records that Kafka lost: bronze is red, silver is not decided, until someone acknowledges."""
    kafka = busy_log()
    bounds.ensure(lake, kafka, ORDERS, HOURS[:1], NOW)
    kafka.expire("t", 0, 3)
    result = run(lake, kafka, HOURS[0])
    assert not result.success
    failed = {c.check_name for c in result.get_asset_check_evaluations() if not c.passed}
    assert failed == {"nothing_lost", "no_tile_left_failed"}
    assert run(lake, kafka, HOURS[1]).success  # of which nothing was lost
    assert len(made(result, "bronze/orders")) == 1
    assert made(result, "silver/orders") == []
    acknowledged = {job.name: job for job in jobs([ORDERS])}["acknowledge_loss"].execute_in_process(
        run_config={"ops": {"acknowledge_losses": {"config": {"stream": "orders", "reason": "known"}}}},
        resources={"lake": LakeResource(uri=lake.uri)},
    )
    assert acknowledged.success
    assert run(lake, kafka, HOURS[0]).success


def steps(result, kind: str) -> int:
    return sum(event.event_type_value == kind for event in result.all_events)


def test_a_permanent_error_is_not_tried_again(lake, monkeypatch):
    monkeypatch.setattr(assets.bronze, "RETRIES", dg.RetryPolicy(max_retries=3, delay=0))
    result = run(lake, FakeKafka(), HOURS[0])
    assert not result.success
    assert (steps(result, "STEP_UP_FOR_RETRY"), steps(result, "STEP_FAILURE")) == (0, 1)
    failure = next(e for e in result.all_events if e.event_type_value == "STEP_FAILURE")
    assert "create it, or correct `topic`" in failure.step_failure_data.user_failure_data.description


def test_a_retryable_error_is_tried_again(lake, monkeypatch):
    """The broker comes back at the second try (kinesis 16)."""
    monkeypatch.setattr(assets.bronze, "RETRIES", dg.RetryPolicy(max_retries=3, delay=0))
    kafka, found = busy_log(), FakeKafka.topic
    tries = []

    def flaky(self, name):
        tries.append(name)
        if len(tries) == 1:
            raise KafkaUnreachableError("fake:9092", "it starts")
        return found(self, name)

    monkeypatch.setattr(FakeKafka, "topic", flaky)
    result = run(lake, kafka, HOURS[0])
    assert result.success
    assert (steps(result, "STEP_UP_FOR_RETRY"), len(tries)) == (1, 2)


def test_changes_are_materialized_up_to_their_dimension(lake):
    """(kafka-medallion 12, kinesis 25)."""
    stream = customers()
    extra = [dimension_checks(stream)]
    assert run(lake, log_of(LIFE), HOURS[0], HOURS[2], stream, extra).success
    result = dg.materialize(
        [dimension_asset(stream), dimension_checks(stream)], resources={"lake": LakeResource(uri=lake.uri)}
    )
    assert result.success
    rows = lake.read(tables.dimension(stream)).collect()
    metadata = made(result, "dimensions/customers")[0].materialization.metadata
    assert metadata["dagster/row_count"].value == rows.height > 0


def test_the_jobs_run_and_name_what_they_do_not_know(lake):
    kafka = busy_log()
    send(kafka, value("x", "-1", 230), 230)
    run(lake, kafka, HOURS[0], HOURS[3])
    by_name = {job.name: job for job in jobs([ORDERS])}
    given = {"lake": LakeResource(uri=lake.uri)}
    for name in ("verify_ledger", "maintain", "verify_ledger"):
        assert by_name[name].execute_in_process(resources=given).success

    def replay(stream: str):
        config = {"ops": {"replay_records": {"config": {"stream": stream}}}}
        return by_name["replay_quarantine"].execute_in_process(config, resources=given, raise_on_error=False)

    assert replay("orders").success
    unknown = replay("nothing")
    failure = next(e for e in unknown.all_events if e.event_type_value == "STEP_FAILURE")
    assert "there are: orders" in failure.step_failure_data.user_failure_data.description
    prove(lake, ORDERS)


def test_a_run_leaves_its_trace_in_dagsters_log_and_in_the_ledger(lake):
    """Kinesis-iceberg 20: every run is logged, with its steps and its end; its accounts name it."""
    result = run(lake, busy_log(), HOURS[1])
    kinds = {event.event_type_value for event in result.all_events}
    assert {"STEP_START", "STEP_SUCCESS", "ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"} <= kinds
    assert result.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    ledger = lake.read(tables.LEDGER_TABLE).collect()
    assert ledger.height
    assert set(ledger["run_id"]) == {result.run_id}
