"""How many bytes the rows of data files take once they are read, as the files' own footers tell.

A file's size says nothing of that: values that are alike shrink a thousand times. Footers are read side by
side, one a file. It refuses to guess: a file that is gone is an error, as for whoever reads its rows.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import PyFileSystem

_AT_ONCE = 8


def heaviest(handle: DeltaTable, paths: Sequence[str]) -> float:
    """Give the bytes of a row in the heaviest of some files, unpacked; 0 where there are no rows.

    Args:
        handle: the table.
        paths: of its files, as the log has them.

    Raises:
        OSError: the store cannot be read.
    """
    store = PyFileSystem(DeltaStorageHandler.from_table(handle._table))  # noqa: SLF001  # what the class asks for

    def each(path: str) -> float:
        footer = pq.read_metadata(unquote(path), filesystem=store)
        unpacked = sum(footer.row_group(n).total_byte_size for n in range(footer.num_row_groups))
        return unpacked / footer.num_rows if footer.num_rows else 0.0

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return max(pool.map(each, paths), default=0.0)
