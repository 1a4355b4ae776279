"""The fold: all changes of each key, in whatever order they came, into versions or the latest image.

Decides in which order changes count, when a version begins and ends, and what closes it. A truncate is a
delete of every key, an image (`snapshot`) one of every key that it lacks. It looks at whole keys only: the
caller brings every change of each key concerned, all truncates, the old keys of keys that changed, and with
`snapshot` all keys. What a change leaves unsaid is filled by `carry` beside it. Nothing is refused here:
silver did that.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from sluice.contract import Changes, Debezium
from sluice.dedupe import SameChange, identity
from sluice.history.carry import carry
from sluice.history.closers import before_next, closed, closers, given_up, image_of, timed_order
from sluice.history.epochs import contradictory, numbered
from sluice.history.opening import behind_snapshots
from sluice.tables import ROW_COORDINATES, dimension

_OURS = ("_position", "_op", "_order", "_valid_from", *ROW_COORDINATES)
_AT_ONCE = 2_000_000  # rows that tell keys of another log what ends them
_CARRIED = ("_unavailable", "_previous_key", "_patch")
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


def fold(changes: pl.DataFrame, stream: Changes, ends: pl.DataFrame | None = None) -> pl.DataFrame:
    """Fold all changes of some keys into their rows of the dimension.

    Args:
        changes: rows of silver (`sluice.tables.silver`), in any order, and as often as they like.
        stream: the contract.
        ends: what `closers.closers` gives for all keys, where `changes` are those of some; else it is
            taken from them.

    Returns:
        The columns of `sluice.tables.dimension` but `_bucket`; with `history` all versions sorted by key and
        `version`, else one row for each key that is not deleted.
    """
    columns = {name: dtype for name, dtype in dimension(stream).columns.items() if name != "_bucket"}
    ends = closers(changes, stream) if ends is None else ends
    if (left := given_up(changes, stream)).height:
        changes = pl.concat([changes, left])
    changes, ends = behind_snapshots(changes.filter(pl.col("_op") != "t"), ends, stream)
    parts = [_states(rows, mine, stream) for rows, mine in _ordered(changes, ends, stream)]
    states = carry(_together(parts), stream)  # at once: a change of key may lead from one part to another
    folded = _versions(states, stream) if stream.history else states.filter(_last() & ~_GONE)
    return folded.select(pl.col(name).cast(dtype) for name, dtype in columns.items())


def forbidden_nulls(dimension: pl.LazyFrame, stream: Changes) -> pl.LazyFrame:
    """Find the rows of a folded image that have nulls where the contract forbids them.

    A value that a change did not send, and no change before it, is null; silver could not know.

    Args:
        dimension: rows of the dimension.
        stream: the contract.

    Returns:
        The key columns and `columns`, the names of those that are null.
    """
    names = [c.name for c in stream.columns if not c.nullable and c.name not in stream.keys]
    null = [pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in names]
    told = pl.concat_list(*null).list.drop_nulls() if null else pl.lit([], pl.List(pl.String))
    return dimension.select(*stream.keys, columns=told).filter(pl.col("columns").list.len() > 0)


def _ordered(
    rows: pl.DataFrame, ends: pl.DataFrame, stream: Changes
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Give the changes sorted by key and `_order`, with what ends their keys: once, or in parts."""
    told = rows.with_columns(_order="_position"), ends.with_columns(_order="_position")
    if isinstance(stream.value, Debezium) and not stream.sequences:
        yield from _by_place(_sorted(told[0], stream), told[1], stream)
    elif stream.sequences:
        yield _sorted(told[0], stream), told[1]
    elif _in_one(rows, ends):
        yield _by_log(*told, stream)
    else:  # offsets order within one partition, elsewhere it is Kafka's clock
        timed = rows.with_columns(timed_order(rows).alias("_order")), ends.with_columns(_order="_timed")
        mixed = pl.lit(value=True)
        if ends["_partition"].n_unique() < 2 and not ends["_partition"].null_count():  # noqa: PLR2004
            mixed = pl.col("_partition").n_unique().over(stream.keys) > 1
            for partition in ends["_partition"].unique():
                mixed |= pl.col("_partition") != partition
        yield _by_log(told[0].filter(~mixed), told[1], stream)
        yield _by_log(timed[0].filter(mixed), timed[1], stream)


