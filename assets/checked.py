"""Checks that count from the tables: one step an asset, re-runnable alone, partitions in metadata.

A check of a run looks at the run's tiles; Dagster keeps one timeline an asset, so a later tile's pass would
hide an earlier failure: the standing check looks at all tiles each time. What breaks a rule is shown, with
a few of its rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from resources.lake import Lake
from resources.storage import LakeResource

_SHOWN = 10
Find = Callable[[Lake, list[str] | None], Iterator["Finding"]]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: the rows that break it (none: it holds)."""

    check: str
    broken: pl.DataFrame
    rule: str


def checks_of(
    key: Sequence[str],
    find: Find,
    *,
    blocking: Sequence[str] = (),
    standing: Sequence[str] = (),
    warning: Sequence[str] = (),
    rules: dict[str, str] | None = None,
) -> dg.AssetChecksDefinition:
    """Make the checks of an asset from a function that finds what breaks each.

    `find` is given the lake and the tiles of the run (None: all), and yields a finding for each check named
    in `blocking` (downstream waits), `standing` and `warning`.
    """
    asset = dg.AssetKey(list(key))
    described = rules or {}
    specs = [
        dg.AssetCheckSpec(name, asset=asset, blocking=name in blocking, description=described.get(name))
        for name in (*blocking, *standing, *warning)
    ]

    @dg.multi_asset_check(name=f"{'_'.join(key)}_checks", specs=specs, can_subset=True)
    def checks(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        tiles = tiles_of_run(context)
        wanted = {check.name for check in context.selected_asset_check_keys}
        for finding in find(lake.lake, tiles):
            if finding.check not in wanted:
                continue
            shown = finding.broken.head(_SHOWN)
            looked = "all" if tiles is None or finding.check in standing else ", ".join(tiles[:50])
            told: dict[str, Any] = {"partitions": looked, "broken": finding.broken.height}
            if shown.height:
                told["examples"] = dg.MetadataValue.md(_markdown(shown))
            severe = dg.AssetCheckSeverity.WARN if finding.check in warning else dg.AssetCheckSeverity.ERROR
            yield dg.AssetCheckResult(
                asset_key=asset,
                check_name=finding.check,
                passed=finding.broken.height == 0,
                severity=severe,
                description=finding.rule,
                metadata=told,
            )

    return checks


def tiles_of_run(context: dg.AssetCheckExecutionContext) -> list[str] | None:
    """Give the partitions that a run was asked for; None where it was asked for none."""
    if context.has_partition_key_range or context.has_partition_key:
        return list(context.partition_keys)
    return None


def _markdown(rows: pl.DataFrame) -> str:
    """Show a few rows as a table."""
    head = f"| {' | '.join(rows.columns)} |\n|{'---|' * rows.width}\n"
    return head + "\n".join(f"| {' | '.join(str(value) for value in row)} |" for row in rows.iter_rows())
