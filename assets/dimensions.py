"""Dimensions: the latest image or the full history of every entity, folded from silver's changes."""

import dagster as dg
import polars as pl

from assets.checked import Rule, Tiles, checks_of
from assets.merge import merge
from assets.shell import RETRIES, column_lineage, column_schema, described, failing_clearly, table_metadata
from resources.lake import Lake
from resources.storage import LakeResource
from sluice import tables
from sluice.contract import Changes
from sluice.dedupe import buckets
from sluice.history.scd2 import forbidden_nulls, intervals_broken, tracked
from sluice.tables import EVERY_BUCKET, REPAIR_PARTITION

VERSIONED = ("valid_from", "valid_to", "is_current", "version")


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
    )
    def dimension(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        with failing_clearly(RETRIES):
            done = merge(lake.lake, stream, say=context.log.info)
        told = {"silver_version": done.silver_version, "buckets_folded": done.buckets}
        if not done.buckets:
            told["said"] = "unchanged"  # type: ignore[assignment]  # metadata of any kind
        return dg.MaterializeResult(asset_key=spec.key, metadata=table_metadata(lake.lake, table) | told)

    return dimension


def dimension_checks(stream: Changes) -> dg.AssetChecksDefinition:
    """Make the checks of `dimensions/<stream>`: intervals, nulls, and keys seen in two Kafka partitions."""

    def intervals(lake: Lake, _tiles: Tiles) -> pl.DataFrame:
        return broken_intervals(lake, stream)

    def spread(lake: Lake, _tiles: Tiles) -> pl.DataFrame:
        return spread_keys(lake, stream)

    def nulls(lake: Lake, _tiles: Tiles) -> pl.DataFrame:
        return forbidden_nulls(lake.read(tables.dimension(stream)), stream).collect()

    rules = [
        Rule("intervals_hold", "A key's intervals are disjoint, not empty and in order.", intervals),
        Rule("no_forbidden_nulls", "What is not null by the contract was sent for every version.", nulls),
    ]
    if _ordered_by_offset(stream):
        says = (
            "Offsets order a key's changes within one Kafka partition only: keys seen in more are ordered by "
            "timestamp and offset. Name a `sequence`."
        )
        rules.append(Rule("keys_in_one_partition", says, spread, "warning"))
    return checks_of(["dimensions", stream.name], rules)


def broken_intervals(lake: Lake, stream: Changes) -> pl.DataFrame:
    """List what no fold could have made (the key columns, `broken`), reading one bucket after the other.

    A key is whole in its bucket; one that stands in another bucket is told, too.
    """
    rows, track = lake.read(tables.dimension(stream)), tracked(stream)
    needed = {*stream.keys, *track, *(VERSIONED if stream.history else ())}
    every = rows.select(pl.col("_bucket").unique()).collect().to_series().sort()
    found = [pl.DataFrame(schema={n: stream.column(n).storage for n in stream.keys} | {"broken": pl.String})]
    for bucket in every:
        mine = rows.filter(pl.col("_bucket") == bucket).select(sorted(needed)).collect()
        found.append(intervals_broken(mine, stream.keys, history=stream.history, track=track))
        keys = mine.select(stream.keys).unique()
        strange = keys.filter(buckets(keys, stream.keys) != bucket)
        found.append(strange.with_columns(broken=pl.lit("a key in another bucket than its own")))
    return pl.concat(found)


def spread_keys(lake: Lake, stream: Changes) -> pl.DataFrame:
    """List the keys that more than one Kafka partition tells of, reading one bucket after the other."""
    changes = lake.read(tables.silver(stream)).filter(pl.col("_partition") != REPAIR_PARTITION)
    every = changes.select(pl.col("_bucket").unique()).collect().to_series().sort()
    schema = {name: stream.column(name).storage for name in stream.keys} | {"partitions": pl.UInt32()}
    found = [pl.DataFrame(schema=schema)]
    for bucket in every.filter(every != EVERY_BUCKET):
        mine = changes.filter(pl.col("_bucket") == bucket).group_by(stream.keys)
        seen = mine.agg(partitions=pl.col("_partition").n_unique()).filter(pl.col("partitions") > 1)
        found.append(seen.collect(engine="streaming"))
    return pl.concat(found)


def _ordered_by_offset(stream: Changes) -> bool:
    return not stream.sequences and not hasattr(stream.value, "source")