def _by_log(rows: pl.DataFrame, ends: pl.DataFrame, stream: Changes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give changes sorted by their order in the Kafka log, but each within its image."""
    rows, ends = before_next(rows, ends, stream)
    return _sorted(rows, stream), ends


def _in_one(rows: pl.DataFrame, ends: pl.DataFrame) -> bool:
    """Tell whether all that is to be ordered lies in one Kafka partition."""
    return len({*rows["_partition"].unique(), *ends["_partition"].unique()}) < 2  # noqa: PLR2004


def _sorted(rows: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Sort changes by key and order, each taken once, with the columns that the fold needs."""
    carried = [n for n in rows.columns if n in _CARRIED and rows[n].null_count() < rows.height]
    log = ("_timestamp", "_source") if isinstance(stream.value, Debezium) else ("_source",)
    names = dict.fromkeys([*(column.name for column in stream.columns), *_OURS, *carried, *log])
    return _once(rows.select(*names).sort(*stream.keys, "_order", *ROW_COORDINATES), stream)


def _by_place(
    rows: pl.DataFrame, ends: pl.DataFrame, stream: Changes
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Give apart the keys whose source went on with another log; theirs are told their ends as deletes."""
    keys = list(stream.keys)
    odd = contradictory(rows, ends, keys)
    if odd is None:
        yield rows, ends
        return
    yield rows.join(odd, on=keys, how="anti", maintain_order="left"), ends
    size = max(1, _AT_ONCE // max(1, ends.height))
    for part in odd.iter_slices(size):
        mine = rows.join(part, on=keys, how="semi", maintain_order="left").with_columns(_mark=pl.lit("~"))
        told = _told_ends(mine, ends, stream).with_columns(_mark=pl.lit("!"))  # first at an equal position
        every = pl.concat([mine, told], how="diagonal")
        epoch = numbered(every, keys).cast(pl.String).str.zfill(10)
        order = pl.concat_str(epoch, "_position", "_mark", separator=" ").alias("_order")
        yield _ended(every.with_columns(order).sort(*keys, "_order", *ROW_COORDINATES), keys), ends.clear()


def _ended(ordered: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Drop the images that end nothing, since their key is not there: they do not date what comes next.

    An image's clock tells when it was read, which may be after the next change was committed.
    """
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in keys) & (_ROW > 0)
    nothing = ~same | _GONE.shift()
    return _without(ordered, (pl.col("_by_image").fill_null(value=False) & nothing)).drop("_by_image")


def _told_ends(rows: pl.DataFrame, ends: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Tell each key what ends it as deletes."""
    keys, table = list(stream.keys), pl.col("_source").struct.field("table")
    known = [name for name in ends.columns if name in rows.columns and name != "_order"]
    by_image = pl.col("_image").is_not_null()
    ending = ends.select(
        *known, "_image", _by_image=by_image, _valid_from="_until", _op=pl.lit("d"), _of=table
    )
    told = rows.select(*keys, table.alias("_table")).unique().join(ending, how="cross")
    told = told.filter((pl.col("_of") == pl.col("_table")).fill_null(value=True)).drop("_table", "_of")
    image = image_of(stream)
    if image is not None:
        has = rows.select(*keys, image.alias("_image")).drop_nulls("_image").unique()
        told = told.join(has, on=[*keys, "_image"], how="anti")
    return told.drop("_image")


def _states(ordered: pl.DataFrame, ends: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Close keys where something that does not name them ends them.

    Adds `_id` (one number a key) and `_begin` (the running maximum of `_valid_from`).
    """
    new = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in stream.keys)
    states = ordered.with_columns(_id=(new | (_ROW == 0)).cum_sum())
    states = states.with_columns(_running(states, stream).alias("_begin"))
    return closed(states, ends, stream)


def _once(ordered: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Of the tellings of a change give the one that stands; silver has decided, most often."""
    fact = (*stream.keys, "_order")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in fact) & (_ROW > 0)
    again = ordered.select(same).to_series()
    if not again.any():
        return ordered
    rows = ordered.with_row_index("_row")
    several = again | again.shift(-1, fill_value=False)
    some = rows.filter(several).unique([*fact, *ROW_COORDINATES], keep="first", maintain_order=True)
    contents = tuple(name for name in identity(stream).contents if name in some.columns)
    decided = SameChange(stream.keys, contents, "_order").decide(
        some.select("_row", *fact, *ROW_COORDINATES), some
    )
    stands = decided.filter("_kept")["_row"]
    return ordered.filter(~several | rows["_row"].is_in(stands.implode()))


def _together(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Put the states of different keys together, each key with an `_id` of its own."""
    whole = parts[0]
    for part in parts[1:]:
        last = pl.lit(whole["_id"].max() or 0, part.schema["_id"])
        whole = pl.concat([whole, part.with_columns(pl.col("_id") + last)], how="diagonal")
    return whole


def _without(rows: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    """Drop rows; most often there are none, and copying all for nothing costs."""
    dropped = rows.select(condition).to_series()
    return rows.filter(~dropped) if dropped.any() else rows


def _running(rows: pl.DataFrame, stream: Changes) -> pl.Expr:
    """Give the running maximum of `_valid_from` of a key; where it is null, that of the change before.

    A row that was read (`r`) says when it was read: what it tells began no later than the change after it.
    Rows of an image (`snapshot`) say when they began, as its deletes do.
    """
    begin, read = pl.col("_valid_from"), (pl.col("_op") == "r") & pl.lit(stream.snapshot is None)
    falls = begin.is_null() | ((begin < begin.shift()) & (pl.col("_id") == pl.col("_id").shift()))
    if not rows.select(falls.any()).item():  # most often time never goes back
        return begin
    latest = pl.when(~read).then(begin).backward_fill()
    begun = pl.when(read).then(pl.min_horizontal(begin, latest)).otherwise(begin)
    return begun.cum_max().forward_fill().over("_id")


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
