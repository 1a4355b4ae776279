"""The lake's side of a reconciliation: a stream's rows as of a position of its source.

What stands is the dimension (of events: silver). Changes that the source's position does not have yet are
left out: the keys that they touch are folded from the other changes in silver, and stand in for their rows.
Where they reach keys that they do not name, all are folded, a piece at a time, into files.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from assets.before import Before
from assets.merge import merge
from resources.lake import Lake
from resources.table_sides import Side, delta_side
from sluice import tables
from sluice.contract import Changes, Stream
from sluice.errors import SourceError
from sluice.tables import ROW_COORDINATES


def image(
    lake: Lake,
    stream: Stream,
    names: list[str],
    folder: Path,
    later: Callable[[], pl.DataFrame] | None = None,
) -> tuple[Side, int]:
    """Give the lake's side, and the version of the table that it is of.

    Args:
        lake: where the tables are.
        stream: the contract.
        names: columns of the contract, the keys among them.
        folder: for what must be copied to be read.
        later: gives the changes that do not count yet (columns ROW_COORDINATES), of all that bronze has
            when it is called: after the tables were opened, so nothing in them escapes it.
    """
    side, version, _ = _image(lake, stream, names, folder, later)
    return side, version


def _image(
    lake: Lake, stream: Stream, names: list[str], folder: Path, later: Callable[[], pl.DataFrame] | None
) -> tuple[Side, int, pl.LazyFrame | None]:
    """Give also the rows that were folded anew, where any were."""
    own = {name: name for name in names}
    if isinstance(stream, Changes):
        merge(lake, stream, say=lambda _: None)
    handle = lake.ensure(tables.dimension(stream) if isinstance(stream, Changes) else tables.silver(stream))
    if not isinstance(stream, Changes):
        return delta_side(lake, handle, own, folder), int(handle.version()), None
    where, needs = ("is_current", ["is_current"]) if stream.history else ("true", [])
    side = delta_side(lake, handle, own, folder, where=where, needs=needs)
    version = int(handle.version())
    if later is None:
        return side, version, None
    silver = lake.read(tables.silver(stream))
    hidden = later()
    if not hidden.height:
        return side, version, None
    before = Before(silver, stream, hidden)
    if before.reaches_all:
        files = before.written(names, folder)
        return Side(files, own), version, pl.scan_parquet(files)
    keys = before.touched()
    if keys.is_empty():  # what is later was refused or ignored
        return side, version, None
    rows = before.rows(keys).select(names)
    return replace(side, instead=(keys, rows)), version, rows.lazy()


def image_upto(
    lake: Lake, stream: Changes, names: list[str], folder: Path, source: Side, value: str
) -> tuple[Side, int, pl.DataFrame]:
    """Give the lake's side up to a value of the first `sequence`, its version, and the keys left out.

    Left out are keys whose row in the source goes beyond, and keys that the lake tells to have ended beyond:
    what the source said of them before is not known any more, so nothing can be held against it.

    Raises:
        SourceError: the value is none of the column's type.
    """
    name, keys = stream.sequences[0], list(stream.keys)
    limit = _limit(stream, value)

    def later() -> pl.DataFrame:
        silver = lake.read(tables.silver(stream))
        return silver.filter(pl.col(name) > limit).select(ROW_COORDINATES).collect(engine="streaming")

    side, version, then = _image(lake, stream, names, folder, later)
    stored = {k: stream.column(k).storage for k in keys}
    left_out = [pl.DataFrame(schema=stored)]
    if then is not None:
        left_out.append(_ended(lake, stream, then))
    if source.files:
        rows = pl.scan_parquet(list(source.files))
        given = source.names[name]
        told = _alike(pl.col(given), rows.collect_schema()[given], stream.column(name).storage)
        there = rows.filter(told > limit)
        left_out.append(
            there.select(pl.col(source.names[k]).cast(stored[k]).alias(k) for k in keys).collect()
        )
    return side, version, pl.concat(left_out).drop_nulls().unique()


def _limit(stream: Changes, value: str) -> pl.Expr:
    """Read a value of the first `sequence` as the lake stores it; times without an offset are UTC."""
    name = stream.sequences[0]
    dtype = stream.column(name).storage
    text = pl.lit(value)
    read = text.str.to_datetime(time_unit="us", time_zone="UTC") if dtype.is_temporal() else text.cast(dtype)
    limit = _alike(read, pl.Datetime("us", "UTC"), dtype) if dtype.is_temporal() else read
    try:
        pl.select(limit)
    except PolarsError:
        raise SourceError(
            f"of {stream.name!r}", f"`upto` is {value!r}, which is no {dtype}", f"give a value of {name}"
        ) from None
    return limit


def _alike(value: pl.Expr, given: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """Write a time as another type tells it, so that they compare as values."""
    if not isinstance(given, pl.Datetime) or not isinstance(wanted, pl.Datetime):
        return value
    value = value.dt.cast_time_unit("us")
    if (given.time_zone is None) == (wanted.time_zone is None):
        return value.dt.convert_time_zone("UTC") if given.time_zone else value
    if wanted.time_zone:
        return value.dt.replace_time_zone("UTC")
    return value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def _ended(lake: Lake, stream: Changes, then: pl.LazyFrame) -> pl.DataFrame:
    """Give the keys of rows that the lake does not have any more."""
    keys = list(stream.keys)
    now = lake.read(tables.dimension(stream))
    now = now.filter("is_current") if stream.history else now
    return then.select(keys).join(now.select(keys), on=keys, how="anti").collect(engine="streaming")
