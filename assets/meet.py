"""What a batch meets in silver: all rows that could be the same fact as one of its own.

Key hashes (`resources.key_index`) say which of the batch's rows meet anything at all; most meet nothing and
stand as they are. For the others the files that may hold their keys are read, and the losers of those keys.
A row whose lot changes may change that of rows on dates on which their keys were not looked for yet: so it
looks on from there until there is nothing new, and never over the rest of a key's past. It decides only to
see where to look.
"""

from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable

from assets.whole_rows import AT, Rows, has_another_winner
from resources.key_index import KeyIndex, hashed, key_index
from resources.lake import Lake
from sluice import tables
from sluice.contract import Stream
from sluice.dedupe import WINNER, Identity
from sluice.tables import ROW_COORDINATES

_BEATEN_BY = pl.lit(None, pl.String).alias("_beaten_by")
_STANDING = (ROW_COORDINATES, WINNER)  # of a row itself, and of what stands for it


@dataclass(frozen=True)
class GivenUp:
    """What a rebuild takes back: conditions on the rows of silver, and on losers (with silver's names)."""

    stored: pl.Expr
    beaten: pl.Expr


NOTHING = GivenUp(pl.lit(value=False), pl.lit(value=False))


@dataclass
class Met:
    """Rows that meet others of their keys, as far as their lot hangs on that.

    Attributes:
        rows: key, time or position, coordinates (AT), `_from` (silver, batch, loser), `_beaten_by` (of a
            loser: its winner's coordinates as text), `_place` in the batch (null: not of it).
        partitions: the dates or buckets that were looked at.
    """

    rows: pl.DataFrame
    partitions: set[object]


def meet(
    lake: Lake,
    stream: Stream,
    handle: DeltaTable,
    same: Identity,
    batch: pl.DataFrame,
    whole: Rows,
    given_up: GivenUp = NOTHING,
) -> Met:
    """Bring together what a batch's rows (silver's columns), and what it gives up, decide or are decided by.

    `whole` gets to know the rows from the batch and from silver.

    Raises:
        what reading the lake raises.
    """
    columns = list(dict.fromkeys([*same.keys, same.when, *AT]))
    stored = keys_of_silver(lake, stream, same)
    beaten = _Losers(lake, stream, same, columns, given_up.beaten)
    keys = batch.select(columns)
    if given_up is not NOTHING:
        again = lake.scan(handle).filter(given_up.stored).select(columns).collect()
        keys = pl.concat([keys, again, beaten.given_up()])
    hashes = hashed(keys, same.fact)
    asked = more = _probes(same, keys, hashes)
    mine, twice = batch.with_row_index("_place"), _twice(hashes)
    met = Met(_together(columns, batch.clear(), mine.clear(), beaten.none), set())
    while more.height:
        met.partitions = same.partitions(asked)
        hits = stored.look(lake, handle, asked)
        in_reach = pl.col(same.stored_by).is_in(list(met.partitions)) & ~given_up.stored
        affected = keys.filter(_among(hashes, hits.hashes)).select(same.fact)
        found = matching(stored.rows(lake, handle, hits.paths).filter(in_reach), affected).select(
            batch.columns
        )
        unfit, there = beaten.of(keys, hashes, met.partitions)
        own = mine.filter(_among(hashes.head(batch.height), pl.concat([twice, hits.hashes, there])))
        whole.know(pl.concat([own.drop("_place"), found]))
        met.rows = same.reached(_together(columns, found, own, unfit), keys)
        twins = found.join(unfit, on=ROW_COORDINATES, how="semi").select(ROW_COORDINATES)
        others = _unsettled(same, whole, met.rows, twins).select(columns)
        looked = _probes(same, others, hashed(others, same.fact)).unique()
        alike = asked.filter(_among(asked["hash"], looked["hash"]))  # so little is joined
        more = looked.join(alike, on=looked.columns, how="anti", nulls_equal=True)
        asked = pl.concat([asked, more])
    return met


