"""The data path with what keeps the promises taken out, to price them; only a benchmark may run it.

The same reader, stages, decoder, rules and decision on duplicates, the same two tables; but no progress,
fences or accounts, no quarantine and losers, no look at what silver holds already, no bounds and no
ledger.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import polars as pl
from deltalake import write_deltalake

from assets.ahead import ahead
from assets.flow import Pace
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import dedupe, tables
from sluice.contract import Stream
from sluice.decode import decode
from sluice.judged import judge


def bare(
    kafka: KafkaResource, lake: Lake, stream: Stream, tile: str, ends: Mapping[int, int], pace: Pace
) -> int:
    """Bring a topic to bronze and silver up to some offsets; give the number of records."""
    batches = ahead(_read(kafka, stream, ends, pace), "read")
    count = 0
    for rows in ahead(_appended(lake, stream, tile, batches), "bronze"):
        judged = judge(stream, rows, decode(stream, rows))
        same = dedupe.identity(stream)
        alone = judged.rows.filter(~pl.struct(same.keys).is_duplicated())
        again = judged.rows.filter(pl.struct(same.keys).is_duplicated()).unique(same.keys)
        _write(lake, tables.silver(stream), pl.concat([alone, again]))
        count += rows.height
    return count


def _read(
    kafka: KafkaResource, stream: Stream, ends: Mapping[int, int], pace: Pace
) -> Iterator[pl.DataFrame]:
    reader = kafka.tail(stream.topic, dict.fromkeys(ends, 0))
    while any(reader.positions[p] < end for p, end in ends.items()):
        batch = reader.take(pace.rows, pace.bytes, pace.interval)
        if batch.records.height:
            yield batch.records
    reader.close()


def _appended(
    lake: Lake, stream: Stream, tile: str, batches: Iterator[pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    table = tables.bronze(stream)
    for records in batches:
        stamp = pl.lit(datetime.now(UTC)).cast(tables.UTC_TIME)
        rows = records.with_columns(epoch=pl.lit(1, pl.Int32), tile=pl.lit(tile), ingested_at=stamp)
        yield _write(lake, table, rows.select(list(table.columns)))


def _write(lake: Lake, table: tables.Table, rows: pl.DataFrame) -> pl.DataFrame:
    write_deltalake(
        lake.path(table.name),
        rows.to_arrow(compat_level=pl.CompatLevel.newest()),
        mode="append",
        partition_by=list(table.partition_by),
    )
    return rows
