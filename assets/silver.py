"""Silver: typed, valid, deduplicated rows of a stream, beside them its quarantine and its losers.

The three tables are decided together, tile by tile; each is an asset. The checks count from the tables.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from assets import aftermath, equations, proofs
from assets.bronze import limits
from assets.checked import Rule, Tiles, checks_of
from assets.refine import Refined, refine
from assets.repair import due
from assets.shell import (
    RETRIES,
    Materialize,
    column_lineage,
    column_schema,
    described,
    failing_clearly,
    partitions_of,
    seldom,
    table_metadata,
)
from resources.lake import Lake
from resources.storage import LakeResource
from sluice import tables
from sluice.contract import Events, Stream
from sluice.errors.base import some
from sluice.judged import ROW_OF
from sluice.tables import Table

_COUNTS = ("read", "accepted", "duplicates", "conflicts", "quarantined", "tombstones", "ignored", "late")
_NAMED = 20  # members that no column takes, told by name


def silver_assets(stream: Stream) -> dg.AssetsDefinition:
    """Make the assets `silver/<stream>`, `quarantine/<stream>` and `losers/<stream>`."""
    silver, refused, lost = tables.silver(stream), tables.quarantine(stream), tables.losers(stream)
    bronze = tables.bronze(stream).name
    lineage = {name: [ROW_OF.get(name, "value")] for name in silver.columns}
    told = {
        silver.name: "Typed, valid, deduplicated rows.",
        refused.name: "Records that silver refused, with their bytes and the reason.",
        lost.name: "Duplicates and conflicts, each with the row that stands for it.",
    }

    def spec(table: Table, kinds: set[str]) -> dg.AssetSpec:
        origins = lineage if table is silver else {n: [n] for n in table.columns if n in tables.BRONZE}
        return dg.AssetSpec(
            table.name.split("/"),
            deps=[bronze.split("/")],
            description=described(stream, told[table.name]),
            group_name=table.name.split("/")[0],
            kinds=kinds,
            owners=list(stream.owners),
            tags=dict(stream.tags),
            code_version=stream.code_version,
            partitions_def=partitions_of(stream),
            skippable=True,
            metadata={
                "dagster/column_schema": column_schema(table, stream.columns if table is not refused else ()),
                "dagster/column_lineage": column_lineage(bronze, origins),
            },
        )

    @dg.multi_asset(
        name=f"silver_{stream.name}",
        specs=[spec(table, {"polars", "deltalake"}) for table in (silver, refused, lost)],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=f"silver_{stream.name}",
    )
    def assets(
        context: dg.AssetExecutionContext, config: Materialize, lake: LakeResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        wanted = list(context.partition_keys)
        with failing_clearly(RETRIES):
            done = refine(
                lake.lake,
                stream,
                [*wanted, *due(lake.lake, stream)],
                run_id=context.run_id,
                limits=limits(),
                replace=config.replace,
                say=seldom(context.log.info),
            )
            if isinstance(stream, Events) and (empty := sum(a.tombstones for a in done.accounts)):
                context.log.warning("%d tombstones: they mean nothing for events, and have no effect", empty)
            if done.unknown:
                context.log.warning("members that no column takes: %s", _unknown(done))
            for table in (silver, refused, lost):
                key = dg.AssetKey(table.name.split("/"))
                if key not in context.selected_asset_keys:
                    continue
                if table is silver:
                    for tile, counts in _by_tile(lake.lake, stream, wanted).items():
                        context.add_asset_metadata(counts, asset_key=key, partition_key=tile)
                summary = _summary(done) if table is silver else {}
                yield dg.MaterializeResult(asset_key=key, metadata=table_metadata(lake.lake, table) | summary)

    return assets


def _summary(done: Refined) -> dict[str, Any]:
    """Tell what a run did to silver: shortly, since the event of each of its tiles carries it."""
    said = done.notes or ([] if done.accounts else ["unchanged"])
    counts = {name: sum(getattr(a, name) for a in done.accounts) for name in _COUNTS}
    return counts | {
        "touched_dates": some([day.isoformat() for day in sorted(done.touched)]),
        "unknown_members": _unknown(done),
        "said": some(said, "; ") or "decided what was new",
    }


def _unknown(done: Refined) -> dict[str, int]:
    """Count the members that no column takes, of the most frequent names."""
    return dict(done.unknown.most_common(_NAMED))


def _by_tile(lake: Lake, stream: Stream, wanted: list[str]) -> dict[str, dict[str, Any]]:
    """Tell what became of the records of each tile, as its accounts say."""
    told = aftermath.current(lake, stream, "silver", pl.col("tile").is_in(wanted), _COUNTS)
    counted = told.group_by("tile").agg(pl.col(_COUNTS).sum()).collect(engine="streaming")
    return {
        row.pop("tile"): row | {"dagster/partition_row_count": row["accepted"]}
        for row in counted.iter_rows(named=True)
    }


def silver_checks(stream: Stream) -> dg.AssetChecksDefinition:
    """Make the checks of `silver/<stream>`."""
    return checks_of(["silver", stream.name], silver_rules(stream))


def silver_rules(stream: Stream) -> list[Rule]:
    """Give what is checked of `silver/<stream>`: the equations, and the share that was refused."""

    def unbalanced(lake: Lake, _tiles: Tiles) -> pl.DataFrame:
        return equations.unbalanced(lake, stream, "silver")

    def unequal(lake: Lake, tiles: Tiles) -> pl.DataFrame:
        return proofs.unequal(lake, stream, "silver", tiles)

    def over(lake: Lake, tiles: Tiles) -> pl.DataFrame:
        found = equations.over_quarantined(lake, stream)
        return found if tiles is None else found.filter(pl.col("tile").is_in(tiles))

    def failed(lake: Lake, _tiles: Tiles) -> pl.DataFrame:
        both = [unequal(lake, None).select("tile"), over(lake, None).select("tile")]
        return pl.concat(both).unique().sort("tile")

    share = f"At most {stream.max_quarantined:.2%} of a tile's records are in quarantine."
    return [
        Rule("accounts_balance", "Every account adds up (equation 1).", unbalanced, live=True),
        Rule("records_accounted_for", "Each record of the run is in one place (equation 3).", unequal),
        Rule("quarantine_within_limit", share, over, live=True),
        Rule("no_tile_left_failed", "Both hold for every tile, also older ones.", failed, "standing"),
    ]
