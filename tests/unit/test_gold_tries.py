"""What dbt refused is tried again where only the lake was away, and a run that is terminated is not."""

import json
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from assets import gold
from definitions import defs
from resources.dbt_delta import RETRYABLE


def steps(folder: Path, messages: list[str]) -> list[str]:
    """Let a step end as gold does where dbt told these errors; give what became of it, in order."""
    told = [{"status": "error", "message": message, "unique_id": "model.shop.a"} for message in messages]
    (folder / "run_results.json").write_text(json.dumps({"results": told}))
    run = SimpleNamespace(target_path=folder, dagster_dbt_translator=None, get_error=lambda: "dbt failed")

    @dg.op
    def refused(context: dg.OpExecutionContext) -> None:
        with gold.failing_clearly(gold.RETRIES):
            list(gold._refused(context, run, {}))

    @dg.job
    def one() -> None:
        refused()

    result = one.execute_in_process(raise_on_error=False)
    kinds = ("STEP_UP_FOR_RETRY", "STEP_FAILURE")
    return [e.event_type_value for e in result.all_events if e.event_type_value in kinds]


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ([f"the lake was away {RETRYABLE}"], ["STEP_UP_FOR_RETRY", "STEP_FAILURE"]),
        ([f"the lake was away {RETRYABLE}", "a test failed"], ["STEP_FAILURE"]),
        ([], ["STEP_FAILURE"]),
    ],
)
def test_only_what_may_pass_is_tried_again(tmp_path, monkeypatch, messages, wanted):
    monkeypatch.setattr(gold, "RETRIES", dg.RetryPolicy(max_retries=1, delay=0))
    assert steps(tmp_path, messages) == wanted


def test_gold_has_no_policy_by_which_a_terminated_run_would_go_on():
    nodes = defs.resolve_job_def("__ASSET_JOB").nodes
    assert {node.name for node in nodes if node.definition.retry_policy or node.retry_policy} == set()
