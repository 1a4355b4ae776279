"""From silver to a dimension: the fold over all changes of each key touched, in one commit.

Consumes silver as it grows: a commit tells which version of silver it has seen and by which rules, and what
changed since is told by the commits after it. The buckets that they changed are folded anew, whole, so
the order of changes cannot matter; under other rules all are. Fenced: of two runs that meet, one reads again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
from deltalake import DeltaTable

from resources.lake import Lake
from resources.transactions import changed, told_by
from sluice import tables
from sluice.contract import Changes
from sluice.dedupe import placed
from sluice.scd2 import fold
from sluice.tables import EVERY_BUCKET

_SILVER = "sluice.silver_version"
_RULES = "sluice.rules"
_RECENT = 50  # commits searched for the last fold; where none is found all is folded


@dataclass(frozen=True)
class Merged:
    """What a run did to a dimension: rows after it, buckets folded, silver's version seen."""

    version: int
    silver_version: int
    buckets: int
    rows: int


def merge(lake: Lake, stream: Changes, *, say: Callable[[str], None] = print) -> Merged:
    """Bring a dimension up to silver; it exists afterwards, empty or not.

    Raises:
        LakeError, RaceLostError: the lake failed; the dimension is as it was.
    """

    def step() -> Merged:
        handle = lake.ensure(tables.dimension(stream))
        silver = lake.ensure(tables.silver(stream))
        upto = int(silver.version())
        seen = seen_of_silver(handle, stream)
        buckets = _touched(lake, stream, handle, silver, seen)
        if seen != upto:
            names = ", ".join(str(b) for b in sorted(buckets))
            lake.commit(
                handle,
                _fold(lake, stream, silver, sorted(buckets)),
                mode="overwrite" if buckets else "append",
                predicate=f"_bucket IN ({names})" if buckets else None,
                fences=["fold"],
                metadata={_SILVER: str(upto), _RULES: stream.code_version},
            )
            say(f"dimensions/{stream.name}: {len(buckets)} buckets folded")
        rows = lake.scan(handle).select(pl.len()).collect().item()
        return Merged(int(handle.version()), upto, len(buckets), rows)

    return lake.retrying(f"dimensions/{stream.name}", step)


def seen_of_silver(handle: DeltaTable, stream: Changes) -> int | None:
    """Give the version of silver that was folded last; None where other rules folded it, or nobody did."""
    recent = told_by(handle, int(handle.version()) - _RECENT, [_SILVER, _RULES])
    last: dict[str, Any] = next((c for c in reversed(recent) if _RULES in c), {})
    return int(last[_SILVER]) if last.get(_RULES) == stream.code_version else None


def _touched(
    lake: Lake, stream: Changes, handle: DeltaTable, silver: DeltaTable, seen: int | None
) -> set[int]:
    """Give the buckets whose rows changed since the dimension last saw silver."""
    if seen == silver.version():
        return set()
    every = set(files(silver).values())
    new = None if seen is None else changed(silver, seen, "_bucket")
    if new is None:  # first run, other rules, or a commit that is gone: fold everything
        was = set(lake.scan(handle).select("_bucket").unique().collect()["_bucket"])
        return {b for b in every | was if b != EVERY_BUCKET}
    buckets = {int(bucket) for bucket in new if bucket is not None}
    if buckets and (EVERY_BUCKET in buckets or _reach_across(lake, stream, silver)):
        buckets |= every
    return buckets - {EVERY_BUCKET}


def _reach_across(lake: Lake, stream: Changes, silver: DeltaTable) -> bool:
    """Tell whether changes may concern keys of other buckets: complete images, renamed keys."""
    renamed = pl.col("_previous_key").is_not_null().any()
    return stream.snapshot is not None or bool(lake.scan(silver).select(renamed).collect().item())


def files(handle: DeltaTable) -> dict[str, int]:
    """List the files of a table stored by bucket, with their buckets."""
    actions = pl.DataFrame(handle.get_add_actions(flatten=True))
    if not actions.height:
        return {}
    return dict(zip(actions["path"], actions["partition._bucket"].cast(pl.Int32), strict=True))


def _fold(lake: Lake, stream: Changes, silver: DeltaTable, buckets: list[int]) -> pl.DataFrame:
    """Fold all changes of some buckets, with the truncates, which concern all."""
    table = tables.dimension(stream)
    changes = lake.scan(silver).filter(pl.col("_bucket").is_in([*buckets, EVERY_BUCKET])).collect()
    rows = placed(fold(changes, stream), stream)
    return rows.select(pl.col(name).cast(dtype) for name, dtype in table.columns.items())
