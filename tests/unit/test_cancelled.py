"""A run that is terminated ends, though its errors are tried again, and the next one goes on."""

import signal

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

import assets.bronze
from assets.bronze import bronze_asset
from resources.lake import Lake
from resources.storage import LakeResource
from sensors.arrivals import END, START
from sluice import tables
from tests.engine import HOURS, busy_log, orders
from tests.fake_kafka import KafkaInMemory

ORDERS = orders()


def test_a_terminated_run_ends_and_the_next_goes_on(tmp_path, monkeypatch):
    """Event-streaming 6: Dagster's retry policy would try a terminated step again, three times."""
    kafka, lake = busy_log(), Lake(str(tmp_path / "lake"))
    tags = {START: HOURS[0], END: HOURS[-1]}
    resources = {"lake": LakeResource(uri=lake.uri), "kafka": KafkaInMemory.over(kafka)}

    def terminated(_say):
        return lambda _text: signal.raise_signal(signal.SIGINT)

    with dg.DagsterInstance.ephemeral() as instance:
        asked = {"resources": resources, "instance": instance, "tags": tags}
        with monkeypatch.context() as patched:
            patched.setattr(assets.bronze, "seldom", terminated)
            with pytest.raises(DagsterExecutionInterruptedError):
                dg.materialize([bronze_asset(ORDERS)], **asked)
        [run] = instance.get_runs()
        told = [e.dagster_event.event_type_value for e in instance.all_logs(run.run_id) if e.dagster_event]
        assert "STEP_UP_FOR_RETRY" not in told
        before = lake.read(tables.bronze(ORDERS)).collect()
        assert before.height
        assert dg.materialize([bronze_asset(ORDERS)], **asked).success
    after = lake.read(tables.bronze(ORDERS)).collect()
    assert after.join(before, on=before.columns, how="semi", nulls_equal=True).height == before.height
    assert after.select("partition", "offset").is_duplicated().sum() == 0
