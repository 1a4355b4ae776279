"""Where the first transaction after a snapshot stands: behind it.

PostgreSQL's changes are placed by the commit before their own, and a connector that comes from a snapshot
knows of none. What such a transaction, open while the snapshot was taken, wrote before the snapshot's place
would stand before it, and be undone by an image that could not see it. That it comes after the snapshot in
Kafka, soon after it by the source's clock, says where it belongs.
"""

import polars as pl

from sluice.contract import Changes, Debezium
from sluice.envelopes.positions import OPENING, RANK
from sluice.history.closers import OF_SNAPSHOT
from sluice.history.epochs import AT, BEHIND, READING

_TABLE = pl.col("_source").struct.field("table")
_OPENS = RANK.is_in(OPENING)
_IMAGE = [pl.col("_image"), _TABLE.alias("_table"), AT.alias("_read"), pl.col("_timestamp").alias("_written")]


def behind_snapshots(
    rows: pl.DataFrame, ends: pl.DataFrame, stream: Changes
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give changes and what ends keys, with the `_position` of first transactions behind their snapshots.

    Args:
        rows: all changes of some keys (silver's columns).
        ends: what ends keys that it does not name (`sluice.history.closers`).
        stream: the contract.
    """
    if not isinstance(stream.value, Debezium) or stream.sequences:
        return rows, ends
    if not (opens(rows).any() or opens(ends).any()):  # most often
        return rows, ends
    whole = ends.select(_IMAGE).drop_nulls("_image")
    own = rows.with_columns(OF_SNAPSHOT.alias("_image")).select(*stream.keys, *_IMAGE)
    own = own.drop_nulls("_image").unique()
    return _behind(_behind(rows, own, stream.keys), whole, ()), _behind(ends, whole, ())


def opens(rows: pl.DataFrame) -> pl.Series:
    """Mark the changes of first transactions that still stand where they were written."""
    return rows.select(_OPENS.fill_null(value=False)).to_series()


def _behind(rows: pl.DataFrame, images: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """Place changes behind the newest image that Kafka has before them, of their key or of all."""
    first = rows.with_row_index("_row").filter(opens(rows))
    if not first.height or not images.height:
        return rows
    since = pl.col("_timestamp").min().over(*keys, "_position")  # told again, it stays where it is
    told = first.select("_row", "_position", *keys, _since=since, _of=_TABLE, _at=AT)
    met = told.join(images, on=keys, nulls_equal=True) if keys else told.join(images, how="cross")
    of_it = pl.col("_of").eq_missing(pl.col("_table")) | pl.col("_table").is_null()
    soon = pl.col("_at") + READING >= pl.col("_read")
    met = met.filter(of_it & soon & (pl.col("_written") <= pl.col("_since")))
    newest = met.sort("_written", "_image").unique("_row", keep="last")
    moved = newest.filter(pl.col("_image") > pl.col("_position")).select(
        "_row", _moved=pl.concat_str("_image", pl.lit(BEHIND), "_position")
    )
    placed = rows.with_row_index("_row").join(moved, on="_row", how="left", maintain_order="left")
    return placed.with_columns(pl.coalesce("_moved", "_position").alias("_position")).drop("_row", "_moved")
