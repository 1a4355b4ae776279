"""Reconciliations in Dagster: an asset a stream, its check, and a job over many streams.

`reconciliation/<stream>` holds the stream's lake against its declared source, or bronze against the Kafka
log, and tells the report; its check is red while differences stand. Only the schedule asks for it by itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import dagster as dg
import polars as pl
from pydantic import Field

from assets.asked import Asked, Repair
from assets.checked import Rule, Tiles, checks_of, verdict
from assets.reconcile import Reconciled, reconcile
from assets.shell import RETRIES, described, failing_clearly
from assets.verdicts import standing
from resources.kafka import KafkaResource
from resources.lake import Lake
from resources.settings import settings
from resources.storage import LakeResource
from resources.streams import named
from sluice.compare.compared import markdown
from sluice.contract import Changes, Stream

JOB = "reconcile"


class Reconcile(dg.Config):
    """What is held against what, and what is done about differences."""

    against: Literal["declared", "source", "log"] = Field(
        default="declared", description="`declared`: the source where a contract names one, else the log."
    )
    repair: Repair = Field(default="no", description="`dry_run` tells what `yes` would do.")
    overlap: Literal["as_set", "queue", "skip", "fail"] = Field(
        default="as_set", description="While another one of the stream runs; `as_set`: RECONCILE_OVERLAP."
    )
    upto: str | None = Field(default=None, description="A value of `sequence`, for tables that go on.")
    resume: bool = Field(default=False, description="Go on where the last one was stopped (databases).")
    most: int = Field(default=10_000, description="The most differences that are listed, and repaired.")

    def asked(self) -> Asked:
        """Give it with what the settings say."""
        read = settings()
        return Asked(
            against=None if self.against == "declared" else self.against,
            repair=self.repair,
            overlap=read.reconcile_overlap if self.overlap == "as_set" else self.overlap,
            upto=self.upto,
            most=self.most,
            resume=self.resume,
            rows_per_second=read.reconcile_rows_per_second,
            parallel=read.reconcile_parallel,
        )


class ReconcileStreams(Reconcile):
    """The same for many streams."""

    streams: list[str] = Field(default_factory=list, description="Names; empty: all that declare a source.")


def reconciliation_asset(stream: Stream) -> dg.AssetsDefinition:
    """Make the asset `reconciliation/<stream>`."""
    key = dg.AssetKey(["reconciliation", stream.name])
    below = "dimensions" if isinstance(stream, Changes) else "silver"
    spec = dg.AssetSpec(
        key,
        deps=[[below, stream.name]],
        description=described(stream, "What the lake says, held against what its source says."),
        group_name="reconciliation",
        kinds={"duckdb", "deltalake"},
        owners=list(stream.owners),
        tags=dict(stream.tags),
    )

    @dg.multi_asset(name=f"reconciliation_{stream.name}", specs=[spec])
    def reconciliation(
        context: dg.AssetExecutionContext, config: Reconcile, lake: LakeResource, kafka: KafkaResource
    ) -> dg.MaterializeResult[None]:
        with failing_clearly(RETRIES):
            done = reconcile(
                lake.lake, stream, config.asked(), run_id=context.run_id, kafka=kafka, say=context.log.info
            )
        return dg.MaterializeResult(asset_key=key, metadata=told(done))

    return reconciliation


def told(done: Reconciled) -> dict[str, Any]:
    """Tell a report to people."""
    if done.verdict is None:
        return {"said": "skipped: another reconciliation of the stream ran"}
    found, facts = done.verdict.compared, done.verdict.facts()
    before = done.repaired
    repaired = {} if before is None else {"repaired": before.repair, "repaired_report": before.report}
    return repaired | {
        "report": dg.MetadataValue.md(markdown(found, done.told, facts)),
        "equal": found.equal,
        "missing": found.missing,
        "extra": found.extra,
        "different": found.different,
        "position": done.verdict.position,
        "seconds": done.verdict.seconds,
    }


def reconciliation_checks(stream: Stream) -> dg.AssetChecksDefinition:
    """Make the check of `reconciliation/<stream>`."""
    return checks_of(["reconciliation", stream.name], [_rule(stream)])


def _rule(stream: Stream) -> Rule:
    def broken(lake: Lake, _tiles: Tiles) -> pl.DataFrame:
        return standing(lake, stream)

    return Rule("no_differences_stand", "The last reconciliation found lake and source equal.", broken)


def reconcile_job(streams: Sequence[Stream]) -> dg.JobDefinition:
    """Make the job that reconciles streams, one after the other; it fails where differences stand."""

    @dg.op(out=dg.Out(dg.Nothing))
    def reconcile_streams(
        context: dg.OpExecutionContext, config: ReconcileStreams, lake: LakeResource, kafka: KafkaResource
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        chosen = [named(streams, name) for name in config.streams]
        for stream in chosen or [one for one in streams if one.source is not None]:
            key = ["reconciliation", stream.name]
            with failing_clearly():
                done = reconcile(
                    lake.lake,
                    stream,
                    config.asked(),
                    run_id=context.run_id,
                    kafka=kafka,
                    say=context.log.info,
                )
            yield dg.AssetMaterialization(key, metadata=told(done))
            rule = _rule(stream)
            found = verdict(key, rule, lake.lake, None)
            yield dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(key),
                check_name=rule.name,
                passed=found.passed,
                metadata=found.metadata,
                severity=found.severity,
                blocking=True,
            )

    @dg.job(name=JOB, description="Hold lakes against their sources, or bronze against the Kafka log.")
    def reconcile_all() -> None:
        reconcile_streams()

    return reconcile_all
