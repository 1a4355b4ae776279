"""Epochs of a position: where a source went on with a new log, whose places begin anew.

A new server (a failover, a restore, binlogs that begin anew) writes places that say nothing about those of
the log before. It shows in changes of one key whose places contradict their order in Kafka, when the server
has another name, or the source's own clock agrees with Kafka. Those are put into epochs, each ordered by
place, in the order in which Kafka shows them first; what was only delivered late or again stays in its epoch.
A place alone, a clock alone or Kafka alone decide nothing: each of them goes back for other reasons.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import polars as pl

from sluice.envelopes.origins import LOG

_KAFKA = ("_epoch", "_partition", "_offset", "_timestamp")
_SOURCE = pl.col("_source").struct
_SERVER = _SOURCE.field("server")
AT = pl.coalesce(_SOURCE.field("committed_at"), "_timestamp").dt.epoch("us").fill_null(0)
_NEAR = 4  # snapshots do not name the server: the first changes after them do
BEHIND = "~"  # in a position: it was put behind a snapshot (`sluice.history.opening`)
READING = 60_000_000  # microseconds: MySQL's snapshots tell when a table was read, not its place


class _Told(NamedTuple):
    """One change of a key: its place, its source's clock and name, its row."""

    place: str
    at: int
    server: str | None
    read: bool
    row: int


_Epoch = list[_Told]  # the changes of one log, sorted by place


