"""Automation conditions, by name: what follows what, and what waits.

Level and edge: `any_deps_updated` is an edge, remembered until handled; blocking checks are a level, asked
again at each tick, so an asset that waited runs as soon as the checks pass. `eager()` alone would ask for
gold even after silver's blocking check failed. None of them retries a failed run: steps do that.
"""

from typing import Any

import dagster as dg

Condition = Any  # Dagster types combined conditions by a private class


def silver_after_bronze() -> Condition:
    """Ask for a tile of silver when bronze was written without it, and bronze's blocking checks pass."""
    return _follows().with_label("silver_after_bronze")


def dimension_after_silver() -> Condition:
    """Ask for a dimension when its silver grew and silver's blocking checks pass."""
    return _follows().with_label("dimension_after_silver")


def gold_after_silver() -> Condition:
    """Ask for the newest date of gold when what it reads grew and all blocking checks of that pass.

    Older dates are asked for by the sensor `touched_dates`: a condition sees the newest window only.
    """
    return _follows().with_label("gold_after_silver")


def _follows() -> Condition:
    updated = dg.AutomationCondition.any_deps_updated().since_last_handled()
    ready = (
        dg.AutomationCondition.all_deps_blocking_checks_passed()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.any_deps_missing()
    )
    return (
        dg.AutomationCondition.in_latest_time_window()
        & updated
        & ready
        & ~dg.AutomationCondition.in_progress()
    )
