"""What follows from a dimension's own rows: new changes that come after all that was folded of their key.

The newest state of a live key stands in the dimension, in its open row. Where a key's new changes lie after
it, and what else was folded can neither close nor date them otherwise, folding that row and the new changes
gives what folding all changes of the key gives. It decides for which keys that is so, and refuses the others:
those are folded from all their changes. New whole images end open rows too; where they lie after all that was
folded, every open row follows. No tables are looked at here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from sluice.contract import Changes, Debezium
from sluice.envelopes.origins import LOG
from sluice.envelopes.positions import encode
from sluice.envelopes.previous import previous
from sluice.history.closers import OF_SNAPSHOT
from sluice.history.epochs import AT, READING, contradictory
from sluice.history.opening import behind_snapshots, streamed
from sluice.history.scd2 import fold
from sluice.tables import ROW_COORDINATES

_TOLD = ["_position", "_valid_from", "_timestamp", "_source"]
_SERVER = pl.col("_source").struct.field("server")


@dataclass(frozen=True)
class Mark:
    """How far the changes of a bucket reach that were ever folded, and what could end their keys.

    Attributes:
        position: the greatest.
        begin: the latest beginning, as `encode` writes it.
        clock: the latest by the source's clock, in microseconds.
        servers: those that told them, where they are told.
        odd: whether places and clocks of some key contradict each other (`sluice.history.epochs`).
        streamed: the latest clock of a change that a snapshot may precede (`sluice.history.opening`).
        image: the greatest value of `snapshot`, as `encode` writes it.
    """

    position: str = ""
    begin: str = ""
    clock: int = 0
    servers: tuple[str, ...] = ()
    odd: bool = False
    streamed: int = 0
    image: str = ""

    def over(self, other: "Mark") -> "Mark":
        """Give the mark of both."""
        return Mark(
            max(self.position, other.position),
            max(self.begin, other.begin),
            max(self.clock, other.clock),
            tuple(sorted({*self.servers, *other.servers})),
            self.odd or other.odd,
            max(self.streamed, other.streamed),
            max(self.image, other.image),
        )


def mark(changes: pl.DataFrame, ends: pl.DataFrame, stream: Changes) -> Mark:
    """Give the mark of changes (rows of silver) and of what ends keys (`sluice.history.closers`)."""
    placed, ends = behind_snapshots(changes, ends, stream)
    told = [placed.select(_TOLD), ends.rename({"_until": "_valid_from"}).select(_TOLD)]
    rows = pl.concat([part for part in told if part.height] or told[:1])
    begin = encode(rows, ["_valid_from"]).max() if stream.history else None
    image = encode(changes, [stream.snapshot]).max() if stream.snapshot else None
    known = Mark(str(rows["_position"].max() or ""), str(begin or ""), image=str(image or ""))
    if not _by_place(stream) or not rows.height:
        return known
    clock, servers = rows.select(AT.max(), _SERVER.drop_nulls().unique().sort().implode()).row(0)
    ordered = placed.sort(*stream.keys, "_position")
    told_by_log = None
    if isinstance(stream.value, Debezium) and stream.value.source == "postgresql":
        told_by_log = changes.filter(streamed(changes)).select(AT.max()).item()
    odd = contradictory(ordered, ends, stream.keys) is not None
    return replace(known, clock=int(clock), servers=tuple(servers), odd=odd, streamed=int(told_by_log or 0))


def _by_place(stream: Changes) -> bool:
    return isinstance(stream.value, Debezium) and not stream.sequences


def may_follow(stream: Changes, *, one_partition: bool) -> bool:
    """Tell whether a stream's changes are ordered by position alone."""
    return bool(stream.sequences) or isinstance(stream.value, Debezium) or one_partition


def images_follow(least: pl.DataFrame, known: Mark, stream: Changes) -> bool:
    """Tell whether new changes are of whole images after all that was folded, of any key.

    Such images end the open rows that they lack, and nothing else: all open rows follow.

    Args:
        least: one row, the least that the new changes tell of `_position`, `_valid_from` and `snapshot`.
        known: the mark of all buckets.
        stream: a contract with `snapshot`; `may_follow` holds.
    """
    if _by_place(stream) or not known.image:
        return False
    names = ["_position", *(["_valid_from"] if stream.history else []), str(stream.snapshot)]
    told = [encode(least, [name]).item() for name in names[1:]]
    passed = [known.begin] * stream.history + [known.image]
    after = all(value is not None and value > mark for value, mark in zip(told, passed, strict=True))
    return after and least["_position"].item() > known.position


