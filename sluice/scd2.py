"""The fold: all changes of each key, in whatever order they came, into versions or the latest image.

Decides in which order changes count, when a version begins and ends, and what closes it. A truncate is a
delete of every key, an image (`snapshot`) one of every key that it lacks. It looks at whole keys only: the
caller brings every change of each key concerned, all truncates, the old keys of keys that changed, and with
`snapshot` all keys. What a change leaves unsaid is filled by `sluice.carry`. Nothing is refused here: silver
did that.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import polars as pl

from sluice.carry import carry
from sluice.contract import Changes, Debezium
from sluice.positions import encode
from sluice.tables import ROW_COORDINATES, dimension

_BY_TIME = ("_epoch", "_timestamp", "_offset", "_partition")
_OURS = ("_position", "_op", "_order", "_valid_from", *ROW_COORDINATES)
_GONE = pl.col("_op").is_in(["d", "t"])
_ROW = pl.int_range(pl.len())
_END = pl.len() - 1 == _ROW
_SAME_KEY = pl.col("_id") == pl.col("_id").shift(-1)


def tracked(stream: Changes) -> tuple[str, ...]:
    """Name the columns whose change opens a version."""
    if stream.track is not None:
        return tuple(stream.track)
    untracked = {*stream.keys, *stream.sequences, stream.valid_from, stream.snapshot}
    return tuple(column.name for column in stream.columns if column.name not in untracked)


def fold(changes: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Fold all changes of some keys into their rows of the dimension.

    Args:
        changes: rows of silver (`sluice.tables.silver`), in any order, and as often as they like.
        stream: the contract.

    Returns:
        The columns of `sluice.tables.dimension` but `_bucket`; with `history` all versions sorted by key and
        `version`, else one row for each key that is not deleted.
    """
    columns = {name: dtype for name, dtype in dimension(stream).columns.items() if name != "_bucket"}
    parts = [pl.DataFrame(schema=columns)]
    for part in _ordered(changes, stream):
        states = carry(_states(part, stream), stream)
        folded = _versions(states, stream) if stream.history else states.filter(_last() & ~_GONE)
        parts.append(folded.select(pl.col(name).cast(dtype) for name, dtype in columns.items()))
    return pl.concat(parts)


def _ordered(changes: pl.DataFrame, stream: Changes) -> Iterator[pl.DataFrame]:
    """Give the changes with `_order`; those of truncates belong to all keys."""
    told = changes.with_columns(_order="_position")
    by_log = not stream.sequences and not isinstance(stream.value, Debezium)
    if not by_log or changes["_partition"].n_unique() < 2:  # noqa: PLR2004  # one partition: offsets order
        yield told
        return
    clock = pl.col("_timestamp").fill_null(datetime.min.replace(tzinfo=UTC))
    timed = changes.with_columns(encode(changes.with_columns(clock), _BY_TIME).alias("_order"))
    truncate = pl.col("_op") == "t"
    everywhere = changes if stream.snapshot else changes.filter(truncate)
    common = everywhere["_partition"].unique()
    if len(common) > 1:
        yield timed
        return
    mixed = pl.col("_partition").n_unique().over(stream.keys) > 1
    if len(common):
        mixed |= pl.col("_partition") != common[0]
    yield told.filter(~mixed | truncate)
    yield timed.filter(mixed | truncate)


