"""Which dates of gold a change concerns: those of the rows, and those whose as-of joins see another version.

Rows tell their dates in the accounts of silver's commits. A dimension tells by what differs between two of
its versions: every fact of that key within an interval that came or went, and, where that is the first
version, also the facts before it, which are joined to it.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from assets import aftermath
from assets.merge import files
from resources.dbt import AsOfJoin
from resources.lake import Lake
from sluice import tables
from sluice.contract import Changes, Stream
from sluice.errors import LakeError


def by_rows(lake: Lake, stream: Stream, since: int, upto: int) -> set[date]:
    """Give the dates that the commits of silver after `since`, up to `upto`, touched."""
    told = aftermath.ledger(lake, stream, "silver")
    new = told.filter(pl.col("table_version").is_between(since + 1, upto))
    return set(new["touched_dates"].explode().drop_nulls())


def by_dimension(
    lake: Lake, dimension: Changes, fact: Stream, join: AsOfJoin, since: int, upto: int
) -> set[date]:
    """Give the event dates of the facts that see another version of the dimension than before."""
    table = tables.dimension(dimension)
    key = dimension.keys[0]
    after = lake.open(table.name, upto)
    if after is None:
        return set()
    try:
        before = lake.open(table.name, since)
    except LakeError:  # not kept any more: every version of every key may be new
        before = None
    known = {} if before is None else files(before)
    buckets = {bucket for _, bucket in known.items() ^ files(after).items()}
    columns = {n: t for n, t in table.columns.items() if n not in ("_bucket", "_position", "_op")}
    now, was = (
        pl.DataFrame(schema=columns)
        if handle is None
        else _typed(lake.scan(handle).filter(pl.col("_bucket").is_in(list(buckets))).collect(), columns)
        for handle in (after, before)
    )
    changed = pl.concat(
        [
            was.join(now, on=list(columns), how="anti", nulls_equal=True),
            now.join(was, on=list(columns), how="anti", nulls_equal=True),
        ]
    )
    if not changed.height:
        return set()
    begins = pl.when(pl.col("version") > 1).then(pl.col("valid_from"))  # null: from the beginning of time
    intervals = changed.select(pl.col(key).alias("_key"), _from=begins, _to=pl.col("valid_to"))
    facts = lake.read(tables.silver(fact)).select(join.key, join.time, "_event_date")
    met = facts.join(intervals.lazy(), left_on=join.key, right_on="_key")
    within = (pl.col(join.time) >= pl.col("_from")).fill_null(value=True) & (
        pl.col(join.time) < pl.col("_to")
    ).fill_null(value=True)
    return set(met.filter(within).select(pl.col("_event_date").unique()).collect()["_event_date"])


def _typed(rows: pl.DataFrame, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    """Give rows of an older version as the table is today: new columns null, types as wide as now."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in columns.items()
    )


def versions(lake: Lake, streams: Sequence[Stream]) -> dict[str, int]:
    """Give the version that each table which gold may read has now."""
    found = {}
    for stream in streams:
        name = tables.dimension(stream).name if isinstance(stream, Changes) else tables.silver(stream).name
        handle = lake.open(name)
        if handle is not None:
            found[name] = int(handle.version())
    return found
