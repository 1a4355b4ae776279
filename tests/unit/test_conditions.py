"""Automation conditions: what waits for blocking checks, and what is asked for when they pass."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from sensors import conditions


@pytest.fixture
def instance():
    with dg.instance_for_test() as instance:
        yield instance


partitions = dg.DailyPartitionsDefinition("2026-01-01", end_offset=1)


def evaluated(condition):
    """Give a function that ticks a gold asset over a silver asset with one blocking check."""

    @dg.asset(partitions_def=partitions)
    def silver() -> None: ...

    @dg.asset_check(asset=silver, blocking=True)
    def good() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset(deps=[silver], partitions_def=partitions, automation_condition=condition)
    def fact() -> None: ...

    definitions = dg.Definitions(assets=[silver, fact], asset_checks=[good])

    def ask(instance, cursor):
        result = dg.evaluate_automation_conditions(
            definitions, instance, cursor=cursor, evaluation_time=datetime(2026, 1, 1, 12, tzinfo=UTC)
        )
        return result, result.total_requested

    def happens(instance, *, passed: bool) -> None:
        instance.report_runless_asset_event(dg.AssetMaterialization("silver", partition="2026-01-01"))
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(dg.AssetKey("silver"), "good", passed, {}, blocking=True)
        )

    return ask, happens


def test_eager_asks_for_gold_though_a_blocking_check_failed(instance):
    """A fact about Dagster that our conditions are there for."""
    ask, happens = evaluated(dg.AutomationCondition.eager())
    cursor, _ = ask(instance, None)
    happens(instance, passed=False)
    _, requested = ask(instance, cursor.cursor)
    assert requested == 1


@pytest.mark.parametrize("condition", [conditions.silver_after_bronze, conditions.gold_after_silver])
def test_ours_waits_for_blocking_checks_and_asks_when_they_pass(instance, condition):
    """Failed: not asked; passed later: asked, once."""
    ask, happens = evaluated(condition())
    first, _ = ask(instance, None)
    happens(instance, passed=False)
    held, requested = ask(instance, first.cursor)
    assert requested == 0
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(dg.AssetKey("silver"), "good", passed=True, metadata={}, blocking=True)
    )
    released, requested = ask(instance, held.cursor)
    assert requested == 1
    _, requested = ask(instance, released.cursor)
    assert requested == 0


def test_an_update_that_passes_at_once_is_asked_for_at_once(instance):
    ask, happens = evaluated(conditions.gold_after_silver())
    first, _ = ask(instance, None)
    happens(instance, passed=True)
    assert ask(instance, first.cursor)[1] == 1