def _states(part: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Sort the changes by key and order, once each, and close them where a truncate or an image does.

    Adds `_id` (one number a key) and `_begin` (the running maximum of `_valid_from`).
    """
    keys = stream.keys
    carried = [n for n in ("_unavailable", "_previous_key") if part[n].null_count() < part.height]
    names = dict.fromkeys([*(column.name for column in stream.columns), *_OURS, *carried])
    rows = part.lazy().filter(pl.col("_op") != "t").select(*names)
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in (*keys, "_order"))
    new = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in keys)
    ordered = rows.sort(*keys, "_order", *ROW_COORDINATES).collect()
    once = _without(ordered, same & ~_END)  # of equal positions the last
    states = once.with_columns(_id=(new | (_ROW == 0)).cum_sum())
    states = states.with_columns(_running(states).alias("_begin"))
    closers = _closers(part, stream)
    return _closed(states, closers, stream) if closers.height else states


def _without(rows: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    """Drop rows; most often there are none, and copying all for nothing costs."""
    dropped = rows.select(condition).to_series()
    return rows.filter(~dropped) if dropped.any() else rows


def _running(rows: pl.DataFrame) -> pl.Expr:
    """Give the running maximum of `_valid_from` of a key; where it is null, that of the change before."""
    begin = pl.col("_valid_from")
    falls = begin.is_null() | ((begin < begin.shift()) & (pl.col("_id") == pl.col("_id").shift()))
    if not rows.select(falls.any()).item():  # most often time never goes back
        return begin
    return begin.cum_max().forward_fill().over("_id")


def _closers(part: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """List in order what ends keys that it does not name: truncates, and the beginnings of images.

    Columns `_order`, `_image` (null: a truncate) and `_until` (the running maximum of `_valid_from`).
    """
    truncates = (
        part.filter(pl.col("_op") == "t")
        .sort(*ROW_COORDINATES)
        .unique("_order", keep="last", maintain_order=True)  # of equal positions the last
        .select("_order", _until="_valid_from")
    )
    closers = [truncates]
    if stream.snapshot is not None:
        image = pl.col(stream.snapshot).alias("_image")
        of_image = part.filter(image.is_not_null() & (pl.col("_op") != "t")).group_by(image)
        closers.append(of_image.agg(pl.col("_order").min(), pl.col("_valid_from").min().alias("_until")))
    listed = pl.concat(closers, how="diagonal").sort("_order")
    return listed.with_columns(pl.col("_until").cum_max().forward_fill())


def _closed(states: pl.DataFrame, closers: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Put a delete between two changes of a key where a truncate or an image lies between them."""
    # At an equal position the closer comes first: it closes only what was before it. How many closers lie
    # before a row is also the number of the next one.
    places = closers["_order"].search_sorted(states["_order"], side="right").cast(pl.Int64)
    until, last = closers["_until"], closers.height
    floor = until.gather(pl.select(pl.when(places > 0).then(places - 1)).to_series())
    states = states.with_columns(_next=places, _begin=pl.max_horizontal("_begin", floor))
    follower = pl.col("_next").shift(-1)
    limit = pl.when(_SAME_KEY).then(follower).otherwise(last)
    closing = states.with_columns(_row=pl.int_range(pl.len()) * 2, _limit=limit.fill_null(last))
    if stream.snapshot:
        coming = pl.when(_SAME_KEY).then(pl.col(stream.snapshot).shift(-1))
        found = closers["_image"].gather(states["_next"].clip(0, last - 1))
        spared = (pl.lit(found) == coming).fill_null(value=False)  # the image has the key: it closes nothing
        closing = closing.with_columns(_next=pl.col("_next") + spared.cast(pl.Int64))
    closing_rows = closing.filter((pl.col("_next") < pl.col("_limit")) & ~_GONE)
    ends = closing_rows.with_columns(
        pl.max_horizontal("_begin", until.gather(closing_rows["_next"])).alias("_begin"),
        pl.lit("t").alias("_op"),
        pl.col("_row") + 1,
    )
    return pl.concat([closing, ends]).sort("_row").drop("_row", "_next", "_limit")


def _last() -> pl.Expr:
    """Tell the last state of each key."""
    return ~_SAME_KEY | _END


def _versions(states: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Turn the sorted states of keys into half-open intervals."""
    superseded = _SAME_KEY & pl.col("_begin").eq_missing(pl.col("_begin").shift(-1)) & ~_END
    states = _without(states, superseded)
    changed = [pl.col(n).ne_missing(pl.col(n).shift()) for n in tracked(stream)]  # of a key alone: none
    different = pl.any_horizontal(pl.lit(value=False), *changed) & ~_GONE
    first = (pl.col("_id") != pl.col("_id").shift()).fill_null(value=True)
    opening = states.select(first | (_GONE.shift() != _GONE) | different).to_series()
    begins = states["_begin"].filter(opening)
    shown = _without(states, ~pl.lit(opening.shift(-1, fill_value=True)))  # an interval shows its last values
    versions = shown.with_columns(begins.alias("valid_from"))
    versions = versions.with_columns(valid_to=pl.when(_SAME_KEY).then(pl.col("valid_from").shift(-1)))
    return _without(versions, _GONE).with_columns(
        is_current=pl.col("valid_to").is_null(),
        version=_ROW - pl.when(first).then(_ROW).forward_fill() + 1,
    )


def intervals_broken(
    dimension: pl.DataFrame, keys: Sequence[str], *, history: bool, track: Sequence[str] | None = None
) -> pl.DataFrame:
    """List what no fold could have made, for a check that blocks.

    Args:
        dimension: rows of a dimension, whole keys.
        keys: its key columns.
        history: whether it has versions; else it may have one row a key.
        track: its tracked columns; where given, versions that touch must differ in them.

    Returns:
        The key columns and `broken`, one row for each fault.
    """
    if not history:
        repeated = dimension.filter(pl.struct(*keys).is_duplicated()).unique(keys)
        return repeated.select(*keys, broken=pl.lit("more than one row for a key"))
    rows = dimension.sort(*keys, "version")
    same = pl.all_horizontal(pl.col(k).eq_missing(pl.col(k).shift()) for k in keys) & (
        pl.int_range(pl.len()) > 0
    )
    end, begin = pl.col("valid_to").shift(), pl.col("valid_from")
    number = pl.when(same).then(pl.col("version").shift() + 1).otherwise(1)
    faults = {
        "a version without a beginning": begin.is_null(),
        "an empty or turned interval": begin >= pl.col("valid_to"),
        "versions that overlap": same & (end.is_null() | (begin < end)),
        "a version after the open one": same & end.is_null(),
        "is_current that contradicts valid_to": pl.col("is_current").ne_missing(pl.col("valid_to").is_null()),
        "versions that are not numbered 1, 2, …": pl.col("version").ne_missing(number),
    }
    if track is not None:
        equal = pl.all_horizontal(pl.col(n).eq_missing(pl.col(n).shift()) for n in track)
        faults["neighbours that do not differ"] = same & (begin == end) & equal
    found = [rows.filter(fault).select(*keys, broken=pl.lit(name)) for name, fault in faults.items()]
    return pl.concat(found)
