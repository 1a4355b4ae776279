"""What a change does not say: the values that it keeps from the newest earlier change of its key.

Decides which values were not sent (Debezium's unavailable values; nulls where the contract has
`ignore_null`, also inside structs, each member by itself), and where they are found: in the life of the key
(since it was last deleted), else, where the change made a new key of an old one, in the row of the old key.
A value that is nowhere stays null.
"""

from collections.abc import Iterator

import polars as pl

from sluice.contract import Changes
from sluice.envelopes.patches import grounded, patched
from sluice.envelopes.previous import previous

_GONE = pl.col("_op").is_in(["d", "t"])
_SEPARATOR = "\x1f"  # between the names of members


def unsent_nulls(stream: Changes) -> tuple[str, ...]:
    """Name the columns in which null means "not sent"."""
    if isinstance(stream.ignore_null, tuple):
        return stream.ignore_null
    fixed = {*stream.keys, *stream.sequences, stream.valid_from, stream.snapshot}
    return tuple(c.name for c in stream.columns if c.name not in fixed) if stream.ignore_null else ()


def carry(states: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Fill the values that changes did not send.

    Args:
        states: changes sorted by key (`_id`) and order, with `_op`, `_position`, and where they are known
            `_unavailable`, `_previous_key` and `_patch`.
        stream: the contract.

    Returns:
        The same rows, but for changes of what is not there; `_unavailable`, `_previous_key` and `_patch`
        are dropped.
    """
    has_patches = "_patch" in states.columns
    if has_patches:
        states = grounded(states)
    apart = {n: t for n in unsent_nulls(stream) if isinstance(t := states.schema[n], pl.Struct) and t.fields}
    states = states.with_columns(
        part.alias(part_name)
        for name, dtype in apart.items()
        for part_name, part in _parts(dtype, pl.col(name), (name,))
    )
    parts = [name for name in states.columns if _SEPARATOR in name]
    missing = {n: pl.col(n).is_null() for n in (*unsent_nulls(stream), *parts) if n not in apart}
    if "_unavailable" in states.columns:
        for name in states["_unavailable"].explode().drop_nulls().unique().sort():
            unavailable = pl.col("_unavailable").list.contains(name).fill_null(value=False)
            missing[name] = missing.get(name, pl.lit(value=False)) | unavailable
    filled = _filled(states, missing, stream) if missing and states.height else states
    filled = filled.with_columns(_joined(t, (n,)).alias(n) for n, t in apart.items()).drop(parts)
    if has_patches and states.height:
        filled = patched(filled, states, missing, stream)
    return filled.drop("_unavailable", "_previous_key", "_patch", strict=False)


def _parts(dtype: pl.DataType, value: pl.Expr, path: tuple[str, ...]) -> Iterator[tuple[str, pl.Expr]]:
    """List by name what is kept apart of a value: of a struct that it was sent at all, and its members."""
    if not (isinstance(dtype, pl.Struct) and dtype.fields):
        yield _SEPARATOR.join(path), value
        return
    yield _SEPARATOR.join((*path, "")), pl.when(value.is_not_null()).then(pl.lit(value=True))
    for m in dtype.fields:
        yield from _parts(m.dtype, value.struct.field(m.name), (*path, m.name))  # type: ignore[arg-type]


def _joined(dtype: pl.DataType, path: tuple[str, ...]) -> pl.Expr:
    """Put members together again; a struct that was never sent stays null."""
    if not (isinstance(dtype, pl.Struct) and dtype.fields):
        return pl.col(_SEPARATOR.join(path))
    members = [_joined(m.dtype, (*path, m.name)).alias(m.name) for m in dtype.fields]  # type: ignore[arg-type]
    return pl.when(pl.col(_SEPARATOR.join((*path, ""))).is_not_null()).then(pl.struct(members))


def _filled(states: pl.DataFrame, missing: dict[str, pl.Expr], stream: Changes) -> pl.DataFrame:
    row = pl.int_range(pl.len())
    born = (pl.col("_id") != pl.col("_id").shift()).fill_null(value=True) | _GONE.shift(fill_value=False)
    life = states.select(pl.when(born).then(row).forward_fill()).to_series()  # the row at which it began
    parents = _parents(states, stream).gather(life)
    columns = []
    for name, unsent in missing.items():
        source = states.select(pl.when(~unsent & ~_GONE).then(row).forward_fill()).to_series()
        source = pl.select(pl.when(pl.lit(source) >= pl.lit(life)).then(pl.lit(source))).to_series()
        while True:  # a key may have changed more than once
            better = pl.select(pl.coalesce(pl.lit(source), pl.lit(source.gather(parents)))).to_series()
            if better.null_count() == source.null_count():
                break
            source = better
        columns.append(states[name].gather(source).alias(name))
    return states.with_columns(columns)


def _parents(states: pl.DataFrame, stream: Changes) -> pl.Series:
    """Give for each row that renamed a key the row of the old key that stood before it, else null."""
    rows = states.with_row_index("_row").with_columns(pl.col("_row").cast(pl.Int64))
    none = pl.Series("_parent", [None], pl.Int64).extend_constant(None, states.height - 1)
    if "_previous_key" not in states.columns:
        return none
    at = pl.col("_source").struct.field("committed_at")
    renamed = rows.filter(pl.col("_previous_key").is_not_null())
    renamed = renamed.select("_row", "_position", "_previous_key", _at=at)
    old = previous(renamed["_previous_key"], stream)
    wanted = pl.concat([renamed.drop("_previous_key"), old], how="horizontal")
    before = rows.filter(~_GONE).select(*stream.keys, _parent="_row", _stood="_position", _since=at)
    earlier = pl.col("_since") < pl.col("_at")  # also where a new server's places begin anew
    found = (
        wanted.join(before, on=list(stream.keys))
        .filter((pl.col("_stood") < pl.col("_position")) | earlier)
        .group_by("_row")
        .agg(pl.col("_parent").max())  # rows are sorted: the greatest is the newest
    )
    return none.scatter(found["_row"], found["_parent"]) if found.height else none
