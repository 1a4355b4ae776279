"""What ends keys that it does not name: truncates, and complete images, which delete the keys that they lack.

A truncate and a snapshot of Debezium speak of their own table only. A snapshot is an image where both its
first and its last row are there; one of a single row tells only one of these, and ends nothing. An image of a
plain stream is what `snapshot` says. It decides which keys are ended, and when; nothing is refused.
"""

from datetime import UTC, datetime

import polars as pl

from sluice.contract import Changes, Debezium
from sluice.envelopes.origins import FIRST, INCREMENTAL, LAST
from sluice.envelopes.positions import IMAGE, encode
from sluice.envelopes.previous import previous
from sluice.tables import ROW_COORDINATES

_BY_TIME = ("_epoch", "_timestamp", "_offset", "_partition")
_SOURCE = pl.col("_source").struct
_TABLE = _SOURCE.field("table")
_GONE = pl.col("_op").is_in(["d", "t"])
_ROW = pl.int_range(pl.len())
_OF_ONE = _SOURCE.field("snapshot") != INCREMENTAL  # null: no snapshot at all
OF_SNAPSHOT = pl.when(_OF_ONE & (pl.col("_op") == "r")).then(IMAGE)  # the snapshot that read a row


def image_of(stream: Changes) -> pl.Expr | None:
    """Give what names the image that a change is part of; null: of none."""
    if stream.snapshot is not None:
        return pl.col(stream.snapshot)
    if isinstance(stream.value, Debezium):
        return OF_SNAPSHOT
    return None


