"""What a long run does of a stream at a slower pace than its commits.

Every few seconds: accounts are folded into the ledger, tiles that bronze has read whole are closed,
dimensions follow silver. It says which transaction holds a tile open, once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from assets import aftermath, bounds
from assets.flow import Flow
from assets.ingest import position
from assets.merge import merge
from resources.lake import Lake
from sluice import tables
from sluice.contract import Changes


@dataclass
class Upkeep:
    """The slow things of one stream; `flow` follows it."""

    lake: Lake
    flow: Flow
    say: Callable[[str], None] = print
    _closed: list[str] = field(default_factory=list)
    _blocked: str = ""

    def once(self) -> None:
        """Do what is due.

        Raises:
            SluiceError: what a permanent failure, or one that lasts, is.
        """
        stream = self.flow.stream
        self._look_at_topic()
        aftermath.finish(self.lake, stream, "bronze")
        aftermath.finish(self.lake, stream, "silver")
        self._close()
        if isinstance(stream, Changes):
            merge(self.lake, stream, say=self.say)

    def taken(self) -> list[str]:
        """Give the tiles that were closed since they were asked for last."""
        closed, self._closed = self._closed, []
        return closed

    def _look_at_topic(self) -> None:
        """See partitions that were added; the flow begins anew with them."""
        self.flow.partitions = self.flow.kafka.topic(self.flow.stream.topic).partitions

    def _close(self) -> None:
        """Close the tiles that bronze has read whole; say what holds the others."""
        stream = self.flow.stream
        stored = bounds.stored(self.lake, stream)
        ending = stored.filter(pl.col("closed_at").is_null() & pl.col("next_offset").is_not_null())
        if not ending.height:
            return
        bronze = self.lake.open(tables.bronze(stream).name)
        rest = [
            b for b in bounds.known(self.lake, stream, ending["tile"].unique()) if b.next_offset is not None
        ]
        complete = [b for b in rest if position(bronze, stream, b) >= (b.next_offset or 0)]
        bounds.close(self.lake, stream, complete)
        open_still = {b.tile for b in rest} - {b.tile for b in complete}
        self._closed += sorted({b.tile for b in complete} - open_still)
        behind = [b for b in rest if b not in complete]
        self._tell_blocked([b.partition for b in behind])

    def _tell_blocked(self, partitions: list[int]) -> None:
        stream, kafka = self.flow.stream, self.flow.kafka
        marks = kafka.watermarks(stream.topic, sorted(set(partitions))) if partitions else {}
        held = [p for p, mark in marks.items() if mark.stable < mark.high]
        told = "; ".join(f"partition {p}: {kafka.open_transactions(stream.topic, p)}" for p in held)
        if told and told != self._blocked:
            self.say(f"{stream.name}: a tile waits for an open transaction ({told})")
        self._blocked = told
