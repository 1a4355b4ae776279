"""From silver to a dimension: the fold over all changes of each key touched, in one commit.

Consumes silver as it grows: the version of silver that a dimension has seen is a transaction in its own
commits, and what changed since is told by the files that came and went. The buckets of those files are
folded anew, whole, so the order of changes cannot matter. Fences a bucket: of two runs that meet, one
reads again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable

from resources.lake import Lake
from sluice import tables
from sluice.contract import Changes
from sluice.dedupe import placed
from sluice.errors import LakeError, StaleWriterError
from sluice.scd2 import fold
from sluice.tables import EVERY_BUCKET


@dataclass(frozen=True)
class Merged:
    """What a run did to a dimension: rows after it, buckets folded, silver's version seen."""

    version: int
    silver_version: int
    buckets: int
    rows: int


def seen_id(stream: Changes) -> str:
    """Name the transaction whose version is one more than silver's version that the dimension has seen."""
    return f"silver/{stream.name}/{stream.code_version}"


def merge(lake: Lake, stream: Changes, *, say: Callable[[str], None] = print) -> Merged:
    """Bring a dimension up to silver; it exists afterwards, empty or not.

    Raises:
        LakeError, RaceLostError: the lake failed; the dimension is as it was.
    """

    def step() -> Merged:
        handle = lake.ensure(tables.dimension(stream))
        silver = lake.ensure(tables.silver(stream))
        upto = int(silver.version())
        buckets = _touched(lake, stream, handle, silver)
        if handle.transaction_version(seen_id(stream)) != upto + 1:
            names = ", ".join(str(b) for b in sorted(buckets))
            try:
                lake.commit(
                    handle,
                    _fold(lake, stream, silver, sorted(buckets)),
                    mode="overwrite" if buckets else "append",
                    predicate=f"_bucket IN ({names})" if buckets else None,
                    progress={seen_id(stream): upto + 1},
                    fences=[f"bucket/{b}" for b in buckets],
                    metadata={"sluice.silver_version": str(upto)},
                )
            except StaleWriterError:  # another run has folded this version, or a newer one
                say(f"dimensions/{stream.name}: another run was faster")
        rows = lake.scan(handle).select(pl.len()).collect().item()
        return Merged(int(handle.version()), upto, len(buckets), rows)

    return lake.retrying(f"dimensions/{stream.name}", step)


def _touched(lake: Lake, stream: Changes, handle: DeltaTable, silver: DeltaTable) -> set[int]:
    """Give the buckets whose files came or went since the dimension last saw silver."""
    seen = handle.transaction_version(seen_id(stream))
    now = files(silver)
    if seen is not None and seen - 1 == silver.version():
        return set()
    before = _files_before(lake, stream, None if seen is None else int(seen) - 1)
    if before is None:  # first run, other rules, or a version that is gone: fold everything
        was = set(lake.scan(handle).select("_bucket").unique().collect()["_bucket"])
        return {b for b in set(now.values()) | was if b != EVERY_BUCKET}
    changed = {bucket for _, bucket in now.items() ^ before.items()}
    if changed and (EVERY_BUCKET in changed or _reach_across(lake, stream, silver)):
        changed |= set(now.values())
    return changed - {EVERY_BUCKET}


def _reach_across(lake: Lake, stream: Changes, silver: DeltaTable) -> bool:
    """Tell whether changes may concern keys of other buckets: complete images, renamed keys."""
    renamed = pl.col("_previous_key").is_not_null().any()
    return stream.snapshot is not None or bool(lake.scan(silver).select(renamed).collect().item())


def _files_before(lake: Lake, stream: Changes, version: int | None) -> dict[str, int] | None:
    if version is None:
        return None
    try:
        handle = lake.open(tables.silver(stream).name, version)
    except LakeError:
        return None
    return None if handle is None else files(handle)


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
