"""The text of a row, of which checksums are made: no two rows have the same."""

from hashlib import blake2b
from itertools import pairwise, product

import duckdb
import polars as pl

from resources.lake_texts import LakeTexts, Range
from resources.table_sides import Side
from sluice.columns import Column
from sluice.compare.canonical import Texts, row_text

TEXTS = [None, *("".join(chosen) for size in range(3) for chosen in product("~|-a", repeat=size))]


def test_no_two_rows_have_one_text():
    rows = pl.DataFrame(
        list(product(TEXTS, repeat=3)), schema=dict.fromkeys("abc", pl.String()), orient="row"
    )
    with duckdb.connect() as connection:
        texts = connection.sql(f"SELECT {row_text(['a', 'b', 'c'])} AS text FROM rows").pl()["text"]
    assert len(rows) == len(TEXTS) ** 3 == texts.n_unique()
    assert not texts.null_count()


def test_ranges_of_bytes_are_cut_where_postgresql_would(tmp_path):
    keys = [blake2b(str(n).encode(), digest_size=16).digest() for n in range(30_000)] + [
        b"",
        b"\\x00",
        b"'\x00",
    ]
    pl.DataFrame({"id": keys}).write_parquet(tmp_path / "keys.parquet")
    texts = Texts(("id",), (Column("id", pl.Binary(), nullable=False, path=("id",)),))
    lake = LakeTexts(Side([str(tmp_path / "keys.parquet")], {"id": "id"}), texts, tmp_path)
    bounds = lake.bounds(10_000)
    assert all(bound.startswith("\\x") for bound in bounds), "as bytea is written"
    edges = [bytes.fromhex(bound[2:]) for bound in bounds]
    assert lake.values(bounds) == edges
    wanted = [sum(low <= key < high for key in keys) for low, high in pairwise([b"", *edges, b"\xff" * 17])]
    assert lake.sums(edges).sort("range")["count"].to_list() == wanted
    piece = Range(bounds[0], bounds[1])
    assert lake.count(piece) == wanted[1]
    cuts = lake.cuts(piece)
    assert all(edges[0] <= bytes.fromhex(cut[2:]) < edges[1] for cut in cuts)
    assert len(cuts) == 15
