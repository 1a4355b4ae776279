"""From bronze to silver: every record of a tile decoded, judged and settled, exactly once.

Decides what is to be done: records that silver has not decided yet are added in batches; a tile that other
rules decided (the contract changed), that does not add up, or that the caller names is decided anew as a
whole, in one commit, as the next generation. Reads bronze only, never Kafka.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date

import polars as pl
from deltalake import DeltaTable

from assets import aftermath, bounds, proofs, side_tables
from assets.ahead import ahead
from assets.bounds import Bounds
from assets.ingest import Limits, position, progress_id
from assets.meet import AT
from assets.portions import cut, portion
from assets.settle import Batch, Settled, settle
from resources.lake import ATTEMPTS, Lake
from resources.transactions import transactions
from sluice import accounts, tables
from sluice.accounts import Account, Slice
from sluice.contract import Stream
from sluice.decode import decode
from sluice.errors import BronzeMissingError, StaleWriterError
from sluice.judged import Judged, judge


@dataclass(frozen=True)
class Work:
    """What one commit is to decide: slices with their bounds, and as which generation."""

    pieces: Sequence[tuple[Bounds, Slice]]
    generation: int
    rebuild: bool

    @property
    def slices(self) -> list[Slice]:
        """The ranges of records."""
        return [piece for _, piece in self.pieces]


@dataclass
class Refined:
    """What a run did to silver, for people to read."""

    tiles: list[str]
    accounts: list[Account] = field(default_factory=list)
    touched: set[date] = field(default_factory=set)
    unknown: Counter[str] = field(default_factory=Counter)
    version: int | None = None
    notes: list[str] = field(default_factory=list)


def refine(
    lake: Lake,
    stream: Stream,
    wanted: Sequence[str],
    *,
    run_id: str,
    limits: Limits,
    replace: bool = False,
    say: Callable[[str], None] = print,
) -> Refined:
    """Bring silver, quarantine and losers of the tiles wanted up to bronze.

    Returns:
        what was decided by this run.

    Raises:
        BronzeMissingError: a tile was never ingested.
        LakeError, RaceLostError: the lake failed; all commits so far stand.
    """
    lake = lake.holding()
    owned = bounds.every_epoch(lake, stream, wanted)
    if missing := sorted(set(wanted) - {b.tile for b in owned}):
        raise BronzeMissingError(stream.name, missing)
    done = Refined(sorted({b.tile for b in owned}))
    again = {b.tile for b in owned} if replace else _uneven(lake, stream, owned)
    for _ in range(ATTEMPTS):
        works = _plan(lake, stream, owned, limits, again)
        if not works:
            break
        again = set()
        try:
            with closing(ahead(_judged(lake, stream, works), f"decode-{stream.name}")) as judgements:
                for work, judged in judgements:
                    decide(lake, stream, work, judged, run_id, done)
                    read = sum(a.read for a in done.accounts)
                    say(f"silver/{stream.name}: {read} records decided so far, in {work.slices[-1].tile}")
        except StaleWriterError:  # another run decided the same tiles: go on from where it is
            say(f"silver/{stream.name}: another run was faster; reading its progress")
    done.version = lake.ensure(tables.silver(stream)).version()
    aftermath.finish(lake, stream, "silver")
    return done


def generation_id(stream: Stream, tile: str) -> str:
    """Name the transaction whose version is a tile's generation in silver (absent: 1)."""
    return f"generation/{stream.name}/{tile}"


def generation(handle: DeltaTable, stream: Stream, tile: str) -> int:
    """Give a tile's generation in silver."""
    return transactions(handle).get(generation_id(stream, tile), 1)


def _uneven(lake: Lake, stream: Stream, owned: Sequence[Bounds]) -> set[str]:
    """Find the tiles that were decided to their end and do not add up; once a run, before it changes them."""
    silver = lake.open(tables.silver(stream).name)
    if silver is None:
        return set()
    aftermath.finish(lake, stream, "silver", silver)  # what is still announced is no fault
    undecided = {b.tile for b in owned if b.next_offset != position(silver, stream, b)}
    decided = sorted({b.tile for b in owned} - undecided)
    return set(proofs.unequal(lake, stream, "silver", decided)["tile"]) if decided else set()


def _plan(
    lake: Lake, stream: Stream, owned: Sequence[Bounds], limits: Limits, again: Collection[str]
) -> list[Work]:
    """List what is to be decided: tiles to be decided anew, and what was not decided yet."""
    bronze = lake.ensure(tables.bronze(stream))
    silver = lake.ensure(tables.silver(stream))
    aftermath.finish(lake, stream, "silver", silver)
    told = accounts.current(aftermath.ledger(lake, stream, "silver"))
    other = pl.col("code_version") != stream.code_version
    again = {*again, *told.filter(other)["tile"]}
    decided = {b.tile for b in owned if position(silver, stream, b) > b.first_offset}
    pieces: list[tuple[Bounds, Slice]] = []
    for bound in sorted(owned, key=lambda b: (b.tile, b.partition)):
        anew = bound.tile in again and bound.tile in decided
        start = bound.first_offset if anew else position(silver, stream, bound)
        stop = position(bronze, stream, bound)
        if start < stop:
            pieces.append((bound, Slice(bound.tile, bound.epoch, bound.partition, start, stop)))
    rows = portion(lake, bronze, {bound.tile for bound, _ in pieces}, limits)
    works: list[Work] = []
    size = 0
    for bound, piece in pieces:
        anew = bound.tile in again and bound.tile in decided
        number = generation(silver, stream, bound.tile) + anew
        last = works[-1] if works else None
        if anew and last and last.rebuild and last.slices[-1].tile == bound.tile:
            works[-1] = Work([*last.pieces, (bound, piece)], number, rebuild=True)
        elif anew:
            works.append(Work([(bound, piece)], number, rebuild=True))
        else:
            for part in cut(piece, rows):
                fits = size + part.offsets <= rows
                if last and not last.rebuild and last.generation == number and fits:
                    works[-1] = Work([*last.pieces, (bound, part)], number, rebuild=False)
                else:
                    works.append(Work([(bound, part)], number, rebuild=False))
                    size = 0
                size += part.offsets
                last = works[-1]
    return works


