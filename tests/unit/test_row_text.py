"""The text of a row, of which checksums are made: no two rows have the same."""

from itertools import product

import duckdb
import polars as pl

from sluice.compare.canonical import row_text

TEXTS = [None, *("".join(chosen) for size in range(3) for chosen in product("~|-a", repeat=size))]


def test_no_two_rows_have_one_text():
    rows = pl.DataFrame(
        list(product(TEXTS, repeat=3)), schema=dict.fromkeys("abc", pl.String()), orient="row"
    )
    with duckdb.connect() as connection:
        texts = connection.sql(f"SELECT {row_text(['a', 'b', 'c'])} AS text FROM rows").pl()["text"]
    assert len(rows) == len(TEXTS) ** 3 == texts.n_unique()
    assert not texts.null_count()
