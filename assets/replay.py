"""Replay of quarantine: refused records are read again under today's contract.

What passes now moves into silver, exactly once, in the commit that also says which records of quarantine it
resolves; they are marked after it, and a replay that died in between is finished by the next run. What
still breaks the contract stays where it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from assets import aftermath
from assets.anew import generation
from assets.ingest import Limits
from assets.portions import portion
from assets.refine import bronze_at, contents, judgement
from assets.settle import Batch, Settled, settle
from assets.whole_rows import AT
from resources.lake import Lake
from sluice import accounts, tables
from sluice.accounts import Account, Slice
from sluice.contract import Stream
from sluice.judged import Judged

_MOVED = ("accepted", "duplicates", "conflicts", "tombstones", "ignored")


@dataclass(frozen=True)
class Choice:
    """Which open records of quarantine are replayed; empty means all."""

    tiles: Sequence[str] = ()
    stages: Sequence[str] = ()
    rules: Sequence[str] = ()

    def matches(self) -> pl.Expr:
        """Tell whether a row of quarantine is chosen."""
        chosen = pl.col("resolved_at").is_null()
        for column, values in (("tile", self.tiles), ("stage", self.stages), ("rule", self.rules)):
            if values:
                chosen &= pl.col(column).is_in(list(values))
        return chosen


@dataclass(frozen=True)
class Replayed:
    """What a replay did: how many records it read again, moved, and left in quarantine."""

    read: int
    moved: int
    kept: int
    accounts: Sequence[Account]
    version: int | None


def replay(  # the rest is told in the text
    lake: Lake,
    stream: Stream,
    choice: Choice,
    *,
    run_id: str,
    limits: Limits,
    say: Callable[[str], None] = print,
) -> Replayed:
    """Move what passes today from quarantine into silver, tile by tile, no more at once than a batch holds.

    Raises:
        LakeError, RaceLostError: the lake failed; all commits so far stand, and are finished next time.
    """
    aftermath.finish(lake, stream, "silver")  # of a replay that died: what it moved is not open
    open_rows = lake.read(tables.quarantine(stream)).filter(choice.matches())
    read = moved = 0
    told: list[Account] = []
    version: int | None = None
    bronze = lake.ensure(tables.bronze(stream))
    for tile in open_rows.select("tile").unique().collect()["tile"].sort():
        refused = open_rows.filter(tile=tile).select(pl.col(c[1:]).alias(c) for c in AT)
        rows = portion(lake, bronze, [tile], limits)
        for at in refused.collect().sort(AT).iter_slices(rows):
            once = partial(_once, lake, stream, choice, at, run_id)
            seen, settled = lake.retrying(f"silver/{stream.name}", once)
            aftermath.finish(lake, stream, "silver")
            read += seen
            if settled:
                told += settled.accounts
                moved += sum(a.read for a in settled.accounts)
                version = settled.version
            say(f"quarantine/{stream.name}: {tile}: {moved} of {read} records moved so far")
    return Replayed(read, moved, read - moved, told, version)


def _once(
    lake: Lake, stream: Stream, choice: Choice, at: pl.DataFrame, run_id: str
) -> tuple[int, Settled | None]:
    """Replay some records of one tile (columns AT) against silver as it is now, as far as they are open."""
    handle = lake.ensure(tables.silver(stream))
    aftermath.finish(lake, stream, "silver", handle)
    refused = lake.read(tables.quarantine(stream)).filter(choice.matches(), tile=at["_tile"][0])
    known = refused.select(pl.col(c[1:]).alias(c) for c in AT)
    at = known.join(at.lazy(), on=AT, how="semi").collect()
    records = bronze_at(lake, stream, at)
    chosen = judgement(stream, records).passing(records)
    if not chosen.height:
        return records.height, None
    judged = judgement(stream, chosen)
    tile = chosen["tile"][0]
    slices = _slices(judged, tile)
    number = generation(handle, stream, tile)
    name = accounts.batch_id("silver", stream.name, number, slices)

    def accounting(stands: pl.DataFrame, lost: pl.DataFrame) -> list[Account]:
        return judged.accounts(
            stream, stands, lost, slices, generation=number, run_id=run_id, batch_id=name, kind="replay"
        )

    batch = Batch(
        rows=judged.rows,
        refused=judged.refused(name),
        slices=(),
        progress={},
        fences=[f"tile/{tile}"],
        accounting=accounting,
        contents=lambda wanted: contents(lake, stream, wanted),
        resolves=judged.at.select(pl.col(c[1:]).alias(c) for c in AT),
    )
    return records.height, settle(lake, stream, handle, batch)


def _slices(judged: Judged, tile: str) -> list[Slice]:
    """Give the range that the records of each partition span."""
    spans = judged.at.group_by("epoch", "partition").agg(
        first=pl.col("offset").min(), last=pl.col("offset").max()
    )
    return [Slice(tile, e, p, first, last + 1) for e, p, first, last in spans.sort("partition").iter_rows()]
