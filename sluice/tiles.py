"""Where the bounds of tiles lie in the log of one Kafka partition.

Decides at which offset a tile ends: at the split that puts the fewest stamps on the wrong side, the first
such; while the hour around it is still young, stamps more than an hour ahead of now count for nothing, and
stamps below zero (none) never count. So one wrong clock moves nothing. A bound is the offset of a record
that counts, or the log's high watermark where none follows. It refuses to read a whole log for that: it
reads on from the broker's look-up until the split is `HYSTERESIS` records better than all that was read
after it, and trusts `SAMPLES` samples over the log for the rest. Logs with fewer records than that are
split exactly. No I/O here: the log is handed in.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf
from operator import itemgetter
from typing import Protocol

import polars as pl

HYSTERESIS = 3_000  # records
HOUR_MS = 3_600_000
SAMPLES = 64
SAMPLE_OFFSETS = 100
_REACH = 2 * HYSTERESIS  # offsets that a walk reads first; then ever more
_FARTHEST_REACH = 1 << 20
_NOTHING = pl.DataFrame(schema={"offset": pl.Int64, "stamp": pl.Int64})
_PATIENCE = 64_000  # records walked before the samples are asked for a shorter way
_FAR = 2**63 - 1


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

    def offset_for_time(self, ms: int) -> int | None:
        """Give the first offset whose stamp is `ms` (epoch milliseconds) or later, if any."""

    def stamps(self, first: int, stop: int) -> pl.DataFrame:
        """Give `offset` and `stamp` (epoch milliseconds) of the records in `[first, stop)`, in order."""


def first_offset(log: Log, start_ms: int) -> int:
    """Give the offset at which a stream's first tile begins; what is before it is left out.

    That is `low` to the offset given: older than the start, and not owned by any tile.
    """
    found = log.offset_for_time(start_ms)
    return log.high if found is None else found


def bounds(log: Log, first: int, ends_ms: Sequence[int], now_ms: int) -> list[int]:
    """Give the offset at which each of some consecutive tiles ends, from `first` on; they never decrease.

    Args:
        log: the log of one partition.
        first: where the first of the tiles begins.
        ends_ms: when each tile ends (epoch milliseconds), in order.
        now_ms: the time now; a tile that ended less than an hour ago is live.
    """
    plan = _Plan(log, first)
    result: list[int] = []
    floor = min(first, log.high)
    for end in ends_ms:
        history = end + HOUR_MS <= now_ms
        floor = plan.bound(end, _FAR if history else now_ms + HOUR_MS, floor)
        result.append(floor)
    return result


class _Plan:
    """Finds bounds in one log; what it has read, it keeps."""

    def __init__(self, log: Log, first: int) -> None:
        self.log = log
        self.first = max(first, log.low)
        self.high = log.high
        self.kept: list[tuple[int, int, pl.DataFrame]] = []  # by offset, each read once
        self.answer: tuple[int, int | None] = (-_FAR, None)  # of the broker, and up to which time it holds
        self.samples: list[tuple[int, int, list[int]]] | None = None

    def bound(self, end: int, latest: int, floor: int) -> int:
        """Find one bound at `floor` or after it; stamps beyond `latest` count for nothing."""
        found = self._look_up(end)
        if found is None or max(floor, found) >= self.high:
            return self.high
        start = max(floor, found)  # all before it is older, or the last tile's
        if self.log.in_order:
            return start
        split = self._search(start, start, end, latest, _PATIENCE)
        if split is not None and split[1]:
            return split[0]
        likely = self._likely(start, end, latest)
        if likely == start and split is not None:
            return split[0]
        return (self._search(start, likely, end, latest, inf) or (self.high, True))[0]

    def _look_up(self, end: int) -> int | None:
        """Ask for the first stamp at `end` or later, once for all ends up to that stamp."""
        until, found = self.answer
        if end > until:
            found = self.log.offset_for_time(end)
            until = _FAR if found is None else end
            if found is not None and not self.log.in_order:
                until = max([end, *self._read(found, found + 1)["stamp"]])
            self.answer = (until, found)
        return found

    def _search(self, start: int, at: int, end: int, latest: int, patience: float) -> tuple[int, bool] | None:
        """Walk from `at` both ways, not before `start`, until one split is clearly the best.

        The height of a split is how many more records it puts on the wrong side than one at `at`.

        Returns:
            the split, and whether nothing unread can be better; None when the patience ended.
        """
        split, lowest = self.high, inf
        stop, reach, height, walked = at, _REACH, 0, 0
        while stop < self.high and height - lowest < HYSTERESIS:
            if walked > patience:
                return None
            begin, stop = stop, min(self.high, stop + reach)
            offsets, signs = self._signs(begin, stop, end, latest)
            heights = signs.cum_sum() - signs + height
            place = heights.arg_min()
            if place is not None and heights[place] < lowest:
                split, lowest = offsets[place], heights[place]
            height += int(signs.sum())
            walked += signs.len()
            reach = min(2 * reach, _FARTHEST_REACH)
        if stop == self.high and height < lowest:
            split, lowest = self.high, height
        rise = height - lowest
        begin, height, reach = at, 0, _REACH
        while begin > start and height - lowest < HYSTERESIS:
            before, begin = begin, max(start, begin - reach)
            offsets, signs = self._signs(begin, before, end, latest)
            height -= int(signs.sum())
            heights = signs.cum_sum() - signs + height
            place = heights.arg_min()
            if place is not None and heights[place] <= lowest:
                split, lowest = offsets[place], heights[place]
            reach = min(2 * reach, _FARTHEST_REACH)
        return split, begin == start and rise >= self.high - stop

    def _signs(self, begin: int, stop: int, end: int, latest: int) -> tuple[pl.Series, pl.Series]:
        """Give the offsets that count in `[begin, stop)`, and 1 for stamps from `end` on, else -1."""
        records = self._read(begin, stop)
        offsets, stamps = records["offset"], records["stamp"]
        counts = (stamps >= 0) & (stamps <= latest)
        return offsets.filter(counts), (stamps.filter(counts) >= end).cast(pl.Int64) * 2 - 1

    def _read(self, begin: int, stop: int) -> pl.DataFrame:
        """Read `[begin, stop)`, of the log only what was not read before."""
        parts, at = [], begin
        place = max(0, bisect_right(self.kept, begin, key=itemgetter(0)) - 1)
        while at < stop:
            known = self.kept[place] if place < len(self.kept) else (self.high, self.high, _NOTHING)
            if known[1] <= at < self.high:  # it ends before
                place += 1
            elif known[0] <= at:
                parts.append(_between(known[2], at, min(stop, known[1])))
                at, place = known[1], place + 1
            else:
                ahead = min(known[0], max(stop, at + _REACH))  # few long pieces, not many short ones
                self.kept.insert(place, (at, ahead, self.log.stamps(at, ahead)))
        return parts[0] if len(parts) == 1 else pl.concat(parts)

    def _likely(self, start: int, end: int, latest: int) -> int:
        """Estimate from the samples where the best split at `start` or after it lies.

        `start` itself, unless another place promises to be better by more than the hysteresis.
        """
        place, height, best, lowest = start, 0.0, start, -float(HYSTERESIS)
        nodes = [node for node in self._samples() if node[0] >= start]
        for i, (at, stop, stamps) in enumerate(nodes):
            until = (at + nodes[i + 1][0]) // 2 if i + 1 < len(nodes) else self.high
            counted = bisect_right(stamps, latest)
            late = max(0, counted - bisect_left(stamps, end))
            height += (2 * late - counted) / (stop - at) * (until - place)
            place = until
            if height < lowest:
                best, lowest = place, height
        return best

    def _samples(self) -> list[tuple[int, int, list[int]]]:
        """Read, once, samples over the log: their offsets, from and to, and their stamps, sorted."""
        if self.samples is None:
            self.samples = []
            width = max(SAMPLE_OFFSETS, (self.high - self.first) // SAMPLES)
            for at in range(self.first + width // 2, self.high, width):
                stop = min(at + SAMPLE_OFFSETS, self.high)
                stamps = self.log.stamps(at, stop)["stamp"].to_list()
                self.samples.append((at, stop, sorted(stamp for stamp in stamps if stamp >= 0)))
        return self.samples


def _between(records: pl.DataFrame, begin: int, stop: int) -> pl.DataFrame:
    """Cut records, in order, to the offsets `[begin, stop)`."""
    low, high = (int(records["offset"].search_sorted(edge)) for edge in (begin, stop))
    return records[low:high]
