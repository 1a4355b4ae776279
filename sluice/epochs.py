"""Epochs of a position: where a source went on with a new log, whose places begin anew.

A new server (a failover, a restore, binlogs that begin anew) writes places that say nothing about those of
the log before. It shows in changes of one key whose places contradict their order in Kafka, when the server
has another name, or the source's own clock agrees with Kafka. Those are put into epochs, each ordered by
place, in the order in which Kafka shows them first; what was only delivered late or again stays in its epoch.
A place alone, a clock alone or Kafka alone decide nothing: each of them goes back for other reasons.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

import polars as pl

_NEVER = datetime.min.replace(tzinfo=UTC)
_KAFKA = ("_epoch", "_partition", "_offset", "_timestamp")


class _Told(NamedTuple):
    """One change of a key: its place, its source's clock and name, its row."""

    place: str
    at: datetime
    server: str | None
    row: int


@dataclass
class _Epoch:
    """Changes of one log, sorted by place."""

    told: list[_Told] = field(default_factory=list)

    def contradicts(self, change: _Told) -> tuple[bool, bool]:
        """Tell whether its neighbours say that the change is older, and that it is newer than this log."""
        at = bisect_left(self.told, change.place, key=itemgetter(0))
        before = self.told[at - 1] if at else None
        after = next((t for t in self.told[at : at + 2] if t.place > change.place), None)
        newer = after is not None and (after.at < change.at or _differ(after.server, change.server))
        return before is not None and before.at > change.at, newer


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def contradictory(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame | None:
    """Find the keys whose places, clocks or servers do not agree with each other and with Kafka.

    Args:
        rows: changes (silver's columns) sorted by key and position.
        keys: the key columns.

    Returns:
        the key columns; None where there are none, as most often.
    """
    source = pl.col("_source").struct
    at, server = source.field("committed_at"), source.field("server")
    same = pl.all_horizontal(pl.col(k).eq_missing(pl.col(k).shift()) for k in keys)
    odd = (at < at.shift()) | (server != server.shift())
    found = rows.select((same & odd).fill_null(value=False)).to_series()
    if not found.any():
        return None
    odd_keys = rows.filter(found).select(keys).unique()
    suspects = rows.select(*keys, *_KAFKA).join(odd_keys, on=list(keys), how="semi", maintain_order="left")
    by_log = suspects.with_row_index("_place").sort(*keys, "_epoch", "_offset").group_by(keys)
    goes_back = (pl.col("_place").diff() < 0).any() | (pl.col("_partition").n_unique() > 1)
    back = by_log.agg(_back=goes_back).filter("_back")
    return back.select(keys) if back.height else None


def numbered(rows: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Give the number of the epoch of each change of some keys; 0 is the first.

    Args:
        rows: all changes of the keys (silver's columns), in any order.
        keys: the key columns.
    """
    numbers = [0] * rows.height
    names = [*_KAFKA, "_position", "_source"]
    groups = rows.with_row_index("_row").partition_by(keys, maintain_order=True)
    for group in groups:
        mine = group.select("_row", *names).to_dicts()
        alone = group["_partition"].n_unique() == 1
        mine.sort(key=_by_offset if alone else _by_time)
        for number, epoch in enumerate(_epochs(mine)):
            for change in epoch.told:
                numbers[change.row] = number
    return pl.Series("_number", numbers, pl.Int32)


def _by_offset(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["_epoch"], row["_offset"]


def _by_time(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["_epoch"], row["_timestamp"] or _NEVER, row["_offset"], row["_partition"]


def _epochs(rows: list[dict[str, Any]]) -> list[_Epoch]:
    """Put the changes of one key, in the order of Kafka, into epochs."""
    epochs = [_Epoch()]
    for row in rows:
        source = row["_source"] or {}
        at = source.get("committed_at") or row["_timestamp"] or _NEVER
        change = _Told(row["_position"], at, source.get("server"), row["_row"])
        against = [epoch.contradicts(change) for epoch in reversed(epochs)]
        fits = next((n for n, told in enumerate(against) if not any(told)), None)
        _, newer = against[0]
        if fits is None and newer:
            epochs.append(_Epoch())
            fits = 0
        insort(epochs[-1 - (fits or 0)].told, change, key=itemgetter(0))
    return epochs
