"""JSON values to typed columns: strict, and aligned with the records.

Decides which column takes which member. Nullability, keys and rules are decided by the callers.
"""

from collections.abc import Sequence

import polars as pl

from sluice.columns import Column
from sluice.contract import Json
from sluice.json_rows import Read, read_rows


def read_columns(values: pl.Series, columns: Sequence[Column], options: Json) -> Read:
    """Read a series of JSON objects (Binary, null: nothing to read) into the columns of a contract.

    Raises:
        ColumnTypeError: a column has a type that no JSON value can become.
    """
    return read_rows(values.to_list(), columns, options)
