"""Which offsets each tile owns: the bounds of `system/tiles`, written once and before they are used.

A tile's range begins where the tile before it ends, as written, so the tiles of a Kafka partition tile its
log. A bound is planned only when its time has passed; it is never computed again, and of two runs that
plan one, the first writer wins. Where a bound lies is decided in `sluice.tiles`, except that what an open
tile has taken stays its own; here it is kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import takewhile

import polars as pl

from assets.progress import Bounds, seal
from resources.kafka import KafkaResource, Topic
from resources.lake import Lake
from sluice.contract import Stream
from sluice.errors import LogCutError, PartitionsChangedError, TopicMissingError, TopicRecreatedError
from sluice.partitions import Window
from sluice.tables import REPAIR, TILES, TILES_TABLE
from sluice.tiles import bounds, first_offset

__all__ = ["Bounds", "close", "ensure", "every_epoch", "known", "stored"]

_KEY = ("epoch", "tile", "partition")
_AT_ONCE = 8  # partitions planned side by side


def stored(lake: Lake, stream: Stream) -> pl.DataFrame:
    """Read a stream's tiles of its epoch, in order, without those of repairs (columns: TILES)."""
    mine = (pl.col("stream") == stream.name) & _of_log(stream)
    return lake.read(TILES_TABLE).filter(mine).collect().sort("tile", "partition")


def _of_log(stream: Stream) -> pl.Expr:
    return (pl.col("epoch") == stream.epoch) & ~pl.col("tile").str.starts_with(REPAIR)


def every_epoch(lake: Lake, stream: Stream, wanted: Iterable[str] | None = None) -> list[Bounds]:
    """Give the bounds of tiles (of all, if none are named) in every epoch, in order."""
    mine = pl.col("stream") == stream.name
    if wanted is not None:
        mine &= pl.col("tile").is_in(list(wanted))
    return _bounds(lake.read(TILES_TABLE).filter(mine).collect().sort(*_KEY))


def known(lake: Lake, stream: Stream, wanted: Iterable[str]) -> list[Bounds]:
    """Give the bounds of tiles as far as they are written, in order."""
    rows = stored(lake, stream).filter(pl.col("tile").is_in(list(wanted)))
    return _bounds(rows)


def _bounds(rows: pl.DataFrame) -> list[Bounds]:
    names = ("tile", "partition", "topic_id", "epoch", "first_offset", "next_offset")
    return [Bounds(*row) for row in rows.select(names).iter_rows()]


def _closing(mine: pl.DataFrame, windows: Sequence[Window], now: datetime) -> list[Bounds]:
    """Give the bounds that are open and whose tile's time has passed."""
    passed = [window.tile for window in windows if window.end <= now]
    return _bounds(mine.filter(pl.col("next_offset").is_null() & pl.col("tile").is_in(passed)))


def ensure(
    lake: Lake, kafka: KafkaResource, stream: Stream, wanted: Sequence[str], now: datetime
) -> list[Bounds]:
    """Write the bounds, not the data, of all tiles up to the last one wanted; give the wanted ones.

    Raises:
        TopicRecreatedError: the topic has another id than the one that was read before.
        LogCutError: a log ends before the tile that is to be bounded begins, or before what bronze has of it.
        TopicMissingError: there is none; it says what the lake keeps of it.
        PartitionsChangedError: the lake was built with other partitions.
    """
    topic = _topic(lake, kafka, stream)
    last = stream.partitions.window(max(wanted))
    windows = list(takewhile(lambda w: w.start <= last.start, stream.partitions.windows(now)))

    def step() -> None:
        handle = lake.ensure(TILES_TABLE)
        every = lake.scan(handle).filter(pl.col("stream") == stream.name).collect()
        mine = every.filter(_of_log(stream))
        _refuse_another(stream, topic, mine)
        reached = seal(lake, stream, _closing(mine, windows, now))
        planned = _plan(kafka, stream, topic, mine, windows, now, reached)
        if planned.height:
            rows = pl.concat([planned, every]).unique(["epoch", "tile", "partition"], keep="first")
            lake.commit(
                handle,
                rows.sort(*_KEY),
                mode="overwrite",
                predicate=f"stream = '{stream.name}'",
                fences=[f"tiles/{stream.name}"],
            )

    lake.retrying(TILES_TABLE.name, step)
    return known(lake, stream, wanted)


def _topic(lake: Lake, kafka: KafkaResource, stream: Stream) -> Topic:
    try:
        return kafka.topic(stream.topic)
    except TopicMissingError as error:
        rows = stored(lake, stream)
        if not rows.height:
            raise
        tiles, partitions = sorted(rows["tile"]), rows["partition"].n_unique()
        held = f"what it read of tiles {tiles[0]} to {tiles[-1]}, {partitions} partitions"
        raise TopicMissingError(error.topic, error.servers, held) from error


