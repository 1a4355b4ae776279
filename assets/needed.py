"""What bronze lacks of a stream's partitions: tiles that it has not read whole, and from where each is read.

Tiles tile the log, but they may have been read in any order: a run that follows a partition reads what is
lacking and steps over what bronze has. The open tile is always lacking: it has no end.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from assets import bounds
from assets.bounds import Bounds
from assets.ingest import position
from resources.lake import Lake
from sluice import tables
from sluice.accounts import Slice
from sluice.contract import Stream

Owned = tuple[Bounds, Slice]
_ENDLESS = 2**63 - 1  # where an open tile ends


@dataclass
class Needed:
    """What is lacking of one partition, in the order of the log: bounds, where to read each from and to."""

    owned: list[Bounds] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)

    def place(self, at: int) -> int:
        """Give the next offset to read, from `at` on."""
        index = bisect_right(self.stops, at)
        return at if index == len(self.stops) else max(at, self.starts[index])

    def within(self, first: int, stop: int) -> Iterator[Owned]:
        """Cut the offsets `[first, stop)` by the tiles that own them; without those that bronze has."""
        for index in range(bisect_right(self.stops, first), len(self.stops)):
            bound, begin = self.owned[index], max(first, self.owned[index].first_offset)
            if begin >= stop:
                return
            end = min(stop, self.stops[index])
            yield bound, Slice(bound.tile, bound.epoch, bound.partition, begin, end)


def known(lake: Lake, stream: Stream, partitions: Collection[int]) -> list[Bounds]:
    """Give all bounds of some partitions as far as they are written, in order."""
    every = bounds.known(lake, stream, bounds.stored(lake, stream)["tile"].unique())
    return [bound for bound in every if bound.partition in partitions]


def needed(lake: Lake, stream: Stream, partitions: Collection[int]) -> dict[int, Needed]:
    """Tell what bronze lacks now of some partitions."""
    bronze = lake.ensure(tables.bronze(stream))
    found = {partition: Needed() for partition in partitions}
    for bound in known(lake, stream, partitions):
        at, end = position(bronze, stream, bound), bound.next_offset
        if end is None or at < end:
            lacks = found[bound.partition]
            lacks.owned.append(bound)
            lacks.starts.append(at)
            lacks.stops.append(_ENDLESS if end is None else end)
    return found
