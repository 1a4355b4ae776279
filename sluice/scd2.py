"""The fold: all changes of each key, in whatever order they came, into versions or the latest image.

Decides in which order changes count, when a version begins and ends, and what closes it. A truncate is a
delete of every key, an image (`snapshot`) one of every key that it lacks. It looks at whole keys only: the
caller brings every change of each key concerned, all truncates, the old keys of keys that changed, and with
`snapshot` all keys. What a change leaves unsaid is filled by `sluice.carry`. Nothing is refused here: silver
did that.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from sluice.carry import carry
from sluice.contract import Changes, Debezium
from sluice.tables import ROW_COORDINATES, dimension

_BY_TIME = ("_epoch", "_timestamp", "_offset", "_partition")
_OURS = ("_position", "_op", "_valid_from", "_timestamp", *ROW_COORDINATES)
_GONE = pl.col("_op").is_in(["d", "t"])
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
    for part, order in _ordered(changes, stream):
        states = carry(_states(part, order, stream), stream)
        folded = _versions(states, stream) if stream.history else states.filter(_last() & ~_GONE)
        parts.append(folded.select(pl.col(name).cast(dtype) for name, dtype in columns.items()))
    return pl.concat(parts)


def _ordered(changes: pl.DataFrame, stream: Changes) -> Iterator[tuple[pl.DataFrame, tuple[str, ...]]]:
    """Give the changes with the columns that order them; those of a truncate belong to all keys."""
    by_log = not stream.sequences and not isinstance(stream.value, Debezium)
    if not by_log or changes["_partition"].n_unique() < 2:  # noqa: PLR2004  # one partition: offsets order
        yield changes, ("_position",)
        return
    everywhere = pl.lit(value=True) if stream.snapshot else pl.col("_op") == "t"
    common = changes.filter(everywhere)["_partition"].unique()
    if len(common) > 1:
        yield changes, _BY_TIME
        return
    mixed = pl.col("_partition").n_unique().over(stream.keys) > 1
    if len(common):
        mixed |= pl.col("_partition") != common[0]
    truncate = pl.col("_op") == "t"
    yield changes.filter(~mixed | truncate), ("_position",)
    yield changes.filter(mixed | truncate), _BY_TIME


def _states(part: pl.DataFrame, order: Sequence[str], stream: Changes) -> pl.DataFrame:
    """Sort the changes by key and order, once each, and close them where a truncate or an image does.

    Adds `_id` (one number a key) and `_begin` (the running maximum of `_valid_from`).
    """
    keys = stream.keys
    carried = [n for n in ("_unavailable", "_previous_key") if part[n].null_count() < part.height]
    names = dict.fromkeys([*(column.name for column in stream.columns), *_OURS, *carried])
    rows = part.lazy().filter(pl.col("_op") != "t").select(*names)
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in (*keys, *order))
    new = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in keys)
    sorted_ = (
        rows.sort(*dict.fromkeys([*keys, *order, *ROW_COORDINATES]))
        .filter(~same | (pl.int_range(pl.len()) == pl.len() - 1))  # of equal positions the last
        .with_columns(_id=(new | (pl.int_range(pl.len()) == 0)).cum_sum())
        .collect()
    )
    states = sorted_.with_columns(_running(sorted_).alias("_begin"))
    closers = _closers(part, order, stream)
    return _closed(states, closers, order, stream) if closers.height else states


def _running(rows: pl.DataFrame) -> pl.Expr:
    """Give the running maximum of `_valid_from` of a key; where it is null, that of the change before."""
    begin = pl.col("_valid_from")
    falls = begin.is_null() | ((begin < begin.shift()) & (pl.col("_id") == pl.col("_id").shift()))
    if not rows.select(falls.any()).item():  # most often time never goes back
        return begin
    return begin.cum_max().forward_fill().over("_id")


def _closers(part: pl.DataFrame, order: Sequence[str], stream: Changes) -> pl.DataFrame:
    """List what ends keys that it does not name: truncates, and the beginnings of images."""
    truncates = (
        part.filter(pl.col("_op") == "t")
        .sort(*ROW_COORDINATES)
        .unique(order, keep="last", maintain_order=True)  # of equal positions the last
    )
    if stream.snapshot is None:
        return truncates.select(*order, "_valid_from", pl.lit(None, pl.Boolean).alias("_image"))
    image = pl.col(stream.snapshot).alias("_image")
    ordered = part.sort(*order)
    starts = ordered.group_by(image, maintain_order=True).agg(
        *(pl.col(name).first() for name in order), pl.col("_valid_from").min()
    )
    images = starts.filter(pl.col("_image").is_not_null()).select(*order, "_valid_from", "_image")
    return pl.concat(
        [truncates.select(*order, "_valid_from", pl.lit(None).alias("_image")), images],
        how="vertical_relaxed",
    )


def _closed(
    states: pl.DataFrame, closers: pl.DataFrame, order: Sequence[str], stream: Changes
) -> pl.DataFrame:
    """Put a delete between two changes of a key where a truncate or an image lies between them."""
    closers = closers.sort(*order).with_columns(pl.col("_valid_from").cum_max().forward_fill())
    both = pl.concat(
        [
            closers.select(*order, _row=pl.lit(-1, pl.Int64)),
            states.select(*order, _row=pl.int_range(pl.len())),
        ]
    )
    # At an equal position the closer comes first: it closes only what was before it.
    ranked = both.sort(*order, "_row").with_columns(_before=(pl.col("_row") < 0).cum_sum().cast(pl.Int64))
    places = ranked.filter(pl.col("_row") >= 0).sort("_row")["_before"]
    until, images = closers["_valid_from"], closers["_image"]
    last = closers.height
    states = states.with_columns(
        places.alias("_next"),  # how many closers lie before a row is the number of the next one
        until.gather((places - 1).clip(0))
        .zip_with(places > 0, pl.Series([None], dtype=until.dtype))
        .alias("_floor"),
    ).with_columns(_begin=pl.max_horizontal("_begin", "_floor"))
    follower = pl.col("_next").shift(-1)
    limit = pl.when(_SAME_KEY).then(follower).otherwise(last)
    closing = states.with_columns(_row=pl.int_range(pl.len()) * 2, _limit=limit.fill_null(last))
    if stream.snapshot:
        coming = pl.when(_SAME_KEY).then(pl.col(stream.snapshot).shift(-1))
        found = images.gather(states["_next"].clip(0, last - 1))
        spared = (pl.lit(found) == coming).fill_null(value=False)  # the image has the key: it closes nothing
        closing = closing.with_columns(_next=pl.col("_next") + spared.cast(pl.Int64))
    closing_rows = closing.filter((pl.col("_next") < pl.col("_limit")) & ~_GONE)
    ends = closing_rows.with_columns(
        pl.max_horizontal("_begin", until.gather(closing_rows["_next"])).alias("_begin"),
        pl.lit("t").alias("_op"),
        pl.col("_row") + 1,
    )
    return pl.concat([closing, ends]).sort("_row").drop("_row", "_next", "_floor", "_limit")


def _last() -> pl.Expr:
    """Tell the last state of each key."""
    return ~_SAME_KEY | (pl.int_range(pl.len()) == pl.len() - 1)


def _versions(states: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Turn the sorted states of keys into half-open intervals."""
    end = pl.int_range(pl.len()) == pl.len() - 1
    superseded = _SAME_KEY & (pl.col("_begin").eq_missing(pl.col("_begin").shift(-1))) & ~end
    states = states.filter(~superseded)
    different = pl.any_horizontal(pl.col(n).ne_missing(pl.col(n).shift()) for n in tracked(stream)) & ~_GONE
    opens = (
        (pl.col("_id") != pl.col("_id").shift()).fill_null(value=True) | (_GONE.shift() != _GONE) | different
    )
    opening = states.select(opens).to_series()
    begins = states.filter(opening)["_begin"]
    return (
        states.filter(opening.shift(-1, fill_value=True))  # an interval shows its last values
        .with_columns(begins.alias("valid_from"))
        .with_columns(valid_to=pl.when(_SAME_KEY).then(pl.col("valid_from").shift(-1)))
        .filter(~_GONE)
        .with_columns(
            is_current=pl.col("valid_to").is_null(),
            version=pl.int_range(pl.len()).over("_id") + 1,
        )
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
