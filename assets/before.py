"""Silver without some of its changes: the rows of the dimension that stood before these.

Decides which keys they touch, those that changes of key connect with them included, and whether they reach
keys that they do not name: truncates and complete images do. Then all keys are folded, in bounded memory.
"""

from functools import cached_property
from math import ceil
from pathlib import Path

import polars as pl

from assets.folding import PIECE
from assets.linked import ENDING, TOLD, first_of_images
from sluice.contract import Changes
from sluice.history.closers import closers
from sluice.history.follow import among, connected, renames
from sluice.history.scd2 import fold
from sluice.tables import EVERY_BUCKET, ROW_COORDINATES

_ENDS = (pl.col("_op") == "t") | ENDING.fill_null(value=False)
_KEYED = pl.col("_bucket") != EVERY_BUCKET


class Before:
    """The changes of silver that count, and what they fold to.

    Args:
        silver: all of it.
        stream: the contract.
        later: the changes that do not count (columns ROW_COORDINATES).
    """

    def __init__(self, silver: pl.LazyFrame, stream: Changes, later: pl.DataFrame) -> None:
        self._stream, self._keys = stream, list(stream.keys)
        self._counts = silver.join(later.lazy(), on=ROW_COORDINATES, how="anti")
        self._later = silver.join(later.lazy(), on=ROW_COORDINATES, how="semi")
        told = silver.filter(pl.col("_previous_key").is_not_null()).select(*self._keys, "_previous_key")
        self._edges = renames(told.collect(engine="streaming"), stream)

    @cached_property
    def reaches_all(self) -> bool:
        """Whether what does not count could end keys that it does not name."""
        if self._stream.snapshot is not None:
            return True
        return bool(self._later.select(_ENDS.any()).collect(engine="streaming").item())

    @cached_property
    def _ends(self) -> pl.DataFrame:
        image = self._stream.snapshot
        rows = self._counts.select(name for name in (*TOLD, "_bucket", image) if name is not None)
        if image is None:
            return closers(rows.filter(_ENDS).drop("_bucket").collect(engine="streaming"), self._stream)
        found = [rows.filter(~_KEYED).collect(engine="streaming")]
        for bucket in rows.filter(_KEYED).select(pl.col("_bucket").unique()).collect().to_series().sort():
            mine = rows.filter(pl.col("_bucket") == bucket).collect(engine="streaming")
            found.append(first_of_images(mine, image))
        return closers(pl.concat(found).drop("_bucket"), self._stream)

    def touched(self) -> pl.DataFrame:
        """Give the keys that what does not count touches, and those connected with them."""
        named = self._later.select(self._keys).unique().collect(engine="streaming")
        linked = connected(named, self._edges, self._keys)
        return pl.concat([named, linked]).unique()

    def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Give the rows of some keys, with all keys that changes of key connect with them, that stood."""
        mine = self._counts.join(keys.lazy(), on=self._keys, how="semi")
        return self._standing(fold(mine.collect(engine="streaming"), self._stream, self._ends))

    def written(self, names: list[str], folder: Path) -> list[str]:
        """Write all rows that stood into files, a piece of the keys at a time."""
        every = self._edges.select(pl.col(name + "_old").alias(name) for name in self._keys)
        linked = pl.concat([self._edges.select(self._keys), every]).unique()
        keyed = self._counts.filter(_KEYED)
        pieces = ceil((keyed.select(pl.len()).collect(engine="streaming").item() or 1) / PIECE)
        part = pl.struct(self._keys).hash(seed=0) % pieces
        first = len(list(folder.iterdir()))
        files = [str(folder / f"as-of-{first}-{number}.parquet") for number in range(pieces + 1)]
        for number, file in enumerate(files[:-1]):
            piece = keyed.filter(part == number).collect(engine="streaming")
            alone = piece.filter(~among(piece, linked, self._keys))
            self._standing(fold(alone, self._stream, self._ends)).select(names).lazy().sink_parquet(file)
        self.rows(linked).select(names).lazy().sink_parquet(files[-1])
        return files

    def _standing(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter("is_current") if self._stream.history else rows
