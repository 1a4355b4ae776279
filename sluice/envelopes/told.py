"""What the records of a batch of changes tell, before it is judged; and what their Kafka keys tell."""

from collections import Counter
from dataclasses import dataclass

import polars as pl

from sluice.json.rows import Read

UTC_TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Told:
    """The records that tell a change, or should; all series are aligned with `places`.

    Attributes:
        places: `_row` of each in the batch.
        read: its columns, with what did not fit; what could not be read at all is of stage decode or key.
        op: c, u, r, d or t.
        position: the source's own; null where it tells none.
        since: when the source committed the change; null where it does not tell.
        previous_key: the key that the row had before, as JSON text, or null.
        unavailable: names of the columns whose values were not sent.
        source: where each comes from (`sluice.envelopes.origins.SOURCE`); nulls where it does not tell.
        tombstones: `_row` of the records without a value and without effect.
        ignored: `_row` of the records that are no changes of rows.
        patch: what changed inside values (`patches` beside it); None where the source tells no such thing.
    """

    places: pl.Series
    read: Read
    op: pl.Series
    position: pl.Series
    since: pl.Series
    previous_key: pl.Series
    unavailable: pl.Series
    source: pl.Series
    tombstones: pl.Series
    ignored: pl.Series
    patch: pl.Series | None = None


def joined(one: Told, other: Told) -> Told:
    """Put together what two ways have read of one batch, in the order of its records; without patches."""
    places = pl.concat([one.places, other.places])
    order = places.arg_sort()
    back = order.arg_sort().cast(pl.UInt32)
    moved = other.read.failures.with_columns(pl.col("_row") + len(one.places))
    failures = pl.concat([one.read.failures, moved])

    def both(first: pl.Series, second: pl.Series) -> pl.Series:
        return pl.concat([first, second]).gather(order)

    return Told(
        places=places.gather(order),
        read=Read(
            pl.concat([one.read.frame, other.read.frame]).select(pl.all().gather(order)),
            failures.with_columns(back.gather(failures["_row"]).alias("_row")).sort(
                "_row", maintain_order=True
            ),
            dict(Counter(one.read.unknown) + Counter(other.read.unknown)),
        ),
        op=both(one.op, other.op),
        position=both(one.position, other.position),
        since=both(one.since, other.since),
        previous_key=both(one.previous_key, other.previous_key),
        unavailable=both(one.unavailable, other.unavailable),
        source=both(one.source, other.source),
        tombstones=pl.concat([one.tombstones, other.tombstones]).sort(),
        ignored=pl.concat([one.ignored, other.ignored]).sort(),
    )