def closers(changes: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """List what ends keys that it does not name, in the order of its positions.

    Args:
        changes: silver's columns `_op, _position, _valid_from, _source, _timestamp`, coordinates, and the
            column of `snapshot`: of all keys, or of no more than the first and last rows of snapshots.
        stream: the contract.

    Returns:
        `_position`, `_timed` (where Kafka's clock orders it), `_image` (null: a truncate), `_until` (when it
        ends what it ends), `_source`, `_timestamp` and coordinates; `_partition` is null where rows of an
        image are in several.
    """
    at = ["_valid_from", "_source", "_timestamp", *ROW_COORDINATES]
    by_log = not stream.sequences and not isinstance(stream.value, Debezium)
    image = image_of(stream)
    named = pl.lit(None, pl.String) if image is None else image
    told = changes.select("_op", "_position", *at, named.alias("_image"))
    told = told.filter((pl.col("_op") == "t") | pl.col("_image").is_not_null())
    told = told.with_columns((timed_order(told) if by_log else pl.lit(None, pl.String)).alias("_timed"))
    truncates = told.filter(pl.col("_op") == "t")
    if stream.valid_from:  # silver has each once; else that of the greatest place tells the content
        truncates = truncates.sort(*ROW_COORDINATES, descending=True)
    else:  # and that of the least, or told first, stands
        truncates = truncates.sort("_timestamp", *ROW_COORDINATES)
    truncates = truncates.unique("_position", keep="first", maintain_order=True).with_columns(
        _image=pl.lit(None, told.schema["_image"])
    )
    if image is None:
        return truncates.rename({"_valid_from": "_until"}).drop("_op")
    rows = told.filter(pl.col("_op") != "t")
    mark = _SOURCE.field("snapshot")
    if stream.snapshot is None:
        rows = rows.filter(mark.is_in([*FIRST, *LAST]))
    in_one = pl.col("_partition").n_unique() == 1
    # Where rows say themselves since when they are valid, none that the image has began after it.
    until = pl.col("_valid_from").max() if stream.valid_from else pl.col("_valid_from").min()
    images = (
        rows.sort("_position", *ROW_COORDINATES)
        .group_by("_image", _SOURCE.field("table"), maintain_order=True)
        .agg(
            pl.all().exclude("_partition", "_valid_from", "_timed").first(),
            until,
            pl.col("_timed").min(),
            pl.when(in_one).then(pl.col("_partition").first()).alias("_partition"),
            _whole=mark.is_in(FIRST).any() & mark.is_in(LAST).any(),
        )
        .filter(pl.lit(value=stream.snapshot is not None) | pl.col("_whole"))
    )
    both = pl.concat([truncates, images.select(truncates.columns)])
    return both.rename({"_valid_from": "_until"}).drop("_op")


def given_up(changes: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Give the deletes of keys that updates gave up, which are no keys of the source: it tells no other end.

    Args:
        changes: rows of silver.
        stream: the contract.
    """
    moved = changes.filter(pl.col("_previous_key").is_not_null() & (pl.col("_op") == "u"))
    if not moved.height:
        return moved
    old = previous(moved["_previous_key"], stream)
    none = pl.lit(None, moved.schema["_previous_key"])
    return moved.with_columns(*old, _op=pl.lit("d"), _previous_key=none)


def timed_order(changes: pl.DataFrame) -> pl.Series:
    """Give what orders changes by Kafka's clock, then by their place."""
    clock = pl.col("_timestamp").fill_null(datetime.min.replace(tzinfo=UTC))
    return encode(changes.with_columns(clock), _BY_TIME)


def before_next(rows: pl.DataFrame, ends: pl.DataFrame, stream: Changes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Put rows of an image that came after the image that follows theirs before it: late ones, told again.

    Args:
        rows: changes with `_order`, by the Kafka log.
        ends: as `closers` gives them, with `_order`.
        stream: the contract.
    """
    if stream.snapshot is None or not rows.height:
        return rows, ends
    images = ends.filter(pl.col("_image").is_not_null()).sort("_order")
    known = images.select("_image", _next=pl.col("_order").shift(-1))
    following = rows.select(_image=pl.col(stream.snapshot)).join(
        known, on="_image", how="left", maintain_order="left"
    )["_next"]
    late = rows.select(pl.col("_order") > pl.lit(following)).to_series().fill_null(value=False)
    if not late.any():  # most often
        return rows, ends
    before = pl.concat_str(pl.lit(following), pl.lit(" !"), "_order")
    order = pl.when(pl.lit(late)).then(before).otherwise(pl.col("_order") + " 1")
    return rows.with_columns(order.alias("_order")), ends.with_columns(pl.col("_order") + " 0")


def closed(states: pl.DataFrame, ends: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Put a delete between two changes of a key where something that ends it lies between them.

    Args:
        states: changes sorted by key (`_id`, one number a key) and `_order`, with `_begin`.
        ends: as `closers` gives them, with `_order`.
        stream: the contract.
    """
    if not ends.height or not states.height:
        return states
    for table in states.select(_TABLE).to_series().unique(maintain_order=True):
        named = pl.lit(table, pl.String) == _TABLE
        mine = ends if table is None else ends.filter(_TABLE.is_null() | named)
        if mine.height:  # of its own table, or of none that is told
            states = _closed(states, mine, _TABLE.is_null() if table is None else named, stream)
    return states


def _closed(states: pl.DataFrame, ends: pl.DataFrame, mine: pl.Expr, stream: Changes) -> pl.DataFrame:
    ends = ends.sort("_order").with_columns(pl.col("_until").cum_max().forward_fill())
    truncated = pl.when(pl.col("_image").is_null()).then("_until").forward_fill()
    # At an equal position the closer comes first: it closes only what was before it. How many closers lie
    # before a row is also the number of the next one.
    places = ends["_order"].search_sorted(states["_order"], side="right").cast(pl.Int64)
    floor = (
        ends.select(truncated).to_series().gather(pl.select(pl.when(places > 0).then(places - 1)).to_series())
    )
    states = states.with_columns(
        _next=places, _begin=pl.max_horizontal("_begin", pl.when(mine).then(floor)), _row=_ROW * 2
    )
    follows = pl.col("_id") == pl.col("_id").shift(-1)
    limit = pl.when(follows).then(pl.col("_next").shift(-1)).otherwise(ends.height)
    image = image_of(stream)
    if image is not None:
        coming = pl.when(follows).then(image.shift(-1))
        found = ends["_image"].gather(states["_next"].clip(0, ends.height - 1))
        spared = (pl.lit(found) == coming).fill_null(value=False)  # the image has the key: it closes nothing
    else:
        spared = pl.lit(value=False)
    ended = states.with_columns(_limit=limit.fill_null(ends.height), _next=pl.col("_next") + spared)
    ended = ended.filter((pl.col("_next") < pl.col("_limit")) & ~_GONE & mine)
    if not ended.height:
        return states.drop("_next", "_row")
    rows = ended.with_columns(
        pl.max_horizontal("_begin", ends["_until"].gather(ended["_next"])).alias("_begin"),
        pl.lit("t").alias("_op"),
        pl.col("_row") + 1,
    )
    both = pl.concat([states, rows.select(states.columns)]).sort("_row").drop("_next", "_row")
    return both if image is None else both.with_columns(pl.col("_begin").cum_max().over("_id"))
