"""The arrivals sensor: which tiles have something that the lake does not have yet.

Compares Kafka's watermarks with the offsets committed in the tables, so it needs no memory: its cursor only
turns the order of streams, so that none starves. Contiguous tiles are one range run, a bounded number a tick;
a stream with a queued or running run, or that a continuous run follows, is left alone. Every skip says why;
an absent broker is a skip.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from assets import bounds, leases, logs
from assets.bounds import Bounds
from assets.progress import position
from resources.kafka import KafkaResource
from resources.lake import Lake
from resources.settings import settings
from resources.storage import LakeResource
from sluice import tables
from sluice.contract import Stream
from sluice.errors import KafkaUnreachableError, SettingsError, SluiceError

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
START = "dagster/asset_partition_range_start"
END = "dagster/asset_partition_range_end"
STREAM = "sluice/stream"


def new_tiles(lake: Lake, kafka: KafkaResource, stream: Stream, now: datetime) -> list[str]:
    """List the tiles, in order, that own offsets which bronze or silver have not committed."""
    current = stream.partitions.tile_at(now)
    bounds.ensure(lake, kafka, stream, [current], now)
    every = bounds.known(lake, stream, bounds.stored(lake, stream)["tile"].unique())
    marks = logs.watermarks(lake, kafka, stream, {b.partition for b in every})
    bronze = lake.open(tables.bronze(stream).name)
    silver = lake.open(tables.silver(stream).name)

    def is_new(bound: Bounds) -> bool:
        stable = marks[bound.partition].stable
        if bound.next_offset == bound.first_offset:
            return False
        end = stable if bound.next_offset is None else min(bound.next_offset, stable)
        return min(position(bronze, stream, bound), position(silver, stream, bound)) < end

    return sorted({b.tile for b in every if is_new(b)})


def ranges(stream: Stream, wanted: Sequence[str], most: int) -> list[tuple[str, str]]:
    """Join tiles that follow each other into ranges of at most `most` tiles, first and last named."""
    found: list[list[str]] = []
    for tile in wanted:
        before = found[-1] if found else []
        joins = before and stream.partitions.next(stream.partitions.window(before[-1])).tile == tile
        if joins and len(before) < most:
            before.append(tile)
        else:
            found.append([tile])
    return [(run[0], run[-1]) for run in found]


def arrivals_sensor(streams: Sequence[Stream]) -> dg.SensorDefinition:
    """Make the sensor that asks for bronze and silver of new tiles, in one run each range."""
    by_name = {stream.name: stream for stream in streams}

    @dg.sensor(
        name="arrivals",
        description="Asks for the tiles that have records which the lake does not have yet.",
        target=dg.AssetSelection.groups("bronze", "silver", "quarantine", "losers"),
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def arrivals(
        context: dg.SensorEvaluationContext, lake: LakeResource, kafka: KafkaResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        names = sorted(by_name)
        turn = names.index(context.cursor) + 1 if context.cursor in names else 0
        busy = _busy(context.instance, lake.lake)
        most = left = settings().run_tiles_per_tick
        skipped = []
        for name in names[turn:] + names[:turn]:
            stream = by_name[name]
            if name in busy:
                skipped.append(f"{name}: {busy[name]}")
                continue
            try:
                wanted = new_tiles(lake.lake, kafka, stream, datetime.now(UTC))
                if not wanted:
                    skipped.append(f"{name}: {_nothing(kafka, stream)}")
                    continue
            except (KafkaUnreachableError, SettingsError) as error:  # nor for any other stream
                skipped = [str(error)]
                break
            except SluiceError as error:
                skipped.append(f"{name}: {error}")
                continue
            if left <= 0:
                skipped.append(f"{name}: waits for the next tick, which asks for it first")
                continue
            first, last = ranges(stream, wanted, left)[0]
            left -= wanted.index(last) + 1
            yield _request(stream, first, last)
            context.update_cursor(name)
        if left == most:  # Dagster takes requests or a reason, not both
            yield dg.SkipReason("; ".join(skipped))
        elif skipped:
            context.log.info("not asked for: %s", "; ".join(skipped))

    return arrivals


def _nothing(kafka: KafkaResource, stream: Stream) -> str:
    """Say why there is nothing to ask for."""
    marks = kafka.watermarks(stream.topic, kafka.topic(stream.topic).partitions)
    held = logs.held(kafka, stream, marks)
    return f"nothing new, and an open transaction holds {held}" if held else "nothing new"


def _request(stream: Stream, first: str, last: str) -> dg.RunRequest:
    layers = ("bronze", "silver", "quarantine", "losers")
    chosen = [dg.AssetKey([layer, stream.name]) for layer in layers]
    if first == last:
        return dg.RunRequest(asset_selection=chosen, partition_key=first, tags={STREAM: stream.name})
    return dg.RunRequest(asset_selection=chosen, tags={START: first, END: last, STREAM: stream.name})


def _busy(instance: dg.DagsterInstance, lake: Lake) -> dict[str, str]:
    """Name the streams that a run by this sensor, or a continuous one, is at work on; say which."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    asked = {run.tags[STREAM]: "a run of it is queued or running" for run in runs if STREAM in run.tags}
    return asked | dict.fromkeys(leases.followed(lake), "a continuous run follows it")
