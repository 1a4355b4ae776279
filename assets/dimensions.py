"""Dimensions: the latest image or the full history of every entity, folded from silver's changes."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from assets.checked import Finding, checks_of
from assets.merge import merge
from assets.shell import RETRIES, column_lineage, column_schema, described, failing_clearly, table_metadata
from resources.lake import Lake
from resources.storage import LakeResource
from sluice import tables
from sluice.contract import Changes
from sluice.scd2 import intervals_broken, tracked


def dimension_asset(stream: Changes) -> dg.AssetsDefinition:
    """Make the asset `dimensions/<stream>`."""
    table = tables.dimension(stream)
    silver = tables.silver(stream)
    origins = {name: [name] for name in table.columns if name in silver.columns}
    if stream.history:
        origins |= {name: ["_valid_from"] for name in ("valid_from", "valid_to")}

    spec = dg.AssetSpec(
        table.name.split("/"),
        deps=[silver.name.split("/")],
        description=described(stream, table.description),
        group_name="dimensions",
        kinds={"polars", "deltalake"},
        owners=list(stream.owners),
        tags=dict(stream.tags),
        code_version=stream.code_version,
        metadata={
            "dagster/column_schema": column_schema(table, stream.columns),
            "dagster/column_lineage": column_lineage(silver.name, origins),
        },
    )

    @dg.multi_asset(
        name=table.name.replace("/", "_"),
        specs=[spec],
        backfill_policy=dg.BackfillPolicy.single_run(),  # so that a range of tiles and it can be one run
        pool=table.name.replace("/", "_"),
        retry_policy=RETRIES,
    )
    def dimension(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        with failing_clearly():
            done = merge(lake.lake, stream, say=context.log.info)
        told = {"silver_version": done.silver_version, "buckets_folded": done.buckets}
        if not done.buckets:
            told["said"] = "unchanged"  # type: ignore[assignment]  # metadata of any kind
        return dg.MaterializeResult(asset_key=spec.key, metadata=table_metadata(lake.lake, table) | told)

    return dimension


def dimension_checks(stream: Changes) -> dg.AssetChecksDefinition:
    """Make the checks of `dimensions/<stream>`: its intervals, and keys seen in two Kafka partitions."""
    key = ["dimensions", stream.name]

    def find(lake: Lake, _tiles: list[str] | None) -> Iterator[Finding]:
        rows = lake.read(tables.dimension(stream)).collect()
        broken = intervals_broken(rows, stream.keys, history=stream.history, track=tracked(stream))
        yield Finding("intervals_hold", broken, "Intervals of a key are disjoint, not empty, in order.")
        if not _ordered_by_offset(stream):
            return
        changes = lake.read(tables.silver(stream)).group_by(stream.keys)
        spread = changes.agg(partitions=pl.col("_partition").n_unique()).filter(pl.col("partitions") > 1)
        yield Finding(
            "keys_in_one_partition",
            spread.collect(),
            "Offsets order the changes of a key only within one Kafka partition; these keys were seen in "
            "more, and are ordered by timestamp and offset: name a `sequence`.",
        )

    warning = ("keys_in_one_partition",) if _ordered_by_offset(stream) else ()
    return checks_of(key, find, blocking=("intervals_hold",), warning=warning)


def _ordered_by_offset(stream: Changes) -> bool:
    return not stream.sequences and not hasattr(stream.value, "source")