def contradictory(rows: pl.DataFrame, ends: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame | None:
    """Find the keys whose places, clocks or servers do not agree with each other and with Kafka.

    Args:
        rows: changes (silver's columns) sorted by key and position.
        ends: what ends keys that it does not name (`sluice.history.closers`).
        keys: the key columns.

    Returns:
        the key columns; None where there are none, as most often.
    """
    same = pl.all_horizontal(pl.col(k).eq_missing(pl.col(k).shift()) for k in keys)
    unplaced = _SERVER.eq_missing(pl.lit(LOG))
    odd = (AT.shift() > AT) | (_SERVER.shift() != _SERVER) | (unplaced != unplaced.shift())
    found = rows.select((same & odd).fill_null(value=False)).to_series()
    odd_keys = []
    if ends.height:
        odd_keys.append(_ended_by_another(rows, ends).select(keys))
        upto = _ended_by_another(ends, ends)["_position"].max()  # ends that contradict each other
        odd_keys.append(rows.filter(pl.col("_position") < pl.lit(upto, pl.String)).select(keys))
    if found.any():
        among = rows.filter(found).select(keys).unique()
        suspects = rows.select(*keys, *_KAFKA).join(among, on=list(keys), how="semi", maintain_order="left")
        by_log = suspects.with_row_index("_place").sort(*keys, "_epoch", "_offset").group_by(keys)
        goes_back = (pl.col("_place").diff() < 0).any() | (pl.col("_partition").n_unique() > 1)
        odd_keys.append(by_log.agg(_back=goes_back).filter("_back").select(keys))
    every = pl.concat(odd_keys).unique() if odd_keys else None
    return every if every is not None and every.height else None


def _ended_by_another(rows: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """Find changes that lie on one side of an end by their place, on the other by Kafka and their source."""
    some = rows.filter(_likely(rows, ends))
    if not some.height:
        return some
    found = pl.repeat(value=False, n=some.height, eager=True)
    told = ends.select("_position", at=AT, server=_SERVER, written="_timestamp")
    for place, at, server, written in told.iter_rows():
        other = pl.lit(value=False) if server is None else (pl.lit(server) != _SERVER).fill_null(value=False)
        stamp, clock = pl.lit(written, pl.Datetime("us", "UTC")), pl.lit(at)
        goes_on = (pl.col("_position") > place) & (stamp > pl.col("_timestamp")) & ((clock > AT) | other)
        went_on = (pl.col("_position") < place) & (stamp < pl.col("_timestamp")) & ((clock < AT) | other)
        found |= some.select((goes_on | went_on).fill_null(value=False)).to_series()
    return some.filter(found)


def _likely(rows: pl.DataFrame, ends: pl.DataFrame) -> pl.Series:
    """Mark changes that some end is later than by the clock and before by place, or the other way round."""
    by_place = ends.sort("_position")
    latest_before = by_place.select(AT.cum_max()).to_series()
    first_after = by_place.select(AT.cum_min(reverse=True)).to_series()
    before = by_place["_position"].search_sorted(rows["_position"], side="left").cast(pl.Int64)
    after = by_place["_position"].search_sorted(rows["_position"], side="right").cast(pl.Int64)
    latest = latest_before.gather(pl.select(pl.when(before > 0).then(before - 1)).to_series())
    first = first_after.gather(pl.select(pl.when(after < ends.height).then(after)).to_series())
    likely = (pl.lit(latest) >= AT).fill_null(value=False) | (pl.lit(first) <= AT).fill_null(value=False)
    return rows.select(likely).to_series()


def numbered(rows: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Give the number of the epoch of each change of some keys; 0 is the first.

    Args:
        rows: all changes of the keys (silver's columns), in any order.
        keys: the key columns.
    """
    alone = pl.col("_partition").n_unique().over(keys) == 1  # then offsets order, else Kafka's clock
    clock = pl.when(~alone).then("_timestamp")
    read = _SOURCE.field("snapshot").is_not_null()
    ordered = rows.with_row_index("_row").sort(*keys, "_epoch", clock, "_offset", "_partition")
    of_key = pl.struct(keys).rle_id()
    told = ordered.select(
        of_key.alias("_key"), "_position", AT.alias("_at"), _SERVER, read.alias("_read"), "_row"
    )
    numbers = [0] * rows.height
    for _, group in groupby(told.iter_rows(), itemgetter(0)):
        for number, epoch in enumerate(_epochs(_Told(*change[1:]) for change in group)):
            for change in epoch:
                numbers[change.row] = number
    return pl.Series("_number", numbers, pl.Int32)


def _epochs(changes: Iterator[_Told]) -> list[_Epoch]:
    """Put the changes of one key, in the order of Kafka, into epochs."""
    epochs: list[_Epoch] = [[]]
    openers: list[_Told] = []  # what showed each epoch but the first
    for change in changes:
        mine = epochs[-1]
        older, newer = _contradicts(mine, change)
        if older or (openers and _before(change, openers[-1])):  # late: of the last that it fits
            ended = zip(reversed(epochs[:-1]), reversed(openers), strict=True)
            fitting = (log for log, by in ended if change.at < by.at and not any(_contradicts(log, change)))
            mine = next(fitting, mine)
        elif newer:
            mine = []
            epochs.append(mine)
            openers.append(change)
        insort(mine, change, key=itemgetter(0))
    return epochs


def _before(change: _Told, opener: _Told) -> bool:
    """Tell whether a change was written before what opened an epoch, however late a snapshot tells it."""
    return change.at + _slack(opener, change) < opener.at


def _contradicts(epoch: _Epoch, change: _Told) -> tuple[bool, bool]:
    """Tell whether its neighbours say that a change is older, and that it is newer than this log."""
    at = bisect_left(epoch, change.place, key=itemgetter(0))
    older = at > 0 and epoch[at - 1].at > change.at + _slack(epoch[at - 1], change)
    if at < len(epoch) and epoch[at].place == change.place:
        at += 1
    if at == len(epoch):
        return older, False
    after = epoch[at]
    named = next((t.server for t in epoch[at : at + _NEAR] if t.server is not None), None)
    return older, after.at + _slack(after, change) < change.at or _differ(named, change.server)


def _slack(one: _Told, other: _Told) -> int:
    """Give how much later a snapshot may tell a row than its place.

    PostgreSQL's tells when it began, and what was put behind it was committed a little before.
    """
    streamed = one if other.read else other
    late = streamed.server is not None or BEHIND in streamed.place
    return READING if one.read != other.read and late else 0


def _differ(one: str | None, other: str | None) -> bool:
    if LOG in (one, other):
        return one != other
    return one is not None and other is not None and one != other
