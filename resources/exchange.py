"""Rows of a table exchanged, all in one commit: some come, in new files, and some go.

A file that holds rows that go is written anew without them, a piece at a time: all other files stay, and
delta-rs, told by a predicate, takes several times the CPU. It decides nothing about rows; who else may commit
meanwhile, the caller says by fences.
"""

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from resources.data_files import DataFiles, Value
from resources.lake import Lake
from resources.new_files import NewFile

Wrote = Callable[[NewFile], None]


def exchange(
    lake: Lake,
    handle: DeltaTable,
    come: pl.DataFrame,
    go: pl.DataFrame,
    *,
    at: Sequence[str],
    wrote: Wrote = lambda _new: None,
    **told: Any,
) -> int:
    """Commit rows that come and rows that go, from the handle that was read.

    Args:
        lake: the lake.
        handle: a table that one column partitions.
        come: rows in the table's columns; none is equal `at` to one that stays.
        go: of rows of the table: `at`, and the column that partitions it; others of its columns are not used.
        at: columns by which a row is told from all others; by whole numbers fewer files are read.
        wrote: hears of each new file before the commit.
        told: what `Lake.commit` takes besides.

    Returns:
        the table's new version.

    Raises:
        what `Lake.commit` raises, and reading the table.
    """
    files = DataFiles(lake, handle)
    actions: list[AddAction | RemoveAction] = []

    def write(rows: pl.DataFrame, value: Value | None = None) -> None:
        for new in files.write(rows, value):
            actions.append(new.action)
            wrote(new)

    write(come)
    leaving = go.select(at).lazy()
    holding = files.holding(go, at).select("path", "size", "value").iter_rows() if go.height else ()
    for path, size, value in holding:
        if files.read([path]).join(leaving, on=at, how="semi").select(pl.len()).collect().item():
            actions.append(files.gone(path, size, value))
            for piece in files.pieces(path):
                write(piece.join(go, on=at, how="anti"), value)
    return lake.commit(handle, actions, **told)
