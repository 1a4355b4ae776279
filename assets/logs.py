"""How far the logs of a stream's topic go now, and what holds them back.

Decides that what the lake knows of a log must be there: one that ends before (a broker lost its disk, or one
that lagged was elected) would give other records at offsets that are taken, so it is refused by name. A log
that was cut and has grown beyond what is known again cannot be told from one that was not.
"""

from collections.abc import Collection, Mapping

import polars as pl

from assets import bounds
from assets.progress import position
from resources.kafka import KafkaResource, Watermarks
from resources.lake import Lake
from sluice import tables
from sluice.contract import Stream
from sluice.errors import LogCutError


def watermarks(
    lake: Lake, kafka: KafkaResource, stream: Stream, partitions: Collection[int]
) -> dict[int, Watermarks]:
    """Tell how far the logs of some partitions go.

    Raises:
        LogCutError: one ends before what the lake knows of it.
        KafkaUnreachableError, TopicMissingError, KafkaReadError: as they say.
    """
    known = _known(lake, stream)  # before the logs are asked: others go on meanwhile
    marks = kafka.watermarks(stream.topic, sorted(partitions))
    for partition, mark in marks.items():
        if mark.high < (at := known.get(partition, 0)):
            raise LogCutError(stream.name, stream.topic, partition, at, mark.high, stream.epoch)
    return marks


def _known(lake: Lake, stream: Stream) -> dict[int, int]:
    """Give by partition the offset up to which tiles are bounded, and the open one is in bronze."""
    bronze = lake.open(tables.bronze(stream).name)
    rows = bounds.stored(lake, stream)
    places = rows.select("partition", place=pl.coalesce("next_offset", "first_offset"))
    found = dict(places.group_by("partition").agg(pl.col("place").max()).iter_rows())
    for bound in bounds.known(lake, stream, rows.filter(pl.col("next_offset").is_null())["tile"].unique()):
        if bound.next_offset is None:
            found[bound.partition] = max(found[bound.partition], position(bronze, stream, bound))
    return found


def held(kafka: KafkaResource, stream: Stream, marks: Mapping[int, Watermarks]) -> str:
    """Say which partitions are held back by an open transaction, and by which; empty where none is."""
    texts = (
        f"partition {partition} at offset {mark.stable}: {kafka.open_transactions(stream.topic, partition)}"
        for partition, mark in marks.items()
        if mark.stable < mark.high
    )
    return "; ".join(texts)
