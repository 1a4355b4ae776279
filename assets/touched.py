"""Which dates of gold a change concerns: those of the rows, and those whose as-of joins see another version.

Rows tell their dates in the accounts of silver's commits. A dimension tells by what differs between two of
its versions: a fact sees the number and the values of the version that holds its time, or of the first one
where it is earlier than all; its date is concerned where that is another than before. When a version ends is
not seen by the facts within it.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl
from deltalake import DeltaTable

from assets import aftermath
from assets.merge import files
from resources.data_files import DataFiles
from resources.dbt import AsOfJoin
from resources.lake import Lake
from sluice import tables
from sluice.contract import Changes, Stream
from sluice.errors import LakeError

_EVER = -(2**63)  # before all times
_SEEN = "_seen"


def by_rows(lake: Lake, stream: Stream, since: int, upto: int) -> set[date]:
    """Give the dates that the commits of silver after `since`, up to `upto`, touched."""
    told = aftermath.told(lake, stream, "silver", pl.col("table_version").is_between(since + 1, upto))
    days = told.select(pl.col("touched_dates").explode().unique()).collect(engine="streaming")
    return set(days["touched_dates"].drop_nulls())


def by_dimension(
    lake: Lake, dimension: Changes, fact: Stream, join: AsOfJoin, since: int, upto: int
) -> set[date]:
    """Give the event dates of the facts that see another version of the dimension than before."""
    table = tables.dimension(dimension)
    after = lake.open(table.name, upto)
    if after is None:
        return set()
    facts = lake.read(tables.silver(fact)).select(pl.col(join.key).alias("_key"), join.time, "_event_date")
    time = facts.collect_schema()[join.time]
    changed = _differing(lake, dimension, time, _version(lake, table.name, since), after)
    if not changed.height:
        return set()
    met = facts.join(changed.lazy(), on="_key").filter(
        pl.col(join.time).to_physical() >= pl.col("_from"),
        (pl.col(join.time).to_physical() < pl.col("_to")).fill_null(value=True),
    )
    found = met.select(pl.col("_event_date").unique()).collect(engine="streaming")
    return set(found["_event_date"])


def _version(lake: Lake, name: str, since: int) -> DeltaTable | None:
    """Open an older version; None where it is not kept any more: all may be new."""
    try:
        return lake.open(name, since)
    except LakeError:
        return None


def _differing(
    lake: Lake, dimension: Changes, time: pl.DataType, before: DeltaTable | None, after: DeltaTable
) -> pl.DataFrame:
    """Give the parts of time in which facts see another version (as `_changed`), a bucket at a time.

    Files that both versions have hold the same rows, and so do not count.
    """
    columns = tables.dimension(dimension).columns
    names = [n for n in columns if n not in ("_bucket", "_position", "_op", "valid_to", "is_current")]
    compared = {n: columns[n] for n in (*names, "valid_to")}
    known, current = ({} if before is None else files(before)), files(after)
    sides = [(before, known, current), (after, current, known)]
    own = [
        (None if handle is None else DataFiles(lake, handle), _of_buckets(mine, other))
        for handle, mine, other in sides
    ]
    key = dimension.column(dimension.keys[0]).storage
    parts = [pl.DataFrame(schema={"_key": key, "_from": pl.Int64(), "_to": pl.Int64()})]
    try:
        for bucket in sorted(set().union(*(paths for _, paths in own))):
            was, now = (
                pl.DataFrame(schema=compared)
                if held is None
                else _typed(held.read(paths.get(bucket, [])), compared)
                for held, paths in own
            )
            only = [
                _seen(one.join(other, on=list(compared), how="anti", nulls_equal=True), dimension, time)
                for one, other in ((was, now), (now, was))
            ]
            parts.append(_changed(*only))
    except FileNotFoundError:  # cleaned up meanwhile
        return _differing(lake, dimension, time, None, after)
    return pl.concat(parts)


def _of_buckets(mine: dict[str, int], other: dict[str, int]) -> dict[int, list[str]]:
    """List by bucket the files that only one version has."""
    found: dict[int, list[str]] = {}
    for path in sorted(mine.keys() - other.keys()):
        found.setdefault(mine[path], []).append(path)
    return found


def _typed(rows: pl.LazyFrame, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    """Give rows of an older version as the table is today: new columns null, types as wide as now."""
    known = rows.collect_schema()
    return rows.select(
        (pl.col(name) if name in known else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in columns.items()
    ).collect(engine="streaming")


def _seen(rows: pl.DataFrame, dimension: Changes, time: pl.DataType) -> pl.DataFrame:
    """Give what facts see, and when: `_key`, `_from`, `_to` (null: ever after), `_seen`."""
    begin, end = (pl.col(name).cast(time).to_physical() for name in ("valid_from", "valid_to"))
    values = [n for n in rows.columns if n not in ("valid_from", "valid_to")]
    told = rows.select(
        pl.col(dimension.keys[0]).alias("_key"),
        _from=begin,
        _to=end,
        _seen=pl.struct(*values, match=pl.lit("as_of")),
    )
    first = rows.filter(pl.col("version") == 1).select(
        pl.col(dimension.keys[0]).alias("_key"),
        _from=pl.lit(_EVER),
        _to=begin,
        _seen=pl.struct(*values, match=pl.lit("first_version")),
    )
    return pl.concat([told, first])


def _changed(was: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Give the parts of time in which two sides differ: `_key`, `_from`, `_to` (null: ever after)."""
    both = pl.concat([was, now])
    edges = pl.concat([both.select("_key", "_from"), both.select("_key", _from="_to").drop_nulls("_from")])
    parts = edges.unique().sort("_key", "_from")
    parts = parts.with_columns(_to=pl.col("_from").shift(-1).over("_key"))
    for name, side in (("_was", was), ("_now", now)):
        held = side.sort("_from").rename({_SEEN: name, "_to": "_until"})
        parts = parts.sort("_from").join_asof(held, on="_from", by="_key", check_sortedness=False)
        inside = (pl.col("_from") < pl.col("_until")).fill_null(value=True)
        parts = parts.with_columns(pl.when(inside).then(name).alias(name)).drop("_until")
    return parts.filter(pl.col("_was").ne_missing(pl.col("_now"))).select("_key", "_from", "_to")


def versions(lake: Lake, streams: Sequence[Stream]) -> dict[str, int]:
    """Give the version that each table which gold may read has now."""
    found = {}
    for stream in streams:
        name = tables.dimension(stream).name if isinstance(stream, Changes) else tables.silver(stream).name
        handle = lake.open(name)
        if handle is not None:
            found[name] = int(handle.version())
    return found
