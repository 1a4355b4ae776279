"""Gold: each dbt model an asset, each of its tests a check, each UTC event date a partition.

A run builds its dates, one or a range, by one `dbt build`; what is staged, audited and published is decided
in `dbt_project/`. Here it is decided which models exist (those whose streams are declared, with the columns
that they need), and what Dagster is told: versions read, rows, lineage, and which guard refused what.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation, DbtCliResource, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from assets.shell import (
    RETRIES,
    failing_clearly,
    partitions_of,
    table_metadata,
    tile_rows,
    try_again,
)
from resources.dbt import Manifest, columns_read, models, models_within, prepared_manifest, sources_of
from resources.dbt_delta import GUARDS, INVOCATION, RETRYABLE, ROWS, SOURCES, WINDOW
from resources.dbt_lineage import column_origins
from resources.lake import Lake
from resources.storage import LakeResource
from sluice import tables
from sluice.contract import Changes, Events, Stream
from sluice.tables import Table

_DAY = timedelta(days=1)
_RECENT = 50  # commits of a table that are searched for the one of this run
_REFUSING = re.compile(r"\[(test\.[^\]\s]+)\]")  # how dbt_project/macros/audit.sql names a guard


def declared_tables(streams: Sequence[Stream]) -> dict[str, Table]:
    """Give the tables that gold may read: silver of each stream, and the dimensions."""
    found = [tables.silver(stream) for stream in streams]
    found += [tables.dimension(stream) for stream in streams if isinstance(stream, Changes)]
    return {table.name: table for table in found}


class GoldTranslator(DagsterDbtTranslator):
    """Names dbt's models and sources as the lake does, and maps a date to the tiles of its day."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        super().__init__()
        self._streams = {stream.name: stream for stream in streams}

    def get_asset_spec(self, manifest: Manifest, unique_id: str, project: Any) -> dg.AssetSpec:
        """Add what gold's tables are made with."""
        spec: dg.AssetSpec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(kinds={"dbt", "duckdb", "deltalake"})

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Give the path in the lake."""
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([dbt_resource_props["source_name"], dbt_resource_props["name"]])
        return dg.AssetKey(["gold", dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Put models into the group `gold`; sources have theirs already."""
        return None if dbt_resource_props["resource_type"] == "source" else "gold"

    def get_partition_mapping(
        self, dbt_resource_props: Mapping[str, Any], dbt_parent_resource_props: Mapping[str, Any]
    ) -> dg.PartitionMapping | None:
        """Map a date to the tiles of its day; to all tiles where those are days of another time zone."""
        del dbt_resource_props
        stream = self._streams.get(dbt_parent_resource_props["name"])
        if dbt_parent_resource_props.get("source_name") != "silver" or stream is None:
            return None
        if stream.partitions.timezone != "UTC":
            return dg.AllPartitionMapping()
        return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def gold_assets(streams: Sequence[Stream]) -> list[dg.AssetsDefinition]:
    """Make gold's assets `gold/<model>` of the streams declared; none where no model can be built.

    They need the resources `dbt` (`resources.dbt.dbt_resource`) and `lake`.
    """
    manifest = prepared_manifest()
    found = models_within(manifest, {name: t.columns for name, t in declared_tables(streams).items()})
    if not found:
        return []
    read = {name for model in found for name in sources_of(manifest, model)}
    left_out = set(models(manifest)) - set(found)
    unusable = [
        node["name"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test" and not left_out.isdisjoint(node["depends_on"]["nodes"])
    ]

    @dbt_assets(
        name="gold",
        manifest=manifest,
        select=" ".join(node["name"] for node in found.values()),
        exclude=" ".join(["resource_type:unit_test", *unusable]),
        dagster_dbt_translator=GoldTranslator(streams),
        partitions_def=dates([stream for stream in streams if f"silver/{stream.name}" in read]),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool="gold",
    )
    def assets(context: dg.AssetExecutionContext, dbt: DbtCliResource, lake: LakeResource) -> Iterator[Any]:
        with failing_clearly(RETRIES):
            yield from _built(context, dbt, lake.lake, manifest)

    return [assets]


def _built(
    context: dg.AssetExecutionContext, dbt: DbtCliResource, lake: Lake, manifest: Manifest
) -> Iterator[Any]:
    """Let dbt build, and tell what came of it."""
    arguments = ["build"]
    if days := _days(context):
        arguments += ["--vars", json.dumps({"min_date": days[0], "max_date": days[-1]})]
    with tempfile.TemporaryDirectory(prefix="sluice-dbt-") as folder:
        run = dbt.cli(arguments, context=context, target_path=Path(folder), raise_on_error=False)
        for event in run.stream():
            yield from _told(context, lake, run, manifest, event)
        if not run.is_successful():
            yield from _refused(context, run, manifest)


def dates(streams: Sequence[Stream]) -> dg.DailyPartitionsDefinition:
    """Give the UTC dates of gold: from the earliest event that its streams believe, to today.

    Events are believed from one day before their stream's start, unless its `event_time_range` says else.
    """
    firsts = []
    for stream in streams:
        first = stream.partitions.first - _DAY
        if isinstance(stream, Events) and isinstance(stream.event_time_range, tuple):
            first = stream.event_time_range[0] or first
        firsts.append(partitions_of(stream).start if first is None else first)
    return dg.DailyPartitionsDefinition(
        start_date=min(firsts).date().isoformat(), timezone="UTC", end_offset=1
    )


def _days(context: dg.AssetExecutionContext) -> Sequence[str]:
    """Give the dates of a run, in order; none where it was asked for no date, and so for all."""
    asked = context.has_partition_key or context.has_partition_key_range
    return sorted(context.partition_keys) if asked else ()


def _told(
    context: dg.AssetExecutionContext, lake: Lake, run: DbtCliInvocation, manifest: Manifest, event: Any
) -> Iterator[Any]:
    """Add to dbt's events what the lake knows of them."""
    days = _days(context)
    span = "all" if not days else days[0] if len(days) == 1 else f"{days[0]}...{days[-1]}"
    match event:
        case dg.Output():
            unique_id, invocation = (str(event.metadata[n].value) for n in ("unique_id", "invocation_id"))
            more = _published(context, lake, run, manifest, unique_id, invocation)
            yield dg.Output(None, event.output_name, metadata={**event.metadata, **more})
        case dg.AssetCheckResult():
            yield event._replace(metadata={**(event.metadata or {}), "dates": dg.TextMetadataValue(span)})
        case _:
            yield event


def _published(
    context: dg.AssetExecutionContext,
    lake: Lake,
    run: DbtCliInvocation,
    manifest: Manifest,
    unique_id: str,
    invocation: str,
) -> dict[str, Any]:
    """Describe the commit that a run made of a model, by what the commit itself says."""
    node = manifest["nodes"][unique_id]
    name, by = f"gold/{node['name']}", node["config"].get("partition_by")
    newest = lake.open(name)
    commits = newest.history(_RECENT) if newest else []
    mine = next((commit for commit in commits if commit.get(INVOCATION) == invocation), None)
    if mine is None:
        return {}
    handle = lake.open(name, int(mine["version"]))
    if handle is None:
        return {}
    if by:
        counted = tile_rows(handle, by)
        for day in _days(context):
            rows = {"dagster/partition_row_count": counted.get(day, 0)}
            context.add_asset_metadata(rows, asset_key=["gold", node["name"]], partition_key=day)
    compiled = run.target_path / "compiled" / node["package_name"] / node["original_file_path"]
    origins = column_origins(compiled.read_text(), node["columns"], columns_read(manifest, unique_id))
    table = Table(name, {}, (by,) if by else (), node["description"])
    return table_metadata(lake, table, handle) | {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column: [
                    dg.TableColumnDep(asset_key=dg.AssetKey(t.split("/")), column_name=c) for t, c in found
                ]
                for column, found in origins.items()
            }
        ),
        "versions_read": json.loads(mine[SOURCES]),
        "dates_replaced": json.loads(mine[WINDOW]) or "all",
        "rows_written": int(mine[ROWS]),
        "guards_passed": json.loads(mine[GUARDS]),
    }


def _refused(
    context: dg.AssetExecutionContext, run: DbtCliInvocation, manifest: Manifest
) -> Iterator[dg.AssetCheckResult]:
    """Fail the checks whose guards refused staged rows, then the run, with the errors in dbt's words."""
    results = Path(run.target_path) / "run_results.json"
    failed = json.loads(results.read_text())["results"] if results.exists() else []
    errors = [r["message"] or r["unique_id"] for r in failed if r["status"] in ("error", "fail")]
    translator = run.dagster_dbt_translator
    for message in errors:
        for test in dict.fromkeys(_REFUSING.findall(message)):
            key = get_asset_check_key_for_test(manifest, translator, test, project=None)
            if key is not None and key in context.selected_asset_check_keys:
                yield dg.AssetCheckResult(
                    passed=False, asset_key=key.asset_key, check_name=key.name, metadata={"refused": message}
                )
    told = "\n\n".join(errors) or str(run.get_error())
    if errors and all(RETRYABLE in message for message in errors):
        context.log.error(told)
        raise try_again(RETRIES)
    raise dg.Failure(description=told, allow_retries=False)
