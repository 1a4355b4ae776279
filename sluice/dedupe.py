"""Which row stands for a fact: the rules by which rows of one key are winners or losers.

Only what a row itself says decides, so the outcome is the same in whatever order rows arrive. Events:
of the rows of a key in the order of `(event_time, epoch, partition, offset)`, a row is kept unless it lies
within `dedupe_within` of the row kept before it. Changes: of the rows of equal key and position that of
the greatest `(epoch, partition, offset)` tells the content, and of those with this content the least stands:
what is told again, later, changes nothing. No tables are looked at here; the caller brings all rows
that could matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zlib import crc32

import polars as pl

from sluice.contract import Changes, Debezium, Events, Stream
from sluice.tables import BUCKETS, EVERY_BUCKET, ROW_COORDINATES, tells_patches

WINNER = ("_winner_epoch", "_winner_partition", "_winner_offset")
_WINNER_OF = dict(zip(ROW_COORDINATES, WINNER, strict=True))
_EPOCH = date(1970, 1, 1)
_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_WIDE = timedelta(days=31)
_EVER = date.max - date.min + _DAY  # no two event times are further apart


@dataclass(frozen=True)
class SameEvent:
    """Two rows are the same event if their keys are equal and their event times near.

    Attributes:
        keys: the key columns.
        when: the column of the event time.
        within: how near.
        contents: the columns in which a duplicate equals its winner; a conflict does not.
    """

    keys: tuple[str, ...]
    when: str
    within: timedelta
    contents: tuple[str, ...]
    stored_by = "_event_date"
    told_by = None
    chained = True  # the lot of a row may change that of rows that are no neighbours of its own

    @property
    def fact(self) -> tuple[str, ...]:
        """The columns that are equal in all rows that could be the same event."""
        return self.keys

    @property
    def _within(self) -> timedelta:
        return min(self.within, _EVER)

    def near(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Tell, row by row, where another of its fact could stand: event dates from `low` to `high`."""
        when = pl.col(self.when).dt.epoch("us")
        within, day = self._within // _MICROSECOND, _DAY // _MICROSECOND
        low, high = (when - within) // day, (when + within) // day
        return rows.select(  # event times may lie at the ends of what has a date
            low=low.clip(lower_bound=(date.min - _EPOCH).days).cast(pl.Int32).cast(pl.Date),
            high=high.clip(upper_bound=(date.max - _EPOCH).days).cast(pl.Int32).cast(pl.Date),
        )

    @staticmethod
    def partitions(near: pl.DataFrame) -> set[object]:
        """Give the event dates that rows (of `near`) reach."""
        dates: set[object] = set()
        for low, high in near.drop_nulls().group_by("low").agg(pl.col("high").max()).iter_rows():
            dates.update(low + timedelta(days=n) for n in range((high - low).days + 1))
        return dates

    def fence(self, value: object) -> str:
        """Name what guards a date: itself, or where many are looked at its year, since each fence costs."""
        return f"_event_date/{str(value)[:4] if self.within > _WIDE else value}"

    def stored_in(self, dates: set[object]) -> pl.Expr:
        """Tell whether a row's own values put it on one of some dates."""
        return pl.col(self.when).dt.date().is_in(list(dates))

    def reached(self, rows: pl.DataFrame, given_up: pl.DataFrame) -> pl.DataFrame:
        """Leave out the losers (`_from`) that no row which stood, comes or is given up precedes within reach.

        What such a loser lost to was not looked at: it stands.
        """
        stands = pl.col("_from").ne_missing("loser")
        every = pl.concat([rows, given_up.select({*self.keys, self.when})], how="diagonal")
        before = pl.when(stands).then(pl.col(self.when)).forward_fill().over(self.keys)
        ordered = every.sort(*self.keys, self.when, ~stands).with_columns(_before=before)
        near = pl.col(self.when) - pl.col("_before") <= self._within
        return ordered.filter(pl.col("_from").is_not_null() & (stands | near)).select(rows.columns)

    @staticmethod
    def unsure(_decided: pl.DataFrame) -> pl.Series:
        """Mark the rows whose content must be known first: none, times decide."""
        return pl.repeat(value=False, n=_decided.height, eager=True)

    def decide(self, rows: pl.DataFrame, _known: pl.DataFrame) -> pl.DataFrame:
        """Add `_kept` and the winner's coordinates (null where kept) to all rows of some keys."""
        alone = rows.select(pl.struct(self.keys).is_unique()).to_series()  # most keys come once
        if alone.all():
            return _kept(rows)
        ordered = rows.filter(~alone).sort(*self.keys, self.when, *ROW_COORDINATES)
        heads = ordered.select(pl.struct(self.keys).is_first_distinct()).to_series()
        winners = self._winners(heads, ordered[self.when].dt.epoch("us"))
        kept = winners == pl.int_range(ordered.height, eager=True)
        won = ordered.select(pl.col(c).alias(w) for c, w in _WINNER_OF.items())[winners]
        beaten = won.select(pl.when(~kept).then(pl.col(w)) for w in WINNER)
        return pl.concat([_kept(rows.filter(alone)), ordered.with_columns(kept.alias("_kept"), *beaten)])

    def _winners(self, heads: pl.Series, times: pl.Series) -> pl.Series:
        """Give each row's place of the row that stands for it; rows are sorted, each key's first is a head.

        One step a row: a key may have as many winners as rows, and whole frames would be taken for each.
        """
        within, began, winner = self._within // _MICROSECOND, 0, 0
        places: list[int] = []
        for place, (head, time) in enumerate(zip(heads.to_list(), times.to_list(), strict=True)):
            if head or time - began > within:
                began, winner = time, place
            places.append(winner)
        return pl.Series(places, dtype=pl.UInt32)


