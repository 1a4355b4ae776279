"""Where the bounds of tiles lie in the log of one Kafka partition.

Decides at which offset a tile ends: at the split that puts the fewest stamps on the wrong side, the first
such; while the hour around it is still young, stamps more than an hour ahead of now count for nothing, and
stamps below zero (none) never count. So one wrong clock moves nothing. A bound is the offset of a record
that counts, or the log's high watermark where none follows. It refuses to read a whole log for that: it
reads on from the look-up until the split is `HYSTERESIS` records better than all that was read after it;
for the rest it trusts `SAMPLES` samples over the log and, where the first stamp after the split is more than
an hour ahead of the tile's end, one more at each doubling of the distance. Exact are therefore: logs with
fewer records than that; wrong stamps in stretches up to `HYSTERESIS`; and one longer stretch more than an
hour ahead of the end, where thrice as many right records of the tile follow it. A shorter rest of the tile
may fall to the next one. No I/O here: the log is handed in.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import count, takewhile
from math import inf

import polars as pl

from sluice.stretches import Log, Stretches

HYSTERESIS = 3_000  # records
HOUR_MS = 3_600_000
SAMPLES = 64
SAMPLE_OFFSETS = 100
_REACH = HYSTERESIS + 200  # offsets that a walk looks at first, some of them without record; then ever more
_FARTHEST_REACH = 1 << 17
_PATIENCE = 64_000  # records walked before the samples are asked for a shorter way
_FAR = 2**63 - 1
_MOST_ASKED = 1_000  # times in one go


def first_offset(log: Log, start_ms: int) -> int:
    """Give the offset at which a stream's first tile begins; what is before it is left out.

    That is `low` to the offset given: older than the start, and not owned by any tile.
    """
    (found,) = log.offsets_for_times([start_ms])
    return log.high if found is None else found


def bounds(log: Log, first: int, ends_ms: Sequence[int], now_ms: int) -> list[int]:
    """Give the offset at which each of some consecutive tiles ends, from `first` on; they never decrease.

    Args:
        log: the log of one partition.
        first: where the first of the tiles begins.
        ends_ms: when each tile ends (epoch milliseconds), in order.
        now_ms: the time now; a tile that ended less than an hour ago is live.

    Raises:
        ValueError: the first of them begins beyond the log's end.
    """
    if first > log.high:
        raise ValueError(f"a tile cannot begin at offset {first}: the log ends at {log.high}")
    plan = _Plan(log, first, ends_ms)
    result: list[int] = []
    floor = first
    for end in ends_ms:
        history = end + HOUR_MS <= now_ms
        floor = plan.bound(end, _FAR if history else now_ms + HOUR_MS, floor)
        result.append(floor)
    return result


class _Plan:
    """Finds bounds in one log, in order."""

    def __init__(self, log: Log, first: int, ends: Sequence[int]) -> None:
        self.log = log
        self.first = max(first, log.low)
        self.high = log.high
        self.ends = ends
        self.seen = Stretches(log, _REACH)
        self.short = self.high - self.first <= _PATIENCE  # sooner read whole than by a fetch for each sample
        self.answer: tuple[int, int | None] = (-_FAR, None)  # to a look-up, and up to which time it holds
        self.asked: dict[int, int | None] = {}
        self.samples: list[_Sample] | None = None
        self.probes: tuple[int, list[_Sample]] = (-1, [])  # those after one place

    def bound(self, end: int, latest: int, floor: int) -> int:
        """Find one bound at `floor` or after it; stamps beyond `latest` count for nothing."""
        found = self._look_up(end)
        if found is None or max(floor, found) >= self.high:
            return self.high
        start = max(floor, found)  # all before it is older, or the last tile's
        if self.log.in_order:
            return start
        self.seen.forget(min(start, found))  # no later bound looks there
        split = self._search(start, start, end, latest, _PATIENCE)
        if split is not None and split[1]:
            return split[0]
        likely = self._likely(start, end, latest)
        if likely == start and split is not None:
            return split[0]
        return (self._search(start, likely, end, latest, inf) or (self.high, True))[0]

    def _look_up(self, end: int) -> int | None:
        """Give the first offset stamped `end` or later: as read already, else as the broker says."""
        until, found = self.answer
        if end > until:
            known = None if found is None else self.seen.first_at_or_after(end, found)
            found, until = known or (self._ask(end), end)
            if found is None:
                until = _FAR
            elif known is None and not self.log.in_order:
                until = max([end, *self.seen.read(found, found + 1)["stamp"]])
            self.answer = (until, found)
        return found

    def _ask(self, end: int) -> int | None:
        """Ask the broker for one end, and at once for some that follow: ever more, as long as it is asked."""
        if end not in self.asked:
            place, most = bisect_left(self.ends, end), min(2 * len(self.asked) or 1, _MOST_ASKED)
            times = self.ends[place : place + most]
            self.asked = dict(zip(times, self.log.offsets_for_times(times), strict=True))
        return self.asked[end]

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
            deepest, place, rise, counted = self._walk(begin, stop, end, latest)
            if place is not None and height + deepest < lowest:
                split, lowest = place, height + deepest
            height += rise
            walked += counted
            reach = min(2 * reach, _FARTHEST_REACH)
        if stop == self.high and height < lowest:
            split, lowest = self.high, height
        ahead = height - lowest
        begin, height, reach = at, 0, _REACH
        while begin > start and height - lowest < HYSTERESIS:
            before, begin = begin, max(start, begin - reach)
            deepest, place, rise, _ = self._walk(begin, before, end, latest)
            height -= rise
            if place is not None and height + deepest <= lowest:
                split, lowest = place, height + deepest
            reach = min(2 * reach, _FARTHEST_REACH)
        return split, begin == start and ahead >= self.high - stop

    def _walk(self, begin: int, stop: int, end: int, latest: int) -> tuple[int, int | None, int, int]:
        """Look at the splits before each record that counts in `[begin, stop)`.

        Returns:
            the least height over `begin`, the first offset that has it, the height at `stop`, and how many
            records count.
        """
        records = self.seen.read(begin, stop)
        if records.height and records["stamp"].is_between(max(end, 0), latest).all():  # as it mostly is
            return 0, records["offset"][0], records.height, records.height
        stamp = pl.col("stamp")
        counts = stamp.is_between(0, latest)
        step = pl.when(stamp >= end).then(1).otherwise(-1).cast(pl.Int64).filter(counts)
        heights = step.cum_sum() - step
        told = records.select(
            deepest=heights.min(),
            place=pl.col("offset").filter(counts).get(heights.arg_min(), null_on_oob=True),
            rise=step.sum(),
            counted=counts.sum(),
        )
        deepest, place, rise, counted = told.row(0)
        return deepest or 0, place, rise, counted

    def _likely(self, start: int, end: int, latest: int) -> int:
        """Estimate from samples where the best split at `start` or after it lies.

        `start` itself, unless another place promises to be better by more than the hysteresis.
        """
        place, height, best, lowest = start, 0.0, start, -float(HYSTERESIS)
        nodes = [node for node in self._samples() if node[0] >= start]
        if max(self.seen.read(start, start + 1)["stamp"], default=0) >= end + HOUR_MS:  # wrong, or a pause
            nodes = sorted(nodes + self._probes(start))
        for i, (at, stop, stamps) in enumerate(nodes):
            until = (at + nodes[i + 1][0]) // 2 if i + 1 < len(nodes) else self.high
            counted = bisect_right(stamps, latest)
            late = max(0, counted - bisect_left(stamps, end))
            height += (2 * late - counted) / (stop - at) * (until - place)
            place = until
            if height < lowest:
                best, lowest = place, height
        return best

    def _samples(self) -> list["_Sample"]:
        """Read, once, samples over the log."""
        if self.samples is None:
            if self.short:
                self.seen.read(self.first, self.high)
            width = max(SAMPLE_OFFSETS, (self.high - self.first) // SAMPLES)
            places = range(self.first + width // 2, self.high, width)
            self.samples = [self._sample(at) for at in places]
        return self.samples

    def _probes(self, start: int) -> list["_Sample"]:
        """Read, once, samples after a place, each twice as far away as the one before it.

        So of two stretches that follow each other, the second being the longer, one sample lies in that.
        """
        if self.probes[0] != start:
            distances = takewhile(lambda d: start + d < self.high, (HYSTERESIS << i for i in count()))
            self.probes = start, [self._sample(start + distance) for distance in distances]
        return self.probes[1]

    def _sample(self, at: int) -> "_Sample":
        stop = min(at + SAMPLE_OFFSETS, self.high)
        records = self.seen.read(at, stop) if self.short else self.log.stamps(at, stop)
        return at, stop, sorted(stamp for stamp in records["stamp"] if stamp >= 0)


_Sample = tuple[int, int, list[int]]  # offsets from and to, and the stamps, sorted
