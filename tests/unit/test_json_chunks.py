"""Values that lie in several pieces of memory: each row keeps its own verdict."""

import duckdb
import polars as pl

from sluice.json.fast import _vouched

PIECE = 25_000
NAMES = [f"t{i}" for i in range(6)]
TYPES = {f'$."{name}"': ("VARCHAR",) for name in NAMES} | {'$."items"': ("ARRAY",)}


def test_verdicts_stay_with_their_rows_over_many_pieces() -> None:
    """DuckDB gives the rows of several pieces back in any order: seen at six of 25,000."""
    more = ",".join(f'"{name}":"{"x" * 20}"' for name in NAMES)
    items = [",".join(['{"price":"1.25","qty":1}'] * (1 + i)) for i in range(3)]
    texts = [f'{{{more},"items":[{items[i % 3]}]}}' for i in range(6 * PIECE)]
    broken = set(range(7, len(texts), 333))
    texts = [text[:-9] if place in broken else text for place, text in enumerate(texts)]
    rows = pl.DataFrame({"text": texts}).with_row_index("row")
    pieces = [rows[first : first + PIECE].rechunk() for first in range(0, len(texts), PIECE)]
    whole = pl.concat(pieces, rechunk=False)
    assert whole["text"].n_chunks() == len(pieces)
    for _ in range(5):
        with duckdb.connect() as connection:
            sure = _vouched(connection, whole, TYPES)["row"].to_list()
        assert sure == [place for place in range(len(texts)) if place not in broken]
