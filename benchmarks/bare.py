"""The data path with what keeps the promises taken out, to price them; only a benchmark may run it.

The same reader, stages, decoder, rules, decision on duplicates (among the batch and what silver holds) and
writer, the same two tables; but no progress, fences or accounts, no quarantine and losers, no bounds, no
ledger and no checks.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import polars as pl

from assets.ahead import ahead
from assets.flow import Pace
from assets.meet import meet
from assets.refine import judgement
from assets.settle import store
from assets.whole_rows import Rows
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import dedupe, tables
from sluice.contract import Stream
from sluice.judged import Judged


def bare(
    kafka: KafkaResource, lake: Lake, stream: Stream, tile: str, ends: Mapping[int, int], pace: Pace
) -> int:
    """Bring a topic to bronze and silver up to some offsets; give the number of records."""
    lake.ensure(tables.bronze(stream))
    lake.ensure(tables.silver(stream))
    batches = ahead(_read(kafka, stream, ends, pace), "read")
    appended = ahead(_appended(lake, stream, tile, batches), "bronze")
    count = 0
    for judged in ahead(_judged(stream, appended), "decode"):
        count += judged.at.height
        _settle(lake, stream, judged)
        del judged
    return count


def _read(
    kafka: KafkaResource, stream: Stream, ends: Mapping[int, int], pace: Pace
) -> Iterator[pl.DataFrame]:
    reader = kafka.tail(stream.topic, dict.fromkeys(ends, 0))
    while any(reader.positions[p] < end for p, end in ends.items()):
        batch = reader.take(pace.rows, pace.bytes, pace.interval)
        if batch.records.height:
            yield batch.records
        del batch
    reader.close()


def _appended(
    lake: Lake, stream: Stream, tile: str, batches: Iterator[pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    table = tables.bronze(stream)
    for records in batches:
        stamp = pl.lit(datetime.now(UTC)).cast(tables.UTC_TIME)
        rows = records.with_columns(epoch=pl.lit(1, pl.Int32), tile=pl.lit(tile), ingested_at=stamp)
        del records
        rows = rows.select(list(table.columns))
        lake.commit(lake.ensure(table), rows)
        yield rows
        del rows


def _judged(stream: Stream, appended: Iterator[pl.DataFrame]) -> Iterator[Judged]:
    for rows in appended:
        yield judgement(stream, rows)
        del rows


def _settle(lake: Lake, stream: Stream, judged: Judged) -> None:
    """Exchange rows of silver as dedupe decides; whoever is beaten is dropped without a word."""
    handle, same = lake.ensure(tables.silver(stream)), dedupe.identity(stream)
    whole = Rows(lambda at: at, judged.rows.clear())  # no losers are kept, so nothing is read again
    decided = whole.decided(same, meet(lake, stream, handle, same, judged.rows, whole).rows)
    places = pl.int_range(judged.rows.height, dtype=pl.UInt32, eager=True)
    lost = decided.filter(~pl.col("_kept"))["_place"].drop_nulls()
    unseated = decided.filter(~pl.col("_kept") & (pl.col("_from") == "silver"))
    rows = judged.rows.filter(~places.is_in(lost.implode()))
    store(lake, stream, handle, rows, dedupe.placed(unseated, stream))
