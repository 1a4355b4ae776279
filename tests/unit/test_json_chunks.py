"""Values that lie in several pieces of memory: each row keeps its own verdict."""

import polars as pl

from sluice.columns import Column
from sluice.contract import Json
from sluice.json_columns import read_columns

ITEMS = pl.List(pl.Struct({"price": pl.Decimal(10, 2)}))
COLUMNS = [
    Column("n", pl.Int64(), nullable=True, path=("n",)),
    Column("text", pl.String(), nullable=True, path=("text",)),
    Column("items", ITEMS, nullable=True, path=("items",)),
]
PIECE = 25_000


def test_verdicts_stay_with_their_rows_over_many_pieces() -> None:
    """DuckDB gives the rows of several pieces back in any order: seen at six of 25,000."""
    texts = [f'{{"n":{i},"text":"t{i}","items":[{{"price":"{i % 90}.25"}}]}}' for i in range(6 * PIECE)]
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
