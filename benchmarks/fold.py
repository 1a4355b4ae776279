"""How many changes a second the SCD2 fold takes, in memory.

Run `python benchmarks/fold.py [--changes=1000000] [--write=yes]`. Ten changes a key, arriving in random
order; `plain` has whole rows, the others add what costs more.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandera.polars as pa
import polars as pl
from measure import arguments, machine, publish

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
    """Measure each kind of history, and write the table."""
    given = arguments()
    count = int(given.get("changes", "1000000"))
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
    lines = []
    for name, (frame, declared) in cases.items():
        runs = []
        for _ in range(3):  # the best of three: other work on the machine only slows
            begin, cpu = time.perf_counter(), time.process_time()
            rows = fold(frame, declared).height
            runs.append((time.perf_counter() - begin, time.process_time() - cpu))
        rates = [f"{frame.height / min(run[at] for run in runs) / 1e6:.2f}" for at in (0, 1)]
        lines.append([name, f"{frame.height:,}", f"{rows:,}", *rates])
        print(*lines[-1], flush=True)
    head = ["what", "changes", "versions", "M changes a second", "M changes a CPU second"]
    intro = f"Ten changes a key, seven columns, in random order; best of three; the goal is 1 M. {machine()}."
    publish("fold", f"## The fold alone, in memory\n\n{intro}", head, lines)


if __name__ == "__main__":
    main()
