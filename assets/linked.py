"""What makes keys concern each other: changes of key connect them, truncates and whole images end them.

Found in silver, all of it, as sparingly as its columns allow: most tables have none of these.
"""

import polars as pl

from assets.grown import Grown
from resources.data_files import DataFiles
from sluice.contract import Changes, Debezium
from sluice.envelopes.origins import FIRST, LAST
from sluice.history.closers import closers
from sluice.history.follow import Mark, connected, images_follow, may_follow, renames
from sluice.tables import EVERY_BUCKET, ROW_COORDINATES

RENAMED = "null_count._previous_key"
ENDING = (pl.col("_op") == "r") & pl.col("_source").struct.field("snapshot").is_in([*FIRST, *LAST])
PARTITIONS = ("min._partition", "max._partition")  # what the log tells of silver's files
_AT_ONCE = 1_000_000  # rows
TOLD = ("_op", "_position", "_valid_from", "_source", "_timestamp", *ROW_COORDINATES)


def linked(stream: Changes, silver: DataFiles, changes: pl.DataFrame, new: Grown | None) -> pl.DataFrame:
    """Give the keys (key columns) that are folded together.

    Args:
        stream: the contract.
        silver: the files of silver's version that is folded.
        changes: a list of them, with what the log tells of `RENAMED`.
        new: what changed in it, where only keys are asked for that it touches; None: all are.

    Raises:
        FileNotFoundError: a file of `new` was deleted meanwhile.
    """
    keys = list(stream.keys)
    likely = _renamed(changes)["path"].to_list()
    told = silver.read(likely).select(*keys, "_previous_key").filter(pl.col("_previous_key").is_not_null())
    edges = renames(told.collect(), stream)
    if not edges.height:
        return edges.select(keys)
    if new is None:
        old = edges.select(pl.col(name + "_old").alias(name) for name in keys)
        return pl.concat([edges.select(keys), old]).unique()
    differences = (new.difference(bucket, keys) for bucket in sorted(new.buckets))
    touched = pl.concat([pl.concat([found.came.select(keys), found.lost]) for found in differences])
    return connected(touched.unique(), edges, keys)


def ends_of(stream: Changes, silver: DataFiles, changes: pl.DataFrame) -> pl.DataFrame:
    """Give what ends keys that it does not name (`sluice.history.closers`), from all of silver."""
    keyed = changes.filter(pl.col("value") != EVERY_BUCKET)
    truncates = changes.filter(value=EVERY_BUCKET)["path"].to_list()
    names = [n for n in (*TOLD, stream.snapshot) if n is not None]
    found = [silver.read(truncates).select(names).collect()]
    if stream.snapshot is not None:
        found += [
            first_of_images(silver.read(lot).select(names).collect(), stream.snapshot) for lot in _lots(keyed)
        ]
    elif isinstance(stream.value, Debezium):
        found.append(silver.read(keyed["path"].to_list()).filter(ENDING).select(names).collect())
    return closers(pl.concat(found), stream)


def _lots(files: pl.DataFrame) -> list[list[str]]:
    """Put files together that are read at once: a file costs more than its rows where there are few in it."""
    upto = pl.col("rows").fill_null(_AT_ONCE).cum_sum() // _AT_ONCE
    lots: list[list[str]] = files.group_by(upto, maintain_order=True).agg("path")["path"].to_list()
    return lots


def one_partition(changes: pl.DataFrame) -> bool:
    """Tell whether silver's files, listed with `PARTITIONS`, hold changes of one Kafka partition only."""
    least, greatest = (changes[name] for name in PARTITIONS)
    return not (least.null_count() or greatest.null_count()) and least.min() == greatest.max()


def images_ahead(
    stream: Changes, silver: DataFiles, changes: pl.DataFrame, new: Grown, known: Mark
) -> pl.DataFrame | None:
    """Give what new whole images end, where they lie after all that was folded; else None.

    Args:
        stream: the contract.
        silver: the files of silver's version that is folded.
        changes: a list of them, with what the log tells of `PARTITIONS` and `RENAMED`.
        new: what changed in it.
        known: the mark of all that was folded.
    """
    if stream.snapshot is None or EVERY_BUCKET in new.buckets or not new.files["came"].all():
        return None
    if not may_follow(stream, one_partition=one_partition(changes)) or _renamed(changes).height:
        return None
    told = silver.read(new.files["path"].to_list())
    names = dict.fromkeys(["_position", "_valid_from", stream.snapshot])
    try:
        least = told.select(pl.col(name).min() for name in names).collect()
        return ends_of(stream, silver, new.files) if images_follow(least, known, stream) else None
    except FileNotFoundError:  # joined with others long ago, and deleted
        return None


def _renamed(changes: pl.DataFrame) -> pl.DataFrame:
    """List the files that may tell changes of key."""
    return changes.filter(pl.col(RENAMED).ne_missing(pl.col("rows")))


def first_of_images(rows: pl.DataFrame, image: str) -> pl.DataFrame:
    """Give the rows by which their image is told: the first by each measure, and the last to begin."""
    by = [image, "_partition"]
    measures = (["_position", *ROW_COORDINATES], ["_valid_from"], ["_epoch", "_timestamp", "_offset"])
    found = [
        rows.sort(*measure, nulls_last=True).unique(by, keep="first", maintain_order=True)
        for measure in measures
    ]
    found.append(rows.sort("_valid_from").unique(by, keep="last", maintain_order=True))
    return pl.concat(found)
