"""`reconciliation/<stream>` as Dagster runs it: report, check, job; by hand and by schedule."""

import dagster as dg
import pytest

from assets.reconciliation import reconcile_job, reconciliation_asset, reconciliation_checks
from resources.kafka import KafkaResource
from resources.storage import LakeResource
from sensors.schedules import reconcile_schedule
from tests.reconciling import customers, filled, row, written


def materialized(lake, stream, **config):
    """Materialize the asset with its check."""
    made = [reconciliation_asset(stream), reconciliation_checks(stream)]
    return dg.materialize(
        made,
        resources={
            "lake": LakeResource(uri=lake.uri),
            "kafka": KafkaResource(bootstrap_servers="127.0.0.1:1"),
        },
        run_config={"ops": {"reconciliation_customers": {"config": config}}},
        raise_on_error=False,
    )


def checks(result) -> list[bool]:
    return [
        event.event_specific_data.passed
        for event in result.all_events
        if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]


@pytest.mark.parametrize("differ", [False, True])
def test_the_report_is_shown_and_the_check_is_red_while_differences_stand(tmp_path, differ):
    rows = [row(n) for n in range(5)]
    stream = customers(written(tmp_path, rows[:4] if differ else rows, "delta"))
    lake = filled(tmp_path, stream, rows)
    result = materialized(lake, stream)
    (told,) = [
        e.materialization.metadata for e in result.all_events if e.event_type_value == "ASSET_MATERIALIZATION"
    ]
    assert told["equal"].value is not differ
    assert ("| extra |" in told["report"].value) is differ
    assert '"n4"' not in told["report"].value, "personal values are masked"
    assert checks(result) == [not differ]


def test_the_job_reconciles_streams_that_declare_a_source(tmp_path):
    rows = [row(n) for n in range(5)]
    stream = customers(written(tmp_path, rows[:4], "delta"))
    without = customers(None, name="others")
    lake = filled(tmp_path, stream, rows)
    resources = {"lake": LakeResource(uri=lake.uri), "kafka": KafkaResource(bootstrap_servers="127.0.0.1:1")}
    result = reconcile_job([stream, without]).execute_in_process(resources=resources, raise_on_error=False)
    assert checks(result) == [False]


def test_the_schedule_names_the_job():
    assert reconcile_schedule().job_name == reconcile_job([]).name == "reconcile"
