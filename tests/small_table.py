"""A table of numbers, as small as one that has partitions can be."""

import polars as pl

from resources.lake import Lake
from sluice.tables import Table

NUMBERS = Table("test/numbers", {"n": pl.Int32(), "part": pl.String()}, ("part",), "Numbers.")


def rows(*numbers: int, part: str = "a") -> pl.DataFrame:
    """Give numbers of a part as rows."""
    return pl.DataFrame({"n": numbers, "part": [part] * len(numbers)}, schema=NUMBERS.columns)


def held(lake: Lake) -> list[int]:
    """Give the numbers that the lake holds, sorted."""
    return lake.read(NUMBERS).collect()["n"].sort().to_list()
