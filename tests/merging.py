"""Silver of changes without a log: rows made and put into the lake, for tests of merging alone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandera.polars as pa
import polars as pl

from assets.merge import Merged, merge
from resources.lake import Lake
from sluice import Changes, Hourly, Json, tables
from sluice.dedupe import identity, placed
from sluice.envelopes.positions import encode
from sluice.tables import ROW_COORDINATES

START = datetime(2026, 1, 1, tzinfo=UTC)


class Customer(pa.DataFrameModel):
    id: int
    part: str
    city: str = pa.Field(nullable=True)
    note: str = pa.Field(nullable=True)
    n: int
    image: str = pa.Field(nullable=True)


def customers(**arguments) -> Changes:
    """Make a contract: a history of cities, ordered by `n`."""
    return Changes(
        **{
            "topic": "t",
            "value": Json(),
            "schema": Customer,
            "key": "id",
            "sequence": "n",
            "history": True,
            "track": ("city",),
            "partitions": Hourly(start="2026-01-01"),
            "name": "customers",
        }
        | arguments
    )


def silver_rows(stream: Changes, rows: Sequence[dict[str, Any]] | pl.DataFrame) -> pl.DataFrame:
    """Complete rows of silver: what they do not say is null, or follows from `n` and the offset."""
    table = tables.silver(stream).columns
    if isinstance(rows, pl.DataFrame):
        frame = rows.select(pl.col(name).cast(table[name]) for name in rows.columns)
    else:
        frame = pl.DataFrame(rows, schema={name: table[name] for name in table if name in rows[0]})
    told = {"part": pl.lit("x"), "_op": pl.lit("u"), "_epoch": pl.lit(1), "_partition": pl.lit(0)}
    told |= {"_offset": pl.col("n"), "_timestamp": pl.lit(START) + pl.duration(minutes=pl.col("n"))}
    frame = frame.with_columns(value.alias(name) for name, value in told.items() if name not in frame.columns)
    if "_valid_from" not in frame.columns:
        frame = frame.with_columns(_valid_from=pl.col("_timestamp"))
    by_log = not stream.sequences and stream.value == Json()
    order = ["_epoch", "_offset", "_partition"] if by_log else ["n"]
    frame = frame.with_columns(encode(frame, order))
    missing = [pl.lit(None).alias(name) for name in table if name not in frame.columns and name != "_bucket"]
    whole = placed(frame.with_columns(missing), stream)
    return whole.select(pl.col(name).cast(dtype) for name, dtype in table.items())


def deliver(lake: Lake, stream: Changes, rows: pl.DataFrame) -> None:
    """Put rows into silver as settling does."""
    handle = lake.ensure(tables.silver(stream))
    there = lake.scan(handle).collect()
    every = pl.concat([there, rows])
    stands = identity(stream).decide(every, every).filter("_kept").select(every.columns)
    gone = there.join(stands, on=ROW_COORDINATES, how="anti")
    if not gone.height:
        come = rows.join(stands, on=ROW_COORDINATES, how="semi")
        if come.height:  # else all of it was told before
            lake.commit(handle, come)
        return
    buckets = [*gone["_bucket"].unique(), *rows["_bucket"].unique()]
    listed = ", ".join(str(bucket) for bucket in sorted(set(buckets)))
    mine = stands.filter(pl.col("_bucket").is_in(buckets))
    lake.commit(handle, mine, mode="overwrite", predicate=f"_bucket IN ({listed})")


def merged(lake: Lake, stream: Changes) -> Merged:
    """Merge, in silence."""
    return merge(lake, stream, say=lambda _: None)


def minutes(number: int) -> datetime:
    """Give a time so many minutes after the start."""
    return START + timedelta(minutes=number)
