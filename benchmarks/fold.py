"""How many changes a second the SCD2 fold takes, in memory: `python benchmarks/fold.py [changes]`.

Ten changes a key, arriving in random order; `plain` has whole rows, the others add what costs more.
"""

import math
import sys
import time

import pandera.polars as pa
import polars as pl

from sluice import Changes, Daily, Json
from sluice.envelopes.positions import encode
from sluice.history.scd2 import fold
from sluice.tables import silver


class Account(pa.DataFrameModel):
    """An account with what accounts have."""

    id: int
    seq: int
    at: pl.Datetime("us", "UTC")  # type: ignore[valid-type]
    name: str
    city: str = pa.Field(nullable=True)
    status: str
    balance: float = pa.Field(nullable=True)


def contract(**options: object) -> Changes:
    """Give the contract with some options."""
    return Changes(
        name="accounts",
        topic="accounts",
        value=Json(),
        schema=Account,
        key="id",
        sequence="seq",
        valid_from="at",
        partitions=Daily(start="2026-01-01"),
        **{"history": True, "track": ("name", "city", "status", "balance"), **options},
    )


def changes(count: int, stream: Changes) -> pl.DataFrame:
    """Make silver rows of `count` changes."""
    keys = count // 10
    number = pl.int_range(count)
    frame = pl.select(
        id=(number * 7919) % keys,
        seq=number,
        at=pl.datetime(2026, 1, 1, time_zone="UTC") + pl.duration(seconds=number),
        name=pl.format("name {}", (number * 7919) % keys),
        city=pl.format("city {}", (number * 31) % 97),
        status=pl.when(number % 3 == 0).then(pl.lit("active")).otherwise(pl.lit("waiting")),
        balance=(number % 1000).cast(pl.Float64),
        _op=pl.when(number % 50 == 0).then(pl.lit("d")).otherwise(pl.lit("u")),
        _epoch=1,
        _partition=0,
        _offset=number,
    )
    table = silver(stream).columns
    frame = frame.with_columns(encode(frame, ["seq"]), _valid_from="at", _timestamp="at")
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in table.items() if name not in frame.columns]
    silver_frame = frame.with_columns(missing).select(pl.col(n).cast(t) for n, t in table.items())
    return silver_frame.sample(fraction=1.0, shuffle=True, seed=1)


def main() -> None:
    """Print changes a second for each kind of history."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    stream = contract()
    plain = changes(count, stream)
    truncate = plain.head(20).with_columns(pl.lit("t").alias("_op"), pl.lit(None, pl.Int64).alias("id"))
    wrong_clocks = plain.with_columns(_valid_from=pl.col("_valid_from").shuffle(seed=2))
    unavailable = plain.with_columns(
        _unavailable=pl.when(pl.col("seq") % 2 == 0).then(pl.lit(["city"], pl.List(pl.String)))
    )
    cases = {
        "plain": (plain, stream),
        "latest image": (plain, contract(history=False)),
        "20 truncates": (pl.concat([plain, truncate]), stream),
        "clocks that go back": (wrong_clocks, stream),
        "half unavailable": (unavailable, stream),
        "ignore_null": (plain, contract(ignore_null=True)),
    }
    for name, (frame, declared) in cases.items():
        seconds = math.inf
        for _ in range(3):  # the best of three: other work on the machine only slows
            started = time.perf_counter()
            rows = fold(frame, declared).height
            seconds = min(seconds, time.perf_counter() - started)
        print(f"{name:22} {frame.height / seconds / 1e6:6.2f} M changes/s  {rows:>9,} rows  {seconds:.2f} s")


if __name__ == "__main__":
    main()
