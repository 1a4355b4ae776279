"""Lakes to merge into: silver of so many accounts, their dimension, and the changes that come next.

`even`: 80 % updates over all keys alike, 15 % new keys, 5 % deletes. `hot`: the same among four fifths of one
bucket's keys, which is 5 % of all. `late`: a change of a tenth of the keys somewhere in their past.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandera.polars as pa
import polars as pl

from assets.merge import merge
from resources.lake import Lake
from resources.new_files import write_files
from sluice import Changes, Daily, Json, tables
from sluice.dedupe import placed
from sluice.envelopes.positions import encode

CHUNK = 1_000_000
_BATCH = 8  # chunks that share files
HOT = 7  # the bucket
VERSIONS = 10  # of an account that has a history
_DELETE = 16  # of twenty changes: the delete


class Account(pa.DataFrameModel):
    """An account with what accounts have."""

    id: int
    seq: int
    at: pl.Datetime("us", "UTC")  # type: ignore[valid-type]
    name: str
    city: str = pa.Field(nullable=True)
    status: str
    balance: float = pa.Field(nullable=True)


def contract(*, history: bool) -> Changes:
    """Give the contract."""
    return Changes(
        name="accounts",
        topic="accounts",
        value=Json(),
        schema=Account,
        key="id",
        sequence="seq",
        valid_from="at",
        partitions=Daily(start="2026-01-01"),
        history=history,
    )


def changes(
    stream: Changes, ids: pl.Series, seqs: pl.Series, deleted: pl.Series | None = None
) -> pl.DataFrame:
    """Make rows of silver: the state of an account follows from its id and its sequence."""
    given = pl.DataFrame({"id": ids, "seq": seqs})
    key, seq = pl.col("id"), pl.col("seq")
    rows = given.with_columns(
        at=pl.datetime(2026, 1, 1, time_zone="UTC").dt.cast_time_unit("us") + pl.duration(milliseconds=seq),
        name=pl.format("account {}", key),
        city=pl.format("city {}", (key * 31 + seq // 7) % 997),
        status=pl.when((key + seq) % 3 == 0).then(pl.lit("active")).otherwise(pl.lit("waiting")),
        balance=((key * 7919 + seq) % 100_000) / 100,
        _epoch=1,
        _partition=0,
        _offset=seq,
        _tile=pl.lit("2026-01-01"),
        _topic=pl.lit("accounts"),
    )
    gone = pl.lit(value=False) if deleted is None else pl.lit(deleted)
    rows = rows.with_columns(
        encode(rows, ["seq"]),
        _valid_from="at",
        _timestamp="at",
        _ingested_at="at",
        _op=pl.when(gone).then(pl.lit("d")).otherwise(pl.lit("u")),
    )
    table = tables.silver(stream).columns
    missing = [pl.lit(None).alias(name) for name in table if name not in rows.columns and name != "_bucket"]
    rows = placed(rows.with_columns(missing), stream)
    return rows.select(pl.col(name).cast(dtype) for name, dtype in table.items())


def fill(lake: Lake, keys: int, *, history: bool) -> None:
    """Make silver of some keys (with a history: of `VERSIONS` changes each), and its dimension by merging."""
    stream = contract(history=history)
    handle = lake.ensure(tables.silver(stream))
    count = keys * VERSIONS if history else keys
    for start in range(0, count, CHUNK * _BATCH):
        parts = []
        for first in range(start, min(count, start + CHUNK * _BATCH), CHUNK):
            number = pl.int_range(first, min(count, first + CHUNK), eager=True)
            parts.append(changes(stream, number % keys, number * 1000))
        rows = pl.concat(parts)
        del parts
        actions = [f.action for f in write_files(handle, lake.path(tables.silver(stream).name), rows, None)]
        lake.commit(handle, actions)
    merge(lake, stream, say=lambda _: None)


def send(lake: Lake, keys: int, count: int, kind: str) -> None:
    """Put the next changes into silver, and the newest row of each key beside, for who merges rows."""
    stream = contract(history=kind == "late")
    handle = lake.ensure(tables.silver(stream))
    version = int(handle.version())
    number = pl.int_range(count, eager=True)
    if kind == "late":
        ids = (number * 7919) % keys
        lake.commit(handle, changes(stream, ids, (number % (VERSIONS - 1) * keys + ids) * 1000 + 500))
        return
    spread = (number * 48_271 * 1009) % keys
    fresh = (number % 20).is_in([17, 18, 19]) if kind == "even" else number < 0
    ids = (spread if kind == "even" else _hot(keys, spread)).zip_with(~fresh, keys + version * 10**9 + number)
    newest = []
    for first in range(0, count, CHUNK):
        part = slice(first, first + CHUNK)
        rows = changes(
            stream, ids[part], 10**13 + version * 10**9 + number[part], number[part] % 20 == _DELETE
        )
        lake.commit(handle, rows)
        newest.append(rows.select(*tables.dimension(stream).columns))
    source = pl.concat(newest).sort("seq").unique("id", keep="last")
    source.write_parquet(lake.path("source.parquet"))


def _hot(keys: int, spread: pl.Series) -> pl.Series:
    """Give keys of one bucket in the place of keys of all."""
    some = pl.DataFrame({"id": pl.int_range(0, keys, max(1, keys // 4_000_000), eager=True)})
    mine = placed(some, contract(history=False)).filter(_bucket=HOT)["id"]
    return mine.gather(spread % len(mine))
