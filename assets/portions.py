"""How many records of bronze are decided at once: what bounds the memory of a run, whatever its records are.

Decides by the bytes that the records take in memory, not in their files, where values that are alike shrink a
thousand times. It refuses less than one record: a single one may be larger than all bounds.
"""

from collections.abc import Collection
from dataclasses import replace

import polars as pl
from deltalake import DeltaTable

from assets.ingest import Limits
from resources.file_bytes import heaviest
from resources.lake import Lake
from sluice.accounts import Slice

AT_ONCE = 125_000  # records


def portion(lake: Lake, bronze: DeltaTable, tiles: Collection[str], limits: Limits) -> int:
    """Tell how many records of some tiles one batch may hold, by the heaviest of the files that have them.

    Raises:
        what reading the lake raises.
    """
    most = min(limits.rows, AT_ONCE)
    files = pl.DataFrame(bronze.get_add_actions(flatten=True))
    if not files.height:
        return most
    mine = files.filter(pl.col("partition.tile").is_in(list(tiles)))
    each = heaviest(lake.path(bronze.metadata().name), mine, lake.reading)
    return max(1, min(most, int(limits.bytes / each))) if each else most


def cut(whole: Slice, rows: int) -> list[Slice]:
    """Cut a range of records into such of at most so many offsets."""
    starts = range(whole.first_offset, whole.next_offset, rows)
    ends = [*starts[1:], whole.next_offset]
    return [
        replace(whole, first_offset=start, next_offset=end) for start, end in zip(starts, ends, strict=True)
    ]