def _judged(lake: Lake, stream: Stream, works: Iterable[Work]) -> Iterator[tuple[Work, Judged]]:
    """Read and judge the records of each piece of work."""
    for work in works:
        yield work, judgement(stream, read_bronze(lake, stream, work.slices))


def judgement(stream: Stream, records: pl.DataFrame) -> Judged:
    """Decode and judge records (columns: BRONZE, in any order), each by itself."""
    return judge(stream, records, decode(stream, records))


def decide(lake: Lake, stream: Stream, work: Work, judged: Judged, run_id: str, done: Refined) -> None:
    """Settle one piece of work, all of whose records were judged; again, as often as a race is lost.

    Raises:
        StaleWriterError: another run has decided these records.
        LakeError, RaceLostError: the lake failed.
    """
    done.unknown.update(judged.unknown)
    name = accounts.batch_id("silver", stream.name, work.generation, work.slices)

    def accounting(stands: pl.DataFrame, lost: pl.DataFrame) -> list[Account]:
        return judged.accounts(
            stream, stands, lost, work.slices, generation=work.generation, run_id=run_id, batch_id=name
        )

    def step() -> Settled:
        handle = lake.ensure(tables.silver(stream))
        if aftermath.due(lake, stream, "silver", handle):
            aftermath.finish(lake, stream, "silver", handle)
        batch = Batch(
            rows=judged.rows,
            refused=judged.refused(name),
            slices=work.slices,
            progress=_progress(stream, handle, work),
            fences=sorted({f"tile/{piece.tile}" for piece in work.slices}),
            accounting=accounting,
            contents=lambda at: contents(lake, stream, at),
            rebuild=work.rebuild,
        )
        return settle(lake, stream, handle, batch)

    settled = lake.retrying(f"silver/{stream.name}", step)
    done.accounts += settled.accounts
    done.touched |= settled.touched
    if work.rebuild:
        tiles = ", ".join(sorted({piece.tile for piece in work.slices}))
        done.notes.append(f"decided anew as generation {work.generation}: {tiles}")
    if settled.announced:
        aftermath.finish(lake, stream, "silver")


def _progress(stream: Stream, handle: DeltaTable, work: Work) -> dict[str, int]:
    """Give what the commit moves on.

    Refuses where another run has decided the same meanwhile, or the whole tile anew, and where records
    before these were not decided yet.
    """
    progress: dict[str, int] = {}
    for bound, piece in work.pieces:
        at = position(handle, stream, bound)
        follows = progress.get(progress_id(stream, bound), at) == piece.first_offset
        raised = generation(handle, stream, piece.tile) != work.generation
        if not work.rebuild and (not follows or raised):
            raise StaleWriterError(
                f"silver/{stream.name}", progress_id(stream, bound), at, piece.first_offset
            )
        if at < piece.next_offset:
            progress[progress_id(stream, bound)] = max(
                piece.next_offset, progress.get(progress_id(stream, bound), 0)
            )
        if work.rebuild:
            progress[generation_id(stream, piece.tile)] = work.generation
    return progress


def read_bronze(lake: Lake, stream: Stream, slices: Sequence[Slice]) -> pl.DataFrame:
    """Read the records of some slices, in any order."""
    tiles = sorted({s.tile for s in slices})
    rows = lake.read(tables.bronze(stream)).filter(pl.col("tile").is_in(tiles) & side_tables.within(slices))
    return rows.select(list(tables.BRONZE)).collect()


def contents(lake: Lake, stream: Stream, at: pl.DataFrame) -> pl.DataFrame:
    """Read some records (columns AT) again from bronze, as silver's rows; without those refused today."""
    return judgement(stream, bronze_at(lake, stream, at)).rows


def bronze_at(lake: Lake, stream: Stream, at: pl.DataFrame) -> pl.DataFrame:
    """Read the records at some coordinates (columns AT)."""
    wanted = at.select(pl.col(c).alias(c[1:]) for c in AT).lazy()
    tiles = at["_tile"].unique().to_list()
    rows = lake.read(tables.bronze(stream)).filter(pl.col("tile").is_in(tiles))
    return rows.join(wanted, on=list(tables.COORDINATES), how="semi").collect().select(list(tables.BRONZE))


__all__ = ["Judged", "Refined", "contents", "generation", "read_bronze", "refine"]
