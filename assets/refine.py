"""From bronze to silver: every record of a tile decoded, judged and settled, exactly once.

Decides what is to be done: records that silver has not decided yet are added in batches; a tile that other
rules decided (the contract changed), that does not add up, or that the caller names is decided anew, as the
next generation (`assets.anew`). Reads bronze only, never Kafka.
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
from assets.anew import due_anew, generation, generation_id, in_doubt, turn_id, turns
from assets.bounds import Bounds
from assets.ingest import Limits, position, progress_id
from assets.needed import Owned
from assets.portions import cut, portion
from assets.races import Races
from assets.settle import Batch, Settled, settle
from assets.whole_rows import AT
from resources.lake import Lake
from sluice import accounts, tables
from sluice.accounts import Account, Slice
from sluice.contract import Stream
from sluice.decode import decode
from sluice.errors import BronzeMissingError, StaleWriterError
from sluice.judged import Judged, judge


@dataclass(frozen=True)
class Work:
    """What one commit is to decide: slices with their bounds, and as which generation.

    Attributes:
        pieces: at most one of each Kafka partition of a tile.
        generation: the number that its accounts get.
        anew: if the slices were decided before: all that was decided of their tile.
        turn: which of the commits that decide slices of the tile anew it is.
    """

    pieces: Sequence[Owned]
    generation: int
    anew: Sequence[Slice] = ()
    turn: int = 0

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
    anew: dict[str, int] = field(default_factory=dict)  # tiles, and as which generation

    @property
    def notes(self) -> list[str]:
        """Say which tiles were decided anew."""
        return [f"decided anew as generation {number}: {tile}" for tile, number in self.anew.items()]


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
        LakeError: the lake failed; all commits so far stand.
        RaceLostError: other runs decide the same tiles, and were always faster.
    """
    owned = bounds.every_epoch(lake, stream, wanted)
    if missing := sorted(set(wanted) - {b.tile for b in owned}):
        raise BronzeMissingError(stream.name, missing)
    done = Refined(sorted({b.tile for b in owned}))
    again = {b.tile for b in owned} if replace else _uneven(lake, stream, owned)
    races = Races(f"silver/{stream.name}", say)
    while works := _plan(lake, stream, owned, limits, again):
        try:
            with closing(ahead(_judged(lake, stream, works), f"decode-{stream.name}")) as judgements:
                for work, judged in judgements:
                    decide(lake, stream, work, judged, run_id, done)
                    again -= {piece.tile for piece in work.slices}
                    read = sum(a.read for a in done.accounts)
                    say(f"silver/{stream.name}: {read} records decided so far, in {work.slices[-1].tile}")
        except StaleWriterError as error:  # another run decided the same tiles: go on from where it is
            races.lose(error, len(done.accounts))
    done.version = lake.ensure(tables.silver(stream)).version()
    aftermath.finish(lake, stream, "silver")
    return done


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
    """List what is to be decided: what is decided anew of each tile, and then what was not decided yet."""
    bronze = lake.ensure(tables.bronze(stream))
    silver = lake.ensure(tables.silver(stream))
    aftermath.finish(lake, stream, "silver", silver)
    told = in_doubt(lake, silver, stream, owned, again)
    old = due_anew(silver, stream, owned, told, again)
    new = undecided(stream, bronze, silver, owned)
    rows = portion(lake, bronze, {*old, *(bound.tile for bound, _ in new)}, limits)
    works = [
        Work(group, of_tile.generation, [piece for _, piece in of_tile.whole], turn)
        for tile, of_tile in old.items()
        for turn, group in enumerate(grouped(of_tile.slices(rows), rows), turns(silver, stream, tile) + 1)
    ]
    numbers = {b.tile: generation(silver, stream, b.tile) for b, _ in new}
    numbers |= {tile: of_tile.generation for tile, of_tile in old.items()}
    for number in sorted(set(numbers.values())):
        pieces = ((b, part) for b, piece in new if numbers[b.tile] == number for part in cut(piece, rows))
        works += [Work(group, number) for group in grouped(pieces, rows)]
    return works


def undecided(stream: Stream, bronze: DeltaTable, silver: DeltaTable, owned: Iterable[Bounds]) -> list[Owned]:
    """List what bronze has of some tiles and silver has not decided, in the order of tiles."""
    return [
        (bound, Slice(bound.tile, bound.epoch, bound.partition, start, stop))
        for bound in sorted(owned, key=lambda b: (b.tile, b.partition))
        for start in [position(silver, stream, bound)]
        for stop in [position(bronze, stream, bound)]
        if start < stop
    ]


def grouped(pieces: Iterable[Owned], rows: int) -> Iterator[list[Owned]]:
    """Group pieces into batches of so many offsets, with one piece of each tile's partition."""
    group: list[Owned] = []
    size, places = 0, set[tuple[str, int]]()
    for bound, piece in pieces:
        place = (piece.tile, piece.partition)
        if group and (size + piece.offsets > rows or place in places):
            yield group
            group, size, places = [], 0, set()
        group.append((bound, piece))
        size += piece.offsets
        places.add(place)
    if group:
        yield group


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
            anew=work.anew,
        )
        return settle(lake, stream, handle, batch)

    settled = lake.retrying(f"silver/{stream.name}", step)
    done.accounts += settled.accounts
    done.touched |= settled.touched
    if work.anew:
        done.anew[work.anew[0].tile] = work.generation
    if settled.announced:
        aftermath.finish(lake, stream, "silver")


def _progress(stream: Stream, handle: DeltaTable, work: Work) -> dict[str, int]:
    """Give what the commit moves on.

    Refuses where another run has decided the same meanwhile, and where records before these were not decided
    yet.
    """
    return _next_turn(stream, handle, work) if work.anew else _next_offsets(stream, handle, work)


def _next_offsets(stream: Stream, handle: DeltaTable, work: Work) -> dict[str, int]:
    progress: dict[str, int] = {}
    for bound, piece in work.pieces:
        name = progress_id(stream, bound)
        at = progress.get(name, position(handle, stream, bound))
        if at != piece.first_offset or generation(handle, stream, piece.tile) != work.generation:
            raise StaleWriterError(f"silver/{stream.name}", name, at, piece.first_offset)
        progress[name] = piece.next_offset
    return progress


def _next_turn(stream: Stream, handle: DeltaTable, work: Work) -> dict[str, int]:
    tile = work.anew[0].tile
    turn = turns(handle, stream, tile) + 1
    if turn != work.turn:
        raise StaleWriterError(f"silver/{stream.name}", turn_id(stream, tile), turn, work.turn)
    raised = generation(handle, stream, tile) < work.generation
    return {turn_id(stream, tile): turn} | ({generation_id(stream, tile): work.generation} if raised else {})


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
    near = pl.col("tile").is_in(at["_tile"].unique().implode())
    near &= pl.col("offset").is_between(at["_offset"].min(), at["_offset"].max())  # less is read
    rows = lake.read(tables.bronze(stream)).filter(near)
    return rows.join(wanted, on=list(tables.COORDINATES), how="semi").collect().select(list(tables.BRONZE))


__all__ = ["Judged", "Refined", "contents", "read_bronze", "refine"]