def _refuse_another(stream: Stream, topic: Topic, mine: pl.DataFrame) -> None:
    for known_id in mine["topic_id"].unique():
        if known_id != topic.id:
            raise TopicRecreatedError(stream.name, topic.name, known_id, topic.id, stream.epoch)
    first = stream.partitions.tile_at(stream.partitions.first)
    if mine.height and mine["tile"].min() != first:  # names of hours and of days differ too
        raise PartitionsChangedError(stream.name, str(mine["tile"].min()), first)


def _plan(
    kafka: KafkaResource,
    stream: Stream,
    topic: Topic,
    mine: pl.DataFrame,
    windows: Sequence[Window],
    now: datetime,
    reached: Mapping[int, int],
) -> pl.DataFrame:
    """Give the rows of `system/tiles` that are missing, or open and can be closed now.

    `reached` has by partition what bronze took of its open tile already: the tile's end lies there or after.
    """
    frontier = _first_open(mine, windows)
    rows: list[dict[str, object]] = []
    due: dict[
        int, tuple[list[Window], list[Window]]
    ] = {}  # by partition, tiles to be bounded, and to be open
    for partition in topic.partitions:
        own = mine.filter(pl.col("partition") == partition)
        last = own.filter(pl.col("next_offset").is_not_null())["tile"].max()
        # go on where the last bound lies; a new stream begins at its first tile, a partition added later at
        # the open one
        rest = list(windows[frontier:]) if last is None else [w for w in windows if w.tile > str(last)]
        passed = list(takewhile(lambda w: w.end <= now, rest))
        open_windows = rest[len(passed) : len(passed) + 1]
        if passed or (open_windows and open_windows[0].tile not in set(own["tile"])):
            due[partition] = passed, open_windows
    logs = kafka.logs(topic.name, list(due))

    def plan(partition: int) -> list[dict[str, object]]:
        own = mine.filter(pl.col("partition") == partition)
        bounded = own.filter(pl.col("next_offset").is_not_null()).sort("tile")
        passed, open_windows = due[partition]
        log = logs[partition]
        if bounded.height:
            first = bounded["next_offset"][-1]
        elif own.height:
            first = own["first_offset"][0]
        elif mine.height:
            first = log.low
        else:
            first = first_offset(log, _milliseconds(stream.partitions.first))
        begin = max(first, reached.get(partition, first))
        if log.high < begin:
            raise LogCutError(stream.name, topic.name, partition, begin, log.high, stream.epoch)
        ends = bounds(log, begin, [_milliseconds(w.end) for w in passed], _milliseconds(now))
        return [
            {"tile": window.tile, "partition": partition, "first_offset": begin, "next_offset": end}
            for window, begin, end in zip(
                [*passed, *open_windows], [first, *ends], [*ends, *(None for _ in open_windows)], strict=False
            )
        ]

    with ThreadPoolExecutor(_AT_ONCE) as pool:  # each waits for the broker most of the time
        for found in pool.map(plan, due):
            rows += found
    common = {
        "stream": stream.name,
        "topic_id": topic.id,
        "epoch": stream.epoch,
        "written_at": datetime.now(UTC),
        "closed_at": None,
    }
    return pl.DataFrame([row | common for row in rows], schema=TILES, orient="row")


def _first_open(mine: pl.DataFrame, windows: Sequence[Window]) -> int:
    """Count the tiles that are bounded for some partition: a later partition has no part in them."""
    bounded = mine.filter(pl.col("next_offset").is_not_null())
    if not bounded.height:
        return 0
    last = bounded["tile"].max()
    return sum(1 for window in windows if window.tile <= str(last))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def close(lake: Lake, stream: Stream, complete: Iterable[Bounds]) -> None:
    """Note that bronze has read all of some tiles; the bounds stay as they are."""
    keys = pl.DataFrame(
        [(b.epoch, b.tile, b.partition) for b in complete],
        schema={name: TILES[name] for name in _KEY},
        orient="row",
    )

    def step() -> None:
        handle = lake.ensure(TILES_TABLE)
        rows = lake.scan(handle).filter(pl.col("stream") == stream.name).collect()
        stamp = pl.lit(datetime.now(UTC)).cast(TILES["closed_at"])
        closing = rows.filter(pl.col("closed_at").is_null()).join(keys, on=_KEY, how="semi")
        if closing.height:
            rest = rows.join(closing, on=_KEY, how="anti")
            lake.commit(
                handle,
                pl.concat([rest, closing.with_columns(closed_at=stamp)]).sort(*_KEY),
                mode="overwrite",
                predicate=f"stream = '{stream.name}'",
                fences=[f"tiles/{stream.name}"],
            )

    if keys.height:
        lake.retrying(TILES_TABLE.name, step)
