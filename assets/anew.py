"""Tiles that are decided anew: which, as which generation, and in which slices.

A tile is decided anew where other rules decided it (the contract changed), or where the caller names it. Its
first commit gives it the next generation number, and slice after slice is decided under that number, so that
no more is in memory than a batch holds. What bears a tile's generation is done; the rest of a tile whose
generation was raised is still to be done, by whoever comes next. A half is no harm: the account of each slice
says by which rules it was decided, and of a range the newest account counts (`sluice.accounts.current`).
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import polars as pl
from deltalake import DeltaTable

from assets import aftermath
from assets.needed import Owned
from assets.portions import cut
from assets.progress import Bounds, position
from resources.lake import Lake
from resources.transactions import transactions
from sluice.accounts import Slice
from sluice.contract import Stream


@dataclass(frozen=True)
class Anew:
    """What is to be decided anew of one tile.

    Attributes:
        generation: the number that it gets.
        whole: all of the tile that was ever decided, by partition; what silver has outside is a stranger.
        due: what does not bear the number yet, cut where accounts begin and end.
    """

    generation: int
    whole: Sequence[Owned]
    due: Sequence[Owned]

    def slices(self, rows: int) -> Iterator[Owned]:
        """Join what is due to slices of at most so many offsets; a larger one is cut."""
        joined: list[Owned] = []
        for bound, piece in self.due:
            last = joined[-1][1] if joined and joined[-1][0] is bound else None
            if (
                last
                and last.next_offset == piece.first_offset
                and piece.next_offset - last.first_offset <= rows
            ):
                joined[-1] = (bound, replace(last, next_offset=piece.next_offset))
            else:
                joined.append((bound, piece))
        return ((bound, part) for bound, piece in joined for part in cut(piece, rows))


def generation_id(stream: Stream, tile: str) -> str:
    """Name the transaction whose version is a tile's generation in silver (absent: 1)."""
    return f"generation/{stream.name}/{tile}"


def generation(handle: DeltaTable, stream: Stream, tile: str) -> int:
    """Give a tile's generation in silver."""
    return transactions(handle).get(generation_id(stream, tile), 1)


def turn_id(stream: Stream, tile: str) -> str:
    """Name the transaction whose version is how many commits decided slices of a tile anew (absent: 0)."""
    return f"anew/{stream.name}/{tile}"


def turns(handle: DeltaTable, stream: Stream, tile: str) -> int:
    """Give how many commits of silver decided slices of a tile anew."""
    return transactions(handle).get(turn_id(stream, tile), 0)


def in_doubt(
    lake: Lake, silver: DeltaTable, stream: Stream, owned: Sequence[Bounds], again: Collection[str]
) -> pl.DataFrame:
    """Read the accounts that `due_anew` looks at: of those tiles that are not as a first decision left them.

    These are named in `again`, bear a generation, or were decided by other rules.
    """
    tiles = {bound.tile for bound in owned}
    of_others = pl.col("tile").is_in(tiles) & (pl.col("code_version") != stream.code_version)
    others = aftermath.told(lake, stream, "silver", of_others).select("tile").unique()
    found = set(others.collect(engine="streaming")["tile"])
    found |= {tile for tile in tiles if tile in again or generation(silver, stream, tile) > 1}
    return aftermath.current(lake, stream, "silver", pl.col("tile").is_in(found), ["code_version"]).collect()


def due_anew(
    silver: DeltaTable,
    stream: Stream,
    owned: Sequence[Bounds],
    told: pl.DataFrame,
    again: Collection[str],
) -> Mapping[str, Anew]:
    """Tell what is to be decided anew of some tiles.

    Args:
        silver: the table as it is.
        stream: the contract.
        owned: the bounds of the tiles.
        told: silver's accounts of them that tell of today's tables, as far as they are `in_doubt`.
        again: tiles that are to be decided anew, whatever decided them.
    """
    batches = told.filter(pl.col("kind") != "replay")  # its records are told by a batch, too
    others = set(batches.filter(pl.col("code_version") != stream.code_version)["tile"])
    found: dict[str, Anew] = {}
    for tile in sorted({bound.tile for bound in owned}):
        number = generation(silver, stream, tile)
        if number == 1 and tile not in others and tile not in again:  # most often
            continue
        mine = batches.filter(tile=tile)
        newest = mine.filter(generation=number)
        other = tile in again or bool((newest["code_version"] != stream.code_version).any())
        whole = list(_decided(silver, stream, (b for b in owned if b.tile == tile)))
        done = newest.clear() if other else newest
        due = [(bound, part) for bound, piece in whole for part in _due(piece, mine, done)]
        if due:
            found[tile] = Anew(number + other, whole, due)
    return found


def _decided(silver: DeltaTable, stream: Stream, owned: Iterable[Bounds]) -> Iterator[Owned]:
    for bound in sorted(owned, key=lambda b: b.partition):
        stop = position(silver, stream, bound)
        if stop > bound.first_offset:
            yield bound, Slice(bound.tile, bound.epoch, bound.partition, bound.first_offset, stop)


def _due(whole: Slice, told: pl.DataFrame, done: pl.DataFrame) -> Iterator[Slice]:
    """Cut what is not done of a range where accounts begin and end: each of them then counts or does not."""
    ready = sorted(_ranges(done, whole))
    ends = {whole.first_offset, whole.next_offset, *chain(*_ranges(told, whole))}
    for start, end in pairwise(sorted(ends)):
        before = bisect_right(ready, (start, whole.next_offset)) - 1
        if before < 0 or ready[before][1] <= start:
            yield replace(whole, first_offset=start, next_offset=end)


def _ranges(told: pl.DataFrame, whole: Slice) -> list[tuple[int, int]]:
    """Give the ranges of accounts that lie in a slice."""
    mine = told.filter(epoch=whole.epoch, partition=whole.partition)
    inside = (pl.col("first_offset") >= whole.first_offset) & (pl.col("next_offset") <= whole.next_offset)
    return mine.filter(inside).select("first_offset", "next_offset").rows()
