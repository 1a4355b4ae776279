"""The arrivals sensor: which tiles have something that the lake does not have yet.

Compares Kafka's watermarks with the offsets committed in the tables, so it needs no memory: its cursor only
turns the order of streams, so that none starves. What bronze lacks is asked for first, before retention takes
it; then what only silver lacks, without tiles that wait for something else. Contiguous tiles are one range
run, a bounded number a tick; a stream with a queued or running run, or that a continuous run follows, is left
alone. Every skip says why; an absent broker is a skip.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
from deltalake import DeltaTable

from assets import bounds, equations, leases, logs
from assets.bounds import Bounds
from assets.progress import position
from resources.kafka import KafkaResource, Watermarks
from resources.lake import Lake
from resources.settings import settings
from resources.storage import LakeResource
from sluice import tables
from sluice.contract import Stream
from sluice.errors import KafkaUnreachableError, SettingsError, SluiceError
from sluice.errors.base import some

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
START = "dagster/asset_partition_range_start"
END = "dagster/asset_partition_range_end"
MAX_RUNTIME = "dagster/max_runtime"
STREAM = "sluice/stream"
_MOST_SECONDS = 2 * 60 * 60  # of a run, then Dagster ends it: what it committed stands, and the next goes on


@dataclass(frozen=True)
class New:
    """The tiles that own offsets which are not committed, in order.

    Attributes:
        unread: bronze lacks some.
        undecided: silver lacks some that bronze has.
        held: as undecided, but an open transaction holds back their end: bronze fails until it is over.
        lost: as undecided, but bronze's check is red until someone acknowledges a loss.
    """

    unread: list[str]
    undecided: list[str]
    held: list[str]
    lost: list[str]

    @property
    def said(self) -> str:
        """Say why none of them is asked for; nothing where there is none."""
        if self.unread or self.undecided:
            return "waits for the next tick, which asks for it first"
        held = f"{some(self.held)} wait for an open transaction" if self.held else ""
        lost = f"{some(self.lost)} wait until a loss is acknowledged" if self.lost else ""
        return "; ".join(filter(None, [held, lost]))


def new_tiles(lake: Lake, kafka: KafkaResource, stream: Stream, now: datetime) -> New:
    """Tell the tiles that own offsets which bronze or silver have not committed."""
    current = stream.partitions.tile_at(now)
    bounds.ensure(lake, kafka, stream, [current], now)
    every = bounds.known(lake, stream, bounds.stored(lake, stream)["tile"].unique())
    marks = logs.watermarks(lake, kafka, stream, {b.partition for b in every})
    bronze = lake.open(tables.bronze(stream).name)
    silver = lake.open(tables.silver(stream).name)

    def lacking(handle: DeltaTable | None) -> set[str]:
        return {b.tile for b in every if position(handle, stream, b) < _end(b, marks)}

    unread = lacking(bronze)
    rest = lacking(silver) - unread
    held = {b.tile for b in every if b.next_offset and b.next_offset > marks[b.partition].stable} & rest
    lost = (set(equations.holes(lake, stream)["tile"]) if rest else set[str]()) & rest - held
    return New(*map(sorted, (unread, rest - held - lost, held, lost)))


def _end(bound: Bounds, marks: Mapping[int, Watermarks]) -> int:
    """Give the end of what can be read of a tile's partition; its beginning, if that is nothing."""
    stable = marks[bound.partition].stable
    end = stable if bound.next_offset is None else min(bound.next_offset, stable)
    return max(bound.first_offset, end)


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


def chosen(stream: Stream, new: New, most: int) -> list[list[str]]:
    """Choose what a tick asks for, at most so many tiles: a range that bronze lacks, then one for silver."""
    found: list[list[str]] = []
    for wanted in filter(None, (new.unread, new.undecided)):
        left = most - sum(map(len, found))
        if left > 0:
            _, last = ranges(stream, wanted, left)[0]
            found.append(wanted[: wanted.index(last) + 1])
    return found


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
                new = new_tiles(lake.lake, kafka, stream, datetime.now(UTC))
            except (KafkaUnreachableError, SettingsError) as error:  # nor for any other stream
                skipped = [str(error)]
                break
            except SluiceError as error:
                skipped.append(f"{name}: {error}")
                continue
            asked = chosen(stream, new, left)
            if not asked:
                skipped.append(f"{name}: {new.said or _nothing(kafka, stream)}")
                continue
            for tiles in asked:
                left -= len(tiles)
                yield _request(stream, tiles[0], tiles[-1])
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
    keys = [dg.AssetKey([layer, stream.name]) for layer in layers]
    tags = {STREAM: stream.name, MAX_RUNTIME: str(_MOST_SECONDS)}
    if first == last:
        return dg.RunRequest(asset_selection=keys, partition_key=first, tags=tags)
    return dg.RunRequest(asset_selection=keys, tags={START: first, END: last, **tags})


def _busy(instance: dg.DagsterInstance, lake: Lake) -> dict[str, str]:
    """Name the streams that a run by this sensor, or a continuous one, is at work on; say which."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    asked = {run.tags[STREAM]: "a run of it is queued or running" for run in runs if STREAM in run.tags}
    return asked | dict.fromkeys(leases.followed(lake), "a continuous run follows it")
