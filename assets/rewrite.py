"""The files of one bucket of a dimension, written anew: rows are taken out of some, others added.

Decides how large files are, which are joined with what is new, and that a history keeps closed versions
apart from open ones, which change more often. A file that is read is held in memory, whole.
"""

from collections.abc import Sequence
from math import ceil

import polars as pl
from deltalake.transaction import AddAction, RemoveAction

from resources.data_files import DataFiles
from sluice.history.follow import among

FILE_ROWS = 1_000_000
FILE_BYTES = 192 << 20  # in memory
CLOSED = "null_count.valid_to"  # what the log tells of a file: none open, where it is 0
_SMALL = FILE_ROWS // 8  # a file with fewer rows is joined with what is new,
_LIGHT = 4 << 20  # unless it has so many bytes


class Writer:
    """Collects what a commit does with the files of one bucket, and writes those that come."""

    def __init__(self, files: DataFiles, bucket: int, keys: Sequence[str], *, history: bool) -> None:
        self._files, self._bucket, self._keys, self._history = files, bucket, list(keys), history
        self._actions: list[AddAction | RemoveAction] = []
        self._held: dict[str, list[pl.DataFrame]] = {"closed": [], "open": []}

    def take(self, files: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        """Take all rows of some keys out of some files; those that have none stay, unless they are small."""
        taken = [pl.DataFrame(schema=self._files.schema)]
        for path, size, rows in files.select("path", "size", "rows").iter_rows():
            content = self._files.read([path])
            named = content.select(self._keys).collect()
            theirs = among(named, keys, self._keys)
            if theirs.any() or ((rows or 0) < _SMALL and size < _LIGHT):
                whole = content.drop(self._keys).collect().hstack(named).select(self._files.schema.names())
                taken.append(whole.filter(theirs))
                self.add(whole.filter(~theirs))
                self._actions.append(self._files.gone(path, size, self._bucket))
        return pl.concat(taken)

    def drop(self, files: pl.DataFrame) -> None:
        """Take files out, whole."""
        for path, size in files.select("path", "size").iter_rows():
            self._actions.append(self._files.gone(path, size, self._bucket))

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows; what is not needed to fill a file is written by and by."""
        typed = rows.select(  # a column that the contract has no more stays, null
            (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in self._files.schema.items()
        )
        none = pl.zeros(typed.height, pl.Boolean, eager=True)
        closed = typed["valid_to"].is_not_null() if self._history else none
        for kind, mine in (("closed", closed), ("open", ~closed)):
            self._hold(kind, typed if mine.all() else typed.filter(mine))

    def done(self) -> list[AddAction | RemoveAction]:
        """Write what is left; give what a commit is to do."""
        for kind, held in self._held.items():
            if held:
                self._write(kind)
        return self._actions

    def _hold(self, kind: str, rows: pl.DataFrame) -> None:
        height = sum(frame.height for frame in self._held[kind])
        if height and height + rows.height > _most(rows) * 3 // 2:
            self._write(kind)
        if rows.height:
            self._held[kind].append(rows)

    def _write(self, kind: str) -> None:
        rows, self._held[kind] = pl.concat(self._held[kind]), []
        files = max(1, round(rows.height / _most(rows)))
        for part in rows.iter_slices(ceil(rows.height / files)):
            self._actions += [new.action for new in self._files.write(part, self._bucket)]


def _most(rows: pl.DataFrame) -> int:
    """Give how many such rows a file may hold."""
    each = int(rows.estimated_size()) // max(1, rows.height)
    return min(FILE_ROWS, max(1, FILE_BYTES // max(1, each)))
