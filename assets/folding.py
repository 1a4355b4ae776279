"""One bucket of a dimension brought up to silver, file by file, in memory that does not grow with the table.

`anew` folds all changes of the bucket, a piece of its keys at a time. `onward` takes the new changes only:
keys that follow from their open rows (`sluice.history.follow`) are folded from these, the others from all
their changes in silver; files that hold none of these keys stay as they are. Files are written; no commit
is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import polars as pl
from deltalake.transaction import AddAction, RemoveAction

from assets.grown import UNASKED, Difference
from assets.linked import ends_of, one_partition
from assets.rewrite import CLOSED, Writer
from resources.data_files import DataFiles
from sluice.contract import Changes
from sluice.dedupe import placed
from sluice.history.follow import Mark, among, follow, following, mark, may_follow
from sluice.history.scd2 import fold

PIECE = 1_000_000  # changes folded at a time


@dataclass
class Folded:
    """What became of a bucket: files that come and go, and the mark of what is folded now."""

    actions: list[AddAction | RemoveAction]
    mark: Mark


@dataclass
class Folding:
    """What the buckets of one merge have in common.

    Attributes:
        stream: the contract.
        silver: the files of the version of silver that is folded.
        dimension: the files of the dimension that is rewritten.
        listed: a list of silver's files.
        images: what new whole images end, where all else was folded before them and no keys are linked;
            else None.
        linked: keys that are folded together, since changes of key connect them.
        together: their rows of the dimension, with `_bucket`.
        follows: whether keys may follow from their open rows.
    """

    stream: Changes
    silver: DataFiles
    dimension: DataFiles
    listed: pl.DataFrame
    images: pl.DataFrame | None
    linked: pl.DataFrame
    together: pl.DataFrame
    follows: bool

    @cached_property
    def ends(self) -> pl.DataFrame:
        """What ends keys that it does not name (`sluice.history.closers`), from all of silver."""
        return ends_of(self.stream, self.silver, self.listed)

    def changes(self, paths: Sequence[str]) -> pl.LazyFrame:
        """Read changes, in the columns that a fold needs."""
        return self.silver.read(paths).select(n for n in self.silver.schema if n not in UNASKED)

    def of_keys(self, paths: Sequence[str], keys: pl.DataFrame) -> pl.DataFrame:
        """Read all changes of some keys."""
        first = self.stream.keys[0]
        likely = pl.col(first).is_in(keys[first].unique().implode())  # asked of a file before it is read
        found = self.changes(paths).filter(likely).collect(engine="streaming")
        return found.filter(among(found, keys, self.stream.keys))

    def anew(self, bucket: int, changes: pl.DataFrame, stored: pl.DataFrame) -> Folded:
        """Fold all changes of a bucket; `changes` and `stored` list its files (`FILE`)."""
        rows, known = self.changes(changes["path"].to_list()), Mark()
        pieces = ceil((changes["rows"].fill_null(PIECE).sum() or 1) / PIECE)
        part = pl.struct(self.stream.keys).hash(seed=0) % pieces
        writer = Writer(self.dimension, bucket, self.stream.keys, history=self.stream.history)
        for number in range(pieces):
            piece = rows.filter(part == number).collect(engine="streaming")
            known = known.over(mark(piece, self.ends, self.stream))
            alone = piece.filter(~among(piece, self.linked, self.stream.keys))
            writer.add(fold(alone, self.stream, self.ends))
        writer.add(self._together(bucket))
        writer.drop(stored)
        return Folded(writer.done(), known)

    def onward(
        self, bucket: int, new: Difference, changes: pl.DataFrame, stored: pl.DataFrame, known: Mark
    ) -> Folded:
        """Fold what changed in a bucket; `known` is the mark of what was folded before."""
        stream, keys = self.stream, self.stream.keys
        came = new.came.filter(~among(new.came, self.linked, keys))
        lost = new.lost.filter(~among(new.lost, self.linked, keys))
        is_open = pl.col("valid_to").is_null() if stream.history else pl.lit(value=True)
        settled = stored.select((pl.col(CLOSED) == 0).fill_null(value=False)).to_series()
        concerned = came.select(keys)
        if self.images is not None:  # they concern all that is open
            unsettled = self.dimension.read(stored.filter(~settled)["path"].to_list())
            concerned = pl.concat([concerned, unsettled.filter(is_open).select(keys).collect()])
        touched = pl.concat([concerned, lost]).unique()
        writer = Writer(self.dimension, bucket, keys, history=stream.history)

        met = writer.take(stored.filter(~settled), pl.concat([touched, self.linked]))
        stands = met.filter(is_open & among(met, touched, keys))
        ends = self.ends.clear() if self.images is None else self.images  # of these, what is after all else
        reached = known.over(mark(new.came, self.ends if self.images is None else ends, stream))
        ahead = touched
        if self.images is None:
            ahead = following(came, stands, known, reached, stream) if self.follows else touched.clear()
        ahead = ahead.filter(~among(ahead, lost, keys))
        back = touched.filter(~among(touched, ahead, keys))
        stands = stands.filter(among(stands, ahead, keys))
        passed = met.filter(~is_open & among(met, ahead, keys))
        writer.add(passed)
        if stream.history:
            reborn = ahead.filter(~among(ahead, stands, keys))
            older = self._versions(stored.filter(settled), reborn)
            passed = pl.concat([passed.select(older.columns), older])
            writer.take(stored.filter(settled), pl.concat([back, self.linked]))
        if ahead.height:
            writer.add(follow(came.filter(among(came, ahead, keys)), stands, passed, ends, stream))
        if back.height:
            whole = self.of_keys(changes["path"].to_list(), back)
            reached = reached.over(mark(whole, self.ends, stream))
            writer.add(fold(whole, stream, self.ends))
        writer.add(self._together(bucket))
        return Folded(writer.done(), reached)

    def _together(self, bucket: int) -> pl.DataFrame:
        return self.together.filter(_bucket=bucket).drop("_bucket")

    def _versions(self, files: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        """Read the numbers of the versions that some keys have in some files."""
        names = self.stream.keys
        found = self.dimension.read(files["path"].to_list() if keys.height else []).select(*names, "version")
        return found.join(keys.lazy(), on=names, how="semi").collect()


def folding(
    stream: Changes,
    silver: DataFiles,
    dimension: DataFiles,
    changes: pl.DataFrame,
    keys: pl.DataFrame,
    images: pl.DataFrame | None = None,
) -> Folding:
    """Prepare a merge: fold the keys that are folded together.

    Args:
        stream: the contract.
        silver: the files of the version of silver that is folded.
        dimension: the files of the dimension that is rewritten.
        changes: a list of silver's files, with what the log tells of `PARTITIONS`.
        keys: the keys that are folded together.
        images: what new whole images end (`assets.linked.images_ahead`).
    """
    paths = changes["path"].to_list()
    work = Folding(
        stream=stream,
        silver=silver,
        dimension=dimension,
        listed=changes,
        images=images,
        linked=keys,
        together=changes.clear(),
        follows=may_follow(stream, one_partition=one_partition(changes)),
    )
    rows = work.of_keys(paths if keys.height else [], keys)
    work.together = placed(fold(rows, stream, work.ends if images is None else images), stream)
    return work
