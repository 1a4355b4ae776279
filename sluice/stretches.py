"""What was read of one log to find bounds: stretches of offsets and stamps, each read once.

Decides how much is read at once: little where bounds lie far apart, ever more where one stretch follows the
other. What lies behind the last bound is forgotten, so memory holds what lies between two bounds, not the
log. No I/O here: the log is handed in.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import Protocol

import polars as pl

_NOTHING = pl.DataFrame(schema={"offset": pl.Int64, "stamp": pl.Int64})
_MOST = 1 << 17  # offsets read ahead unasked


class Log(Protocol):
    """The log of one Kafka partition: offsets `[low, high)`, those without record included."""

    @property
    def low(self) -> int:
        """The first offset that the log still has."""

    @property
    def high(self) -> int:
        """The offset after the last record."""

    @property
    def in_order(self) -> bool:
        """Whether the broker stamped all records itself, so that look-ups alone tell the truth."""

    def offsets_for_times(self, times_ms: Sequence[int]) -> list[int | None]:
        """Give for each time (epoch milliseconds) the first offset whose stamp is that or later, if any."""

    def stamps(self, first: int, stop: int) -> pl.DataFrame:
        """Give `offset` and `stamp` (epoch milliseconds) of the records in `[first, stop)`, in order."""


class _Stretch:
    """Records `[begin, stop)` of a log (`offset`, `stamp`), in order."""

    def __init__(self, begin: int, stop: int, records: pl.DataFrame) -> None:
        self.begin, self.stop, self.records = begin, stop, records
        self.offsets = array("q", records["offset"].to_list())  # bisects far faster than a series

    def between(self, begin: int, stop: int) -> pl.DataFrame:
        """Cut to the offsets `[begin, stop)`."""
        return self.records[bisect_left(self.offsets, begin) : bisect_left(self.offsets, stop)]


_begin = attrgetter("begin")


class Stretches:
    """The stretches of a log that were read, in order."""

    def __init__(self, log: Log, reach: int) -> None:
        self._log = log
        self._reach = reach  # offsets read at least
        self._end = _Stretch(log.high, log.high, _NOTHING)
        self._kept: list[_Stretch] = []

    def read(self, begin: int, stop: int) -> pl.DataFrame:
        """Give `offset` and `stamp` of the records in `[begin, stop)`; of the log only what was not read."""
        parts, at = [], begin
        place = self._place(begin)
        while at < stop:
            known = self._kept[place] if place < len(self._kept) else self._end
            if known.stop <= at < self._end.stop:  # it ends before
                place += 1
            elif known.begin <= at:
                parts.append(known.between(at, min(stop, known.stop)))
                at, place = known.stop, place + 1
            else:
                last = self._kept[place - 1] if place else self._end
                follows = 2 * (last.stop - last.begin) if last.stop == at else 0
                ahead = min(known.begin, max(stop, at + max(self._reach, min(follows, _MOST))))
                self._kept.insert(place, _Stretch(at, ahead, self._log.stamps(at, ahead)))
        return parts[0] if len(parts) == 1 else pl.concat(parts)

    def first_at_or_after(self, ms: int, at: int) -> tuple[int, int] | None:
        """Give offset and stamp of the first record from `at` on stamped `ms` or later, if it was read."""
        for piece in self._kept[self._place(at) :]:
            if not piece.begin <= at < piece.stop:
                return None
            place = bisect_left(piece.offsets, at)
            stamps = piece.records["stamp"][place:]
            found = (stamps >= ms).arg_max()
            if found is not None and stamps[found] >= ms:
                return piece.offsets[place + found], stamps[found]
            at = piece.stop
        return None

    def forget(self, before: int) -> None:
        """Let go what ends at an offset or before it."""
        while self._kept and self._kept[0].stop <= before:
            del self._kept[0]

    def _place(self, at: int) -> int:
        """Find the stretch that holds an offset, or where one would begin."""
        return max(0, bisect_right(self._kept, at, key=_begin) - 1)
