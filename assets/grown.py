"""What changed in silver, stored by bucket, since a version of it: changes that came, keys that lost some.

Told by the commits after that version, and read from the files that they added and removed, also where these
were joined with others since. A file that is written again without some rows brings back the others: these
did not change. It tells that it does not know where a commit, or a file, is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
from deltalake import DeltaTable

from resources.data_files import DataFiles
from resources.transactions import moved

UNASKED = ("_topic", "_tile", "_ingested_at")  # of silver's columns: no fold needs them


@dataclass(frozen=True)
class Difference:
    """What changed in a bucket: the changes that came, and the keys of such as went."""

    came: pl.DataFrame
    lost: pl.DataFrame


@dataclass(frozen=True)
class Grown:
    """The difference of two versions of silver, bucket by bucket."""

    silver: DataFiles
    files: pl.DataFrame  # `path`, `value` (the bucket), `came` (else it went), `rows`

    @cached_property
    def buckets(self) -> set[int]:
        """The buckets that changed."""
        return set(self.files["value"])

    def rows(self, bucket: int) -> int:
        """Count the rows of the files that came or went."""
        return int(self.files.filter(value=bucket)["rows"].sum())

    def any(self, condition: pl.Expr) -> bool:
        """Tell whether a condition holds for any row of the files that came or went."""
        found = self.silver.read(self.files["path"].to_list()).filter(condition)
        return bool(found.select(pl.len()).collect().item())

    def difference(self, bucket: int, keys: Sequence[str]) -> Difference:
        """Read what changed in a bucket.

        Raises:
            FileNotFoundError: a file was deleted meanwhile.
        """
        mine = self.files.filter(value=bucket)
        came, went = (
            self.silver.read(mine.filter(came=side)["path"].to_list())
            .select(name for name in self.silver.schema if name not in UNASKED)
            .collect()
            for side in (True, False)
        )
        if not went.height:
            return Difference(came, came.select(keys).clear())
        before, after = went.hash_rows(), came.hash_rows()  # coordinates among the columns: no two are equal
        return Difference(
            came.filter(~after.is_in(before.implode())),
            went.filter(~before.is_in(after.implode())).select(keys).unique(),
        )


def grown(handle: DeltaTable, silver: DataFiles, since: int) -> Grown | None:
    """Tell what changed since a version; None where it cannot be told."""
    actions = moved(handle, since)
    if actions is None:
        return None
    came, went = ((pl.col("action") == action).any() for action in ("add", "remove"))
    both = actions.group_by("path", pl.col("value").cast(pl.Int32)).agg(came=came, went=went)
    files = both.filter(pl.col("came") != pl.col("went")).drop("went")
    counted = files.join(silver.listed().select("path", "rows"), on="path", how="left")
    unknown = counted.filter(pl.col("rows").is_null())["path"]  # they left the table, or tell nothing
    try:
        counts = {path: silver.read([path]).select(pl.len()).collect().item() for path in unknown}
    except FileNotFoundError:
        return None
    rows = pl.coalesce("rows", pl.col("path").replace_strict(counts, default=None, return_dtype=pl.Int64))
    return Grown(silver, counted.with_columns(rows))