def following(
    new: pl.DataFrame, stands: pl.DataFrame, known: Mark, reached: Mark, stream: Changes
) -> pl.DataFrame:
    """Give the keys whose new changes follow from the rows that stand.

    Args:
        new: the new changes of some keys, all of them.
        stands: the open rows of these keys, of the dimension.
        known: the mark of all that was folded before, what ends keys that it does not name among it.
        reached: the mark of that and of all new changes.
        stream: the contract; `may_follow` holds.
    """
    keys = list(stream.keys)
    if _by_place(stream) and (reached.odd or len(reached.servers) > 1 or LOG in reached.servers):
        return new.select(keys).clear()
    if reached.streamed and _read_before(new, reached.streamed + READING):
        return new.select(keys).clear()
    begin = encode(new, ["_valid_from"]) if stream.history else pl.lit("")
    rows = new.with_columns(AT.alias("_clock"), _begin=begin)
    least = [pl.col("_position", "_begin", "_clock").min(), pl.col("_previous_key").count().alias("_renamed")]
    if rows.select(least).select(_after(pl.lit(known.position), known, stream)).item():  # most often
        return new.select(keys).unique()
    of_key = rows.group_by(keys).agg(least)
    met = of_key.join(stands.select(*keys, _stood="_position"), on=keys, how="left")
    # A deleted key does not tell its end: the mark does.
    return met.filter(_after(pl.coalesce("_stood", pl.lit(known.position)), known, stream)).select(keys)


def _read_before(new: pl.DataFrame, until: int) -> bool:
    """Tell whether a snapshot, no later than a clock, read some of the changes."""
    return bool(new.select((OF_SNAPSHOT.is_not_null() & (until >= AT)).any()).item())


def _after(stood: pl.Expr, known: Mark, stream: Changes) -> pl.Expr:
    """Tell whether changes, by the least they tell, come after a position and all that was folded."""
    after = (pl.col("_position") > stood) & (pl.col("_renamed") == 0)
    if stream.history:  # an open row does not tell when its last change began
        after &= pl.col("_begin") > known.begin
    if _by_place(stream):
        after &= pl.col("_clock") >= known.clock
    return after


def follow(
    new: pl.DataFrame, stands: pl.DataFrame, closed: pl.DataFrame, ends: pl.DataFrame, stream: Changes
) -> pl.DataFrame:
    """Give the rows that take the place of the open rows of some keys.

    Args:
        new: the new changes of keys that follow.
        stands: their open rows.
        closed: the key columns and `version` of their other versions.
        ends: what ends keys that it does not name, after all that was folded before.
        stream: the contract.

    Returns:
        as `sluice.history.scd2.fold`, numbered on from the versions before.
    """
    begin = pl.col("valid_from") if stream.history else pl.lit(new["_valid_from"].min())
    placed = pl.concat([frame.select(ROW_COORDINATES) for frame in (new, ends)])
    given = {"_valid_from": begin} | {name: pl.lit(placed[name].first()) for name in ROW_COORDINATES}
    known = [name for name in new.columns if name in stands.columns and name not in given]
    missing = [name for name in new.columns if name not in {*known, *given}]
    states = stands.select(
        *known, *(e.alias(n) for n, e in given.items()), *(pl.lit(None).alias(n) for n in missing)
    )
    states = states.select(pl.col(name).cast(new.schema[name]) for name in new.columns)
    rows = fold(pl.concat([states, new]), stream, ends)
    if not stream.history:
        return rows
    keys = list(stream.keys)
    before = closed.group_by(keys).agg(_passed=pl.col("version").max())
    reborn = before.filter(~among(before, stands, keys))
    passed = pl.concat([stands.select(*keys, _passed=pl.col("version") - 1), reborn])
    key = pl.struct(keys)  # of sorted columns by themselves polars joins no NaN
    passed = passed.select("_passed", _key=key)
    numbered = rows.join(passed, left_on=key, right_on="_key", how="left", maintain_order="left")
    version = pl.col("version") + pl.col("_passed").fill_null(0)
    return numbered.with_columns(version.cast(rows.schema["version"])).drop("_passed", "_key", strict=False)


def renames(changes: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    """Give the changes of key that changes tell: the key columns, and with `_old` the key before.

    Args:
        changes: key columns and `_previous_key`.
        stream: the contract.
    """
    told = changes.filter(pl.col("_previous_key").is_not_null())
    old = previous(told["_previous_key"], stream)
    return told.select(*stream.keys, *(old[name].alias(name + "_old") for name in stream.keys))


def connected(keys: pl.DataFrame, edges: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Give the keys that changes of key (`renames`) connect with some keys, these among them if any does."""
    new = edges.select(names)
    old = edges.select(pl.col(name + "_old").alias(name) for name in names)
    found = keys.join(pl.concat([new, old]).unique(), on=list(names), how="semi")
    while True:
        forth = old.filter(among(new, found, names))
        back = new.filter(among(old, found, names))
        more = pl.concat([found, forth, back]).unique()
        if more.height == found.height:
            return more
        found = more


def among(rows: pl.DataFrame, keys: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    """Mark the rows whose key is one of some keys."""
    if len(names) == 1:
        return rows[names[0]].is_in(keys[names[0]].unique().implode())
    wanted = keys.select(names).unique().with_columns(_here=True)
    marked = rows.select(names).join(wanted, on=list(names), how="left", maintain_order="left")
    return marked["_here"].is_not_null()
