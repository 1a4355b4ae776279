"""Bronze: one asset a stream, its records as they came, by tile; and the checks that none is missing."""

from collections import defaultdict

import dagster as dg
import polars as pl

from assets import equations, proofs, reingest
from assets.checked import Rule, Tiles, checks_of
from assets.ingest import Limits, ingest
from assets.shell import (
    RETRIES,
    Materialize,
    column_schema,
    described,
    failing_clearly,
    partitions_of,
    seldom,
    table_metadata,
    tile_rows,
)
from resources.kafka import KafkaResource
from resources.lake import Lake
from resources.settings import settings
from resources.storage import LakeResource
from sluice import tables
from sluice.contract import Stream
from sluice.errors.base import some


def limits() -> Limits:
    """Give the bounds of a batch, as set."""
    return Limits(settings().batch_rows, settings().batch_bytes)


def bronze_asset(stream: Stream) -> dg.AssetsDefinition:
    """Make the asset `bronze/<stream>`."""
    table = tables.bronze(stream)

    spec = dg.AssetSpec(
        table.name.split("/"),
        deps=[dg.AssetKey(["kafka", stream.topic])],
        description=described(stream, f"Records of topic `{stream.topic}` as they came, by tile."),
        partitions_def=partitions_of(stream),
        group_name="bronze",
        kinds={"kafka", "deltalake"},
        owners=list(stream.owners),
        tags=dict(stream.tags),
        metadata={"dagster/column_schema": column_schema(table), "topic": stream.topic},
    )

    @dg.multi_asset(
        name=f"bronze_{stream.name}",
        specs=[spec],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=f"bronze_{stream.name}",
    )
    def bronze(
        context: dg.AssetExecutionContext, config: Materialize, lake: LakeResource, kafka: KafkaResource
    ) -> dg.MaterializeResult[None]:
        wanted = list(context.partition_keys)
        with failing_clearly(RETRIES):
            done = ingest(
                lake.lake,
                kafka,
                stream,
                wanted,
                run_id=context.run_id,
                limits=limits(),
                say=seldom(context.log.info),
            )
            replaced = reingest.mend(
                lake.lake,
                kafka,
                stream,
                wanted,
                run_id=context.run_id,
                limits=limits(),
                every=config.replace,
            )
            handle = lake.lake.ensure(table)
            by_tile = tile_rows(handle, "tile")
            new: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
            for piece in done.slices:
                new[piece.tile][piece.partition] += [piece.first_offset, piece.next_offset]
            for tile in wanted:
                read = {partition: (min(ends), max(ends)) for partition, ends in new[tile].items()}
                context.add_asset_metadata(
                    {
                        "dagster/partition_row_count": by_tile.get(tile, 0),
                        "new_offsets": sum(stop - first for first, stop in read.values()),
                        "offsets": {str(p): f"{first}..{stop}" for p, (first, stop) in read.items()},
                    },
                    asset_key=spec.key,
                    partition_key=tile,
                )
            said = [*done.notes, *replaced] or ([] if done.rows else ["unchanged"])
            summary = {"records": done.rows, "holes": done.holes, "said": some(said, "; ") or "appended"}
            return dg.MaterializeResult(
                asset_key=spec.key, metadata=table_metadata(lake.lake, table, handle) | summary
            )

    return bronze


def topic_asset(stream: Stream) -> dg.AssetSpec:
    """Show the topic that bronze reads."""
    return dg.AssetSpec(
        ["kafka", stream.topic],
        description=f"The Kafka topic `{stream.topic}`.",
        group_name="kafka",
        kinds={"kafka"},
    )


def bronze_checks(stream: Stream) -> dg.AssetChecksDefinition:
    """Make the checks of `bronze/<stream>`."""
    return checks_of(["bronze", stream.name], bronze_rules(stream))


def bronze_rules(stream: Stream) -> list[Rule]:
    """Give what is checked of `bronze/<stream>`: the first two equations, and no loss."""

    def unbalanced(lake: Lake, _tiles: Tiles) -> pl.DataFrame:
        return equations.unbalanced(lake, stream, "bronze")

    def unequal(lake: Lake, tiles: Tiles) -> pl.DataFrame:
        return proofs.unequal(lake, stream, "bronze", tiles)

    def holes(lake: Lake, tiles: Tiles) -> pl.DataFrame:
        lost = equations.holes(lake, stream)
        return lost if tiles is None else lost.filter(pl.col("tile").is_in(tiles))

    def failed(lake: Lake, _tiles: Tiles) -> pl.DataFrame:
        return pl.concat([unequal(lake, None), holes(lake, None)], how="diagonal")

    fills = "Records, gaps and holes fill the range of"
    return [
        Rule("accounts_balance", "Every account adds up (equation 1).", unbalanced, live=True),
        Rule("offsets_accounted_for", f"{fills} each tile of the run (equation 2).", unequal),
        Rule(
            "nothing_lost",
            "No record of the run's tiles was gone before it was read, or the loss is acknowledged.",
            holes,
            live=True,
        ),
        Rule("no_tile_left_failed", f"{fills} every tile, and nothing was lost.", failed, "standing"),
    ]