@dataclass(frozen=True)
class SameChange:
    """Two rows are the same change if their keys and their positions are equal.

    Attributes:
        keys: the key columns.
        contents: the columns by which two tellings of it are a duplicate, else a conflict.
        when: the column that orders changes.
    """

    keys: tuple[str, ...]
    contents: tuple[str, ...]
    when: str = "_position"
    stored_by = "_bucket"
    chained = False
    told_by = "_position"  # of a fact: what the log tells of files passes most of them over

    @property
    def fact(self) -> tuple[str, ...]:
        """The columns that are equal in all rows that are the same change."""
        return (*self.keys, self.when)

    def near(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Tell, row by row, where another of its change could stand: its bucket, its position (`at`)."""
        bucket = buckets(rows, self.keys)
        return pl.DataFrame({"low": bucket, "high": bucket, "at": rows[self.when]})

    @staticmethod
    def partitions(near: pl.DataFrame) -> set[object]:
        """Give the buckets that rows (of `near`) reach."""
        return set(near["low"].unique())

    def fence(self, value: object) -> str:
        """Name what guards a bucket."""
        return f"_bucket/{value}"

    def stored_in(self, _buckets: set[object]) -> pl.Expr:
        """Tell nothing: a row's bucket follows from its key, by which the caller asks anyway."""
        return pl.lit(value=True)

    @staticmethod
    def reached(rows: pl.DataFrame, _given_up: pl.DataFrame) -> pl.DataFrame:
        """Leave out nothing: all that is the same change decides."""
        return rows

    @staticmethod
    def unsure(decided: pl.DataFrame) -> pl.Series:
        """Mark the rows whose content must be known before what was decided holds."""
        return decided["_unsure"]

    def decide(self, rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """Add `_kept`, the winner's coordinates (null where kept) and `_unsure` to all rows of some keys.

        Args:
            rows: keys, position, coordinates.
            known: coordinates and `contents` of those whose content is known.
        """
        fact, here = list(self.fact), pl.col("_number")
        told = known.unique(ROW_COORDINATES, keep="first").select(
            *ROW_COORDINATES,
            pl.lit(value=True).alias("_told"),
            *(pl.col(c).alias(c + "_told") for c in self.contents),
        )
        names = [name for name in told.columns if name not in ROW_COORDINATES]
        ordered = (
            rows.join(told, on=ROW_COORDINATES, how="left").sort(*ROW_COORDINATES).with_row_index("_number")
        )
        last = ordered.unique(fact, keep="last", maintain_order=True).select(*fact, *names, _last="_number")
        met = ordered.join(last, on=fact, suffix="_of_last", nulls_equal=True).sort("_number")
        both = pl.col("_told") & pl.col("_told_of_last")
        alike = pl.when(both).then(equal_content(names, "_of_last"))
        met = met.with_columns(_alike=(here == pl.col("_last")) | alike)
        first = met.filter("_alike").unique(fact, keep="first", maintain_order=True)
        named = first.select(*fact, *(pl.col(c).alias(w) for c, w in _WINNER_OF.items()), _first="_number")
        met = met.join(named, on=fact, nulls_equal=True)
        kept, of_last = here == pl.col("_first"), pl.col("_told_of_last").is_not_null()
        alone = pl.len().over(fact) == 1
        below = of_last & pl.col("_alike").is_null() & (here < pl.col("_first"))
        return met.with_columns(
            _kept=kept,
            _unsure=below | (~of_last & (here == pl.col("_last")) & ~alone),
            **{w: pl.when(~kept).then(pl.col(w)).otherwise(None) for w in WINNER},
        ).select(*rows.columns, "_kept", *WINNER, "_unsure")


Identity = SameEvent | SameChange


def identity(stream: Stream) -> Identity:
    """Give the rule that tells which rows of a stream are the same fact."""
    columns = tuple(column.name for column in stream.columns)
    if isinstance(stream, Events):
        return SameEvent(stream.keys, stream.event_time, stream.dedupe_within, columns)
    if not isinstance(stream, Changes):
        raise TypeError(f"{stream!r} is neither Events nor Changes")
    told = ["_op", "_unavailable", "_previous_key", *(["_patch"] if tells_patches(stream) else [])]
    if isinstance(stream.value, Debezium) and not stream.sequences:
        told.append("_source")  # places of another server, or of another log, may be equal by chance
    return SameChange(stream.keys, (*columns, *told))


def placed(rows: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    """Add the column by which silver is stored: `_event_date`, or `_bucket`."""
    if isinstance(stream, Changes):
        return rows.with_columns(buckets(rows, stream.keys).alias("_bucket"))
    if isinstance(stream, Events):
        when = pl.col(stream.event_time)
        return rows.with_columns(when.dt.date().alias("_event_date"))
    raise TypeError(f"{stream!r} is neither Events nor Changes")


def buckets(rows: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Give the bucket of each row, by a hash that no library version can change.

    Keys are hashed as text (CRC-32 of UTF-8, parts joined by U+001F), times as integers; rows whose keys
    are all null (truncates) get `EVERY_BUCKET`.
    """
    text = pl.concat_str(
        [_key_text(name, rows.schema[name]) for name in keys], separator="\x1f", ignore_nulls=False
    )
    texts = rows.select(text.cast(pl.Binary)).to_series().to_list()
    numbers = [EVERY_BUCKET if t is None else crc32(t) % BUCKETS for t in texts]
    return pl.Series("_bucket", numbers, dtype=pl.Int32)


def _key_text(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype.is_float():
        return pl.when(column == 0).then(pl.lit(0, dtype)).otherwise(column).cast(pl.String)  # also of -0.0
    if dtype.is_temporal():
        return column.to_physical().cast(pl.String)
    if dtype == pl.Binary:
        return column.bin.encode("hex")
    return column.cast(pl.String)


def _kept(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit(value=True).alias("_kept"),
        *(pl.lit(None, rows.schema[c]).alias(w) for c, w in _WINNER_OF.items()),
    )


def equal_content(columns: Sequence[str], other: str) -> pl.Expr:
    """Tell whether columns equal those of the same name with the suffix `other`; nulls are equal."""
    return pl.all_horizontal(pl.col(c).eq_missing(pl.col(c + other)) for c in columns)
