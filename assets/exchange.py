"""Rows of silver exchanged, all in one commit: some come, in new files, and some go.

A file that holds rows that go is written anew without them, a piece at a time; delta-rs, told by a predicate,
takes several times the CPU. What the new files hold is made known to the index of keys, so that no later
batch reads them for it. It decides nothing about rows; what commits at the same time is kept apart by the
caller's fences.
"""

from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from assets.meet import keys_of_silver
from resources.data_files import DataFiles, Value
from resources.key_index import hashed
from resources.lake import Lake
from sluice.contract import Stream
from sluice.dedupe import Identity
from sluice.tables import ROW_COORDINATES


def exchange(
    lake: Lake,
    stream: Stream,
    handle: DeltaTable,
    same: Identity,
    come: pl.DataFrame,
    go: pl.DataFrame,
    **told: Any,
) -> int:
    """Commit rows that come and rows that go, from the handle that was read.

    Args:
        lake: the lake.
        stream: the contract.
        handle: its silver.
        same: what rows are the same fact.
        come: rows in silver's columns; their coordinates are not in the table, but for those that go.
        go: of rows of the table: their coordinates, and the column by which it is stored.
        told: what `Lake.commit` takes besides.

    Returns:
        the table's new version.

    Raises:
        what `Lake.commit` raises, and reading the table.
    """
    files, index = DataFiles(lake, handle), keys_of_silver(lake, stream, same)
    actions: list[AddAction | RemoveAction] = []
    keys: list[tuple[object, str, pl.Series]] = []

    def write(rows: pl.DataFrame, value: Value) -> None:
        for action in files.write(rows, value):
            actions.append(action)
            keys.append((value, action.path, hashed(rows, same.fact)))

    values = come[same.stored_by].unique().sort()
    for value in values:
        write(come if values.len() == 1 else come.filter(pl.col(same.stored_by) == value), value)
    for value, path, size in files.holding(go, ROW_COORDINATES).select("value", "path", "size").iter_rows():
        there = files.read([path]).join(go.lazy(), on=ROW_COORDINATES, how="semi")
        if there.select(pl.len()).collect().item():
            actions.append(files.gone(path, size, value))
            for piece in files.pieces(path):
                write(piece.join(go, on=ROW_COORDINATES, how="anti"), value)
    version = lake.commit(handle, actions, **told)
    index.remember(keys)
    return version
