"""What a long run does of a stream at a slower pace than its commits.

Every few seconds: accounts are folded into the ledger, tiles that bronze has read whole are closed,
dimensions follow silver. Every hundred commits, and when a tile closes, small files are joined and logs cut
where this run has written, in the system's tables, too. It says which transaction holds a tile open, once.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import polars as pl

from assets import aftermath, bounds, logs
from assets.bounds import Bounds
from assets.flow import Flow
from assets.ingest import position
from assets.maintenance import Keeping, tend
from assets.merge import merge
from assets.refine import Refined
from resources.lake import Lake
from sluice import tables
from sluice.contract import Changes
from sluice.tables import BUCKETS

COMMITS = 100  # of silver, between two tidyings
_LAYERS = ("bronze", "silver", "losers", "quarantine")


@dataclass
class Upkeep:
    """The slow things of one stream; `flow` follows it."""

    lake: Lake
    flow: Flow
    say: Callable[[str], None] = print
    keeping: Keeping = field(default_factory=Keeping)
    _closed: list[str] = field(default_factory=list)
    _written: set[str] = field(default_factory=set)  # tiles and event dates, since files were joined
    _commits: int = 0  # of silver, since then
    _stable: Mapping[int, int] = field(default_factory=dict)  # as of the last look
    _blocked: str = ""

    def heard(self, done: Refined) -> None:
        """Note where a commit of silver has written."""
        self._written |= {*done.tiles, *map(str, done.touched)}
        self._commits += 1

    def once(self) -> None:
        """Do what is due.

        Raises:
            SluiceError: what a permanent failure, or one that lasts, is.
        """
        stream = self.flow.stream
        self._look_at_topic()
        aftermath.finish(self.lake, stream, "bronze")
        aftermath.finish(self.lake, stream, "silver")
        closed, behind = self._close()
        self._tell_blocked(behind)
        if isinstance(stream, Changes):
            merge(self.lake, stream, say=self.say)
        if closed or self._commits >= COMMITS:
            self._tidy()

    def taken(self) -> list[str]:
        """Give the tiles that were closed since they were asked for last."""
        closed, self._closed = self._closed, []
        return closed

    def _look_at_topic(self) -> None:
        """See partitions that were added; the flow begins anew with them."""
        self.flow.partitions = self.flow.kafka.topic(self.flow.stream.topic).partitions

    def _tidy(self) -> None:
        """Join small files where this run has written, and cut the logs behind what was folded."""
        written, self._written, self._commits = self._written, set(), 0
        among: dict[str, set[str]] = dict.fromkeys(_LAYERS, written)
        if isinstance(self.flow.stream, Changes):
            buckets = set(map(str, range(BUCKETS)))
            among |= {"silver": buckets, "dimensions": buckets}
        try:
            tend(self.lake, self.flow.stream, self.keeping, among)
        except BaseException:  # the next time is soon, and does all of it
            self._written |= written
            self._commits += COMMITS
            raise

    def _close(self) -> tuple[list[str], set[int]]:
        """Close the tiles that bronze has read whole; give them, and the partitions of those that wait."""
        stream = self.flow.stream
        stored = bounds.stored(self.lake, stream)
        ending = stored.filter(pl.col("closed_at").is_null() & pl.col("next_offset").is_not_null())
        if not ending.height:
            return [], set()
        bronze = self.lake.open(tables.bronze(stream).name)
        complete: list[Bounds] = []
        behind: list[Bounds] = []
        for bound in bounds.known(self.lake, stream, ending["tile"].unique()):
            if bound.next_offset is not None:
                whole = position(bronze, stream, bound) >= bound.next_offset
                (complete if whole else behind).append(bound)
        bounds.close(self.lake, stream, complete)
        closed = sorted({b.tile for b in complete} - {b.tile for b in behind})
        self._closed += closed
        return closed, {b.partition for b in behind}

    def _tell_blocked(self, behind: Collection[int]) -> None:
        """Say which transactions hold back tiles that have ended, or an open one since the last look."""
        stream, kafka = self.flow.stream, self.flow.kafka
        marks = kafka.watermarks(stream.topic, self.flow.partitions)
        before, self._stable = self._stable, {p: mark.stable for p, mark in marks.items()}
        waiting = {p: mark for p, mark in marks.items() if p in behind or before.get(p) == mark.stable}
        told = logs.held(kafka, stream, waiting)
        if told and told != self._blocked:
            self.say(f"{stream.name}: a tile waits for an open transaction ({told})")
        self._blocked = told
