"""What a snapshot could not see, though it stands before its place: behind it.

PostgreSQL's changes are placed by the commit before their own; a connector that comes from a snapshot knows
of none. What a transaction wrote that was open while a snapshot was taken, or committed between its view and
its place, would stand before it, and be undone by an image that could not see it. That Kafka has it after the
snapshot, and the source's clock soon before, says where it belongs: a connector tells the changes of a key in
their order, so those that an image did see, told behind it, lead to what it shows.
"""

import polars as pl

from sluice.contract import Changes, Debezium
from sluice.envelopes.positions import OPENING, RANK, STREAMED
from sluice.history.closers import OF_SNAPSHOT
from sluice.history.epochs import AT, BEHIND, READING

_TABLE = pl.col("_source").struct.field("table")
_OPENS = RANK.is_in(OPENING)
_IMAGE = [pl.col("_image"), _TABLE.alias("_table"), AT.alias("_read"), pl.col("_timestamp").alias("_written")]


def behind_snapshots(
    rows: pl.DataFrame, ends: pl.DataFrame, stream: Changes
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give changes and what ends keys, with the `_position` of what snapshots could not see behind them.

    Args:
        rows: all changes of some keys (silver's columns).
        ends: what ends keys that it does not name (`sluice.history.closers`).
        stream: the contract.
    """
    if not isinstance(stream.value, Debezium) or stream.value.source != "postgresql" or stream.sequences:
        return rows, ends
    whole = ends.select(_IMAGE).drop_nulls("_image")
    read = rows.filter(OF_SNAPSHOT.is_not_null())
    own = read.select(*stream.keys, OF_SNAPSHOT.alias("_image"), *_IMAGE[1:])
    images = pl.concat([whole, own.select(whole.columns)])
    if not images.height:
        return rows, ends
    # A truncate has no key, so no partition: told again elsewhere, it may seem to be told after the snapshot.
    likely, opening = _likely(rows, images), _likely(ends, images) & ends.select(_OPENS).to_series()
    if not (likely.any() or opening.any()):  # most often
        return rows, ends
    placed = _behind(rows, likely, own.unique(), stream.keys)
    return _behind(placed, likely, whole, ()), _behind(ends, opening, whole, ())


def streamed(rows: pl.DataFrame) -> pl.Series:
    """Mark changes of PostgreSQL that its log told, where they still stand where they were written."""
    return rows.select(RANK.is_in(STREAMED).fill_null(value=False)).to_series()


def _likely(rows: pl.DataFrame, images: pl.DataFrame) -> pl.Series:
    """Mark streamed changes before some image that were not committed long before every clock of theirs."""
    clocks = images["_read"].unique().sort()
    before = streamed(rows) & (rows["_position"] < images["_image"].max())
    at = rows.select(AT).to_series()
    following = clocks.gather(clocks.search_sorted(at, side="left").clip(0, len(clocks) - 1))
    return before & (rows.select(_OPENS).to_series() | (at + READING >= following))


def _behind(
    rows: pl.DataFrame, likely: pl.Series, images: pl.DataFrame, keys: tuple[str, ...]
) -> pl.DataFrame:
    """Place likely changes behind the newest image that Kafka has before them, of their key or of all."""
    numbered = rows.with_row_index("_row")
    first = numbered.filter(likely & streamed(rows))
    if not first.height or not images.height:
        return rows
    since = pl.col("_timestamp").min().over(*keys, "_position")  # told again, it stays where it is
    told = first.select("_row", "_position", *keys, _since=since, _of=_TABLE, _at=AT, _opens=_OPENS)
    met = told.join(images, on=keys, nulls_equal=True) if keys else told.join(images, how="cross")
    of_it = pl.col("_of").eq_missing(pl.col("_table")) | pl.col("_table").is_null()
    soon = (pl.col("_at") + READING >= pl.col("_read")) & (
        pl.col("_opens") | (pl.col("_at") <= pl.col("_read"))
    )
    met = met.filter(of_it & soon & (pl.col("_written") <= pl.col("_since")))
    newest = met.sort("_written", "_image").unique("_row", keep="last")
    moved = newest.filter(pl.col("_image") > pl.col("_position")).select(
        "_row", _moved=pl.concat_str("_image", pl.lit(BEHIND), "_position")
    )
    placed = numbered.join(moved, on="_row", how="left", maintain_order="left")
    return placed.with_columns(pl.coalesce("_moved", "_position").alias("_position")).drop("_row", "_moved")