def _together(
    columns: list[str], found: pl.DataFrame, own: pl.DataFrame, unfit: pl.DataFrame
) -> pl.DataFrame:
    """Give all that is known of some keys (columns as `Met.rows`): from silver, the batch and the losers."""
    known = [
        found.select(*columns, _BEATEN_BY, _from=pl.lit("silver")),
        own.select(*columns, _BEATEN_BY, _from=pl.lit("batch")),
        unfit.select(*columns, "_beaten_by", _from=pl.lit("loser")),
    ]
    # equal coordinates are the same record, never a duplicate
    rows = pl.concat(known).unique(ROW_COORDINATES, keep="first", maintain_order=True)
    return rows.join(own.select(*ROW_COORDINATES, "_place"), on=ROW_COORDINATES, how="left")


def _unsettled(same: Identity, whole: Rows, rows: pl.DataFrame, twins: pl.DataFrame) -> pl.DataFrame:
    """Give the rows whose neighbours may have another lot now.

    Those whose own lot changed; and what a run left that died between two tables: rows of silver that are
    losers, too (`twins`), and what lost to them.
    """
    if not same.chained:
        return rows
    decided = whole.decided(same, rows)
    left = [decided.join(twins, left_on=at, right_on=ROW_COORDINATES, how="semi") for at in _STANDING]
    entering = pl.col("_kept") & (pl.col("_from") != "silver")
    return pl.concat([decided.filter(entering | has_another_winner()), *left])


def keys_of_silver(lake: Lake, stream: Stream, same: Identity) -> KeyIndex:
    """Give the index of silver's facts."""
    return key_index(lake.path(tables.silver(stream).name), same.fact, same.stored_by, same.told_by)


def _probes(same: Identity, rows: pl.DataFrame, hashes: pl.Series) -> pl.DataFrame:
    """Tell where rows that are the same as some (`hashes` are theirs) could stand."""
    return same.near(rows).with_columns(hashes.alias("hash"))


def matching(rows: pl.LazyFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """Read the rows that have one of some keys; the first look prunes what is read."""
    wanted = keys.unique()
    if not wanted.height:
        return rows.clear().collect()
    near = pl.all_horizontal(
        pl.col(c).is_in(wanted[c].unique().implode(), nulls_equal=True) for c in keys.columns
    )
    return rows.filter(near).join(wanted.lazy(), on=keys.columns, how="semi", nulls_equal=True).collect()


def _twice(hashes: pl.Series) -> pl.Series:
    """Give the hashes that come more than once."""
    return hashes.filter(hashes.is_duplicated()).unique()


def _among(hashes: pl.Series, some: pl.Series) -> pl.Series:
    return hashes.is_in(some.implode())


class _Losers:
    """The table of losers, with silver's names and the winner's coordinates as text."""

    def __init__(
        self, lake: Lake, stream: Stream, same: Identity, columns: list[str], again: pl.Expr
    ) -> None:
        table = tables.losers(stream)
        self._lake, self._same, self._again = lake, same, again
        # The contract's key may have other columns, or wider ones, than when the table was made.
        self._handle = lake.ensure(table)
        self._index = key_index(lake.path(table.name), same.fact)
        self._columns = [*columns, "_beaten_by"]
        self.none = self._named(pl.LazyFrame(schema=table.columns)).collect()

    def _named(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        winner = pl.concat_str(*(w[1:] for w in WINNER), separator="/")
        named = rows.with_columns(*(pl.col(c[1:]).alias(c) for c in AT), _beaten_by=winner)
        return named.select(self._columns)

    def given_up(self) -> pl.DataFrame:
        """Read the losers that a rebuild gives up."""
        return self._named(self._lake.scan(self._handle)).filter(self._again).drop("_beaten_by").collect()

    def of(
        self, keys: pl.DataFrame, hashes: pl.Series, partitions: set[object]
    ) -> tuple[pl.DataFrame, pl.Series]:
        """Read the losers of some keys in some partitions; also give the hashes of all that may be there."""
        hits = self._index.look(self._lake, self._handle, hashes.alias("hash").to_frame())
        rows = self._named(self._index.rows(self._lake, self._handle, hits.paths))
        reach = rows.filter(self._same.stored_in(partitions) & ~self._again)
        return matching(reach, keys.filter(_among(hashes, hits.hashes)).select(self._same.fact)), hits.hashes
