"""Values that lie in several pieces of memory: each row keeps its own verdict."""

import polars as pl

from sluice.columns import Column
from sluice.contract import Json
from sluice.json_columns import read_columns

ITEMS = pl.List(pl.Struct({"price": pl.Decimal(10, 2), "qty": pl.Int32()}))
DTYPES = {"n": pl.Int64(), **{f"t{i}": pl.String() for i in range(6)}, "items": ITEMS}
COLUMNS = [Column(name, dtype, nullable=True, path=(name,)) for name, dtype in DTYPES.items()]
PIECE = 25_000


def test_verdicts_stay_with_their_rows_over_many_pieces() -> None:
    """DuckDB gives the rows of several pieces back in any order: seen at six of 25,000."""
    more = ",".join(f'"t{i}":"{"x" * 20}"' for i in range(6))
    items = [",".join(['{"price":"1.25","qty":1}'] * (1 + i % 3)) for i in range(3)]
    texts = [f'{{"n":{i},{more},"items":[{items[i % 3]}]}}' for i in range(6 * PIECE)]
    broken = list(range(7, len(texts), 333))
    for place in broken:
        texts[place] = texts[place][:-9]
    pieces = [
        pl.Series([text.encode() for text in texts[first : first + PIECE]])
        for first in range(0, len(texts), PIECE)
    ]
    values = pl.concat(pieces, rechunk=False)
    for _ in range(5):
        read = read_columns(values, COLUMNS, Json())
        assert read.failures["_row"].to_list() == broken
        good = read.frame.with_row_index("i").filter(~pl.col("i").is_in(broken))
        assert good.filter(pl.col("n") != pl.col("i")).is_empty()
