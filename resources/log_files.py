"""The files of a table's log: what there is, and how its beginning is cut off.

Decides where a log may begin: at a checkpoint, with every commit after it. Deletes oldest first, so that
whoever dies in between leaves a log without a gap; of the checkpoints before the cut it leaves the first of
each hour of the past that stays readable: such a version can be read without the commits around it.
"""

from datetime import datetime

import polars as pl
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector

_LOG = "_delta_log"
_SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),
    "version": pl.Int64(),
    "checkpoint": pl.Boolean(),
    "written_at": pl.Datetime("us", "UTC"),
}


def listed(handle: DeltaTable) -> pl.DataFrame:
    """List the commits and checkpoints of a log.

    Returns:
        `name, version, checkpoint, written_at`, by version.

    Raises:
        OSError: the store cannot be read.
    """
    rows = [
        (found.base_name, int(found.base_name[:20]), found.base_name.endswith(".parquet"), found.mtime)
        for found in _files(handle).get_file_info_selector(FileSelector(_LOG))
        if found.base_name[:20].isdigit() and found.base_name[20:] in (".json", ".checkpoint.parquet")
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row").sort("version", "name")


def cut(handle: DeltaTable, log: pl.DataFrame, upto: int, since: datetime) -> int:
    """Delete the log's beginning up to a version, or to the newest checkpoint before it.

    Returns:
        how many commits were deleted.

    Raises:
        OSError: the store failed; the log is whole from where it was cut.
    """
    begin = log.filter(pl.col("checkpoint") & (pl.col("version") <= upto + 1))["version"].max()
    if begin is None:
        return 0
    before = log.filter(pl.col("version") < begin)
    hourly = (
        before.filter(pl.col("checkpoint") & (pl.col("written_at") >= since))
        .group_by(pl.col("written_at").dt.truncate("1h"))
        .agg(pl.col("name").first())
    )
    gone = before.join(hourly, on="name", how="anti").sort("checkpoint", "version")
    files = _files(handle)
    for name in gone["name"]:
        files.delete_file(f"{_LOG}/{name}")
    return int((~gone["checkpoint"]).sum())


def _files(handle: DeltaTable) -> DeltaStorageHandler:
    made: DeltaStorageHandler = DeltaStorageHandler.from_table(handle._table)  # type: ignore[assignment]  # noqa: SLF001  # what the class asks for
    return made
