"""How many bytes the rows of data files take in memory, as whoever wrote the files noted in them.

A file's size says nothing of that: values that are alike shrink a thousand times. A file of another writer,
which notes nothing, is taken for one that shrank as values mostly do.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import polars as pl

from resources.new_files import IN_MEMORY

_AT_ONCE = 8
_INFLATED = 6  # rows are mostly about so many times their bytes in a file


def heaviest(root: str, files: pl.DataFrame, options: Mapping[str, Any] | None) -> float:
    """Give the bytes of a row in the heaviest of some files of a table; 0 where there are no rows.

    Args:
        root: where the table lies.
        files: `path` and `size_bytes` as the log has them, `num_records`.
        options: of the store, for polars; None for a folder.

    Raises:
        OSError, ComputeError: the store cannot be read.
    """
    given = dict(options) if options else None

    def each(path: str, size: int, rows: int) -> float:
        place = f"{root}/{unquote(path)}"
        noted = pl.read_parquet_metadata(place, storage_options=given, credential_provider=None)
        return int(noted.get(IN_MEMORY, size * _INFLATED)) / rows

    known = files.select("path", "size_bytes", "num_records").filter(pl.col("num_records") > 0)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return max(pool.map(each, *known.to_dict(as_series=False).values()), default=0.0)
