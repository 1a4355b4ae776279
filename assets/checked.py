"""Checks that count from the tables: one step an asset, re-runnable alone, partitions in the metadata.

A check of a run looks at the run's tiles; Dagster keeps one timeline an asset, so a later tile's pass would
hide an earlier failure: a standing check looks at all tiles each time. What breaks a rule is shown, with a
few of its rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
import polars as pl

from resources.lake import Lake
from resources.storage import LakeResource

_SHOWN = 10
Tiles = list[str] | None  # those of the run; None: all


@dataclass(frozen=True)
class Rule:
    """One check.

    Attributes:
        name: the check's name.
        says: the rule, in a sentence.
        broken: finds what breaks it (no rows: it holds), in the tiles of the run or in all.
        kind: `blocking`: downstream waits; `standing`: looks at all tiles, always; `warning`: only told.
        live: whether it can be told while someone writes; what counts several tables needs them still.
    """

    name: str
    says: str
    broken: Callable[[Lake, Tiles], pl.DataFrame]
    kind: Literal["blocking", "standing", "warning"] = "blocking"
    live: bool = False


def checks_of(key: Sequence[str], rules: Sequence[Rule]) -> dg.AssetChecksDefinition:
    """Make the checks of an asset."""
    asset = dg.AssetKey(list(key))
    specs = [
        dg.AssetCheckSpec(rule.name, asset=asset, blocking=rule.kind == "blocking", description=rule.says)
        for rule in rules
    ]

    @dg.multi_asset_check(name=f"{'_'.join(key)}_checks", specs=specs, can_subset=True)
    def checks(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        tiles = tiles_of_run(context)
        wanted = {check.name for check in context.selected_asset_check_keys}
        for rule in rules:
            if rule.name in wanted:
                looked = None if rule.kind == "standing" else tiles
                yield verdict(key, rule, lake.lake, looked)

    return checks


def verdict(key: Sequence[str], rule: Rule, lake: Lake, tiles: Tiles) -> dg.AssetCheckResult:
    """Check one rule of an asset, in some tiles or in all."""
    broken = rule.broken(lake, tiles)
    looked = "all" if tiles is None else ", ".join(tiles[:50])
    told: dict[str, Any] = {"partitions": looked, "broken": broken.height}
    if broken.height:
        told["examples"] = dg.MetadataValue.md(_markdown(broken.head(_SHOWN)))
    severe = dg.AssetCheckSeverity.WARN if rule.kind == "warning" else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(list(key)),
        check_name=rule.name,
        passed=broken.height == 0,
        severity=severe,
        metadata=told,
    )


def tiles_of_run(context: dg.AssetCheckExecutionContext) -> Tiles:
    """Give the partitions that a run was asked for; None where it was asked for none."""
    if context.has_partition_key_range or context.has_partition_key:
        return list(context.partition_keys)
    return None


def _markdown(rows: pl.DataFrame) -> str:
    """Show a few rows as a table."""
    head = f"| {' | '.join(rows.columns)} |\n|{'---|' * rows.width}\n"
    return head + "\n".join(f"| {' | '.join(str(value) for value in row)} |" for row in rows.iter_rows())
