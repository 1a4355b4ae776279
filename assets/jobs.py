"""Jobs: continuous mode, reconciliation, upkeep; by hand replay, acknowledging losses, the ledger again."""

from collections.abc import Iterator, Sequence
from typing import Literal

import dagster as dg
from pydantic import Field

from assets import aftermath
from assets.bronze import limits
from assets.continuous import Options, Run, kept
from assets.flow import Pace
from assets.maintain import maintain_job
from assets.reconciliation import reconcile_job
from assets.reingest import acknowledge
from assets.replay import Choice, replay
from assets.reports import Told
from assets.shell import failing_clearly
from resources.kafka import KafkaResource
from resources.settings import settings
from resources.storage import LakeResource
from resources.streams import named
from sluice.accounts import Layer
from sluice.contract import Stream
from sluice.errors import LedgerDiffersError

CONTINUOUS = "continuous"


class Replay(dg.Config):
    """Which records are replayed: of one stream; lists that are empty mean all."""

    stream: str
    tiles: list[str] = Field(default_factory=list)
    stages: list[str] = Field(default_factory=list)
    rules: list[str] = Field(default_factory=list)


class Acknowledge(dg.Config):
    """Whose losses are acknowledged, and why."""

    stream: str
    reason: str


class Follow(dg.Config):
    """Which streams are followed continuously, and how; times in seconds."""

    streams: list[str]
    until: Literal["stopped", "caught_up"] = "stopped"
    interval: float = Field(default=Pace.interval, description="Between two commits.")
    batch_rows: int = Field(default=Pace.rows, description="The most records of a commit.")
    batch_bytes: int = Field(default=Pace.bytes, description="The most bytes of a commit.")
    report: float = Field(default=Options.report, description="Between two reports of a stream to Dagster.")
    lease: float = Field(default=Options.lease, description="For how long a silent worker counts as alive.")


def jobs(streams: Sequence[Stream]) -> list[dg.JobDefinition]:
    """Make the jobs over the streams of this code location."""
    return [
        _continuous(streams),
        _replay_quarantine(streams),
        _acknowledge_loss(streams),
        _verify_ledger(streams),
        maintain_job(streams),
        reconcile_job(streams),
    ]


def _continuous(streams: Sequence[Stream]) -> dg.JobDefinition:
    @dg.op(out=dg.Out(dg.Nothing))
    def follow(
        context: dg.OpExecutionContext, config: Follow, lake: LakeResource, kafka: KafkaResource
    ) -> Iterator[Told]:
        chosen = [named(streams, name) for name in config.streams]
        pace = Pace(config.interval, config.batch_rows, config.batch_bytes)
        options = Options(config.until, pace, settings().upkeep_seconds, config.report, config.lease, kept())
        with failing_clearly():
            yield from Run(lake.lake, kafka, chosen, context.run_id, options, context.log.info).events()

    @dg.job(name=CONTINUOUS, description="Follow streams and commit every half second, until it is stopped.")
    def continuous() -> None:
        follow()

    return continuous


def _replay_quarantine(streams: Sequence[Stream]) -> dg.JobDefinition:
    @dg.op
    def replay_records(context: dg.OpExecutionContext, config: Replay, lake: LakeResource) -> None:
        choice = Choice(config.tiles, config.stages, config.rules)
        with failing_clearly():
            stream = named(streams, config.stream)
            said = context.log.info
            done = replay(lake.lake, stream, choice, run_id=context.run_id, limits=limits(), say=said)
        context.log.info("%d records read again, %d moved, %d stay", done.read, done.moved, done.kept)
        for layer in ("silver", "quarantine", "losers") if done.moved else ():
            context.log_event(dg.AssetMaterialization([layer, stream.name], metadata={"moved": done.moved}))

    @dg.job(name="replay_quarantine", description="Read refused records again under today's contracts.")
    def replay_quarantine() -> None:
        replay_records()

    return replay_quarantine


def _acknowledge_loss(streams: Sequence[Stream]) -> dg.JobDefinition:
    @dg.op
    def acknowledge_losses(context: dg.OpExecutionContext, config: Acknowledge, lake: LakeResource) -> None:
        with failing_clearly():
            count = acknowledge(lake.lake, named(streams, config.stream), config.reason)
        context.log.info("%d losses of %s acknowledged: %s", count, config.stream, config.reason)

    @dg.job(name="acknowledge_loss", description="Turn `nothing_lost` green again, with a reason.")
    def acknowledge_loss() -> None:
        acknowledge_losses()

    return acknowledge_loss


def _verify_ledger(streams: Sequence[Stream]) -> dg.JobDefinition:
    @dg.op
    def verify_ledgers(context: dg.OpExecutionContext, lake: LakeResource) -> None:
        layers: tuple[Layer, Layer] = ("bronze", "silver")
        with failing_clearly():
            for stream in streams:
                for layer in layers:
                    aftermath.finish(lake.lake, stream, layer)
                    if not aftermath.ledger_is_whole(lake.lake, stream, layer):
                        raise LedgerDiffersError(stream.name, layer)
                    context.log.info("%s/%s: the ledger equals its commits", layer, stream.name)

    @dg.job(name="verify_ledger", description="Make the ledger again from the commits, and compare.")
    def verify_ledger() -> None:
        verify_ledgers()

    return verify_ledger
