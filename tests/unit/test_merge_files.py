"""Merging: which files are written again, what follows from open rows, and batches bad on purpose."""

from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from assets import folding, rewrite
from assets.folding import PIECE
from assets.merge import engine, files
from resources.lake import Lake
from sluice import Changes, tables
from sluice.history.scd2 import fold
from tests.merging import customers, deliver, merged, silver_rows

STREAM = customers()


@pytest.fixture
def small_files(monkeypatch) -> None:
    """Write files of three rows, and leave those alone that are not touched."""
    monkeypatch.setattr(rewrite, "FILE_ROWS", 3)
    monkeypatch.setattr(rewrite, "_SMALL", 1)


def update(n: int, key: int, city: str | None, op: str = "u") -> dict:
    return {"id": key, "city": city, "note": f"note {n}", "n": n, "_op": op}


def dimension(lake: Lake, stream: Changes = STREAM) -> pl.DataFrame:
    by = [*stream.keys, "version"] if stream.history else list(stream.keys)
    return lake.read(tables.dimension(stream)).collect().sort(by)


def told(lake: Lake, stream: Changes, *rows: dict) -> None:
    deliver(lake, stream, silver_rows(stream, rows))
    merged(lake, stream)


def folded(lake: Lake, stream: Changes) -> pl.DataFrame:
    """Fold all of silver at once."""
    return fold(lake.read(tables.silver(stream)).collect(), stream)


def paths(lake: Lake, stream: Changes = STREAM) -> set[str]:
    return set(files(lake.open(tables.dimension(stream).name)))


def test_files_without_a_touched_key_stay(lake, small_files):
    """(kinesis 37)."""
    latest = customers(history=False, track=None)
    told(lake, latest, *(update(n, n, "a") for n in range(1, 100)))
    before = paths(lake, latest)
    told(lake, latest, update(300, 7, "b"))
    gone, came = before - paths(lake, latest), paths(lake, latest) - before
    assert (len(gone), len(came)) == (1, 1)
    assert dimension(lake, latest).filter(id=7)["city"].to_list() == ["b"]
    assert dimension(lake, latest).height == 99


def test_settled_history_is_kept_apart_and_not_written_again(lake, monkeypatch):
    """Closed versions have files of their own, which changes in order leave alone; late ones reach them."""
    monkeypatch.setattr(rewrite, "_SMALL", 1)
    for number in range(3):
        told(lake, STREAM, *(update(100 * number + key, key, f"city {number}") for key in range(1, 8)))
    handle = lake.open(tables.dimension(STREAM).name)
    known = pl.DataFrame(handle.get_add_actions(flatten=True))
    rows, open_rows = known["num_records"], known["null_count.valid_to"]
    assert ((open_rows == 0) | (open_rows == rows)).all()
    settled = set(known.filter(open_rows == 0)["path"])
    told(lake, STREAM, *(update(1000 + key, key, "city 9") for key in range(1, 8)))
    assert settled <= paths(lake)
    assert dimension(lake).height == 4 * 7
    told(lake, STREAM, update(150, 5, "late"))
    assert not settled <= paths(lake)
    assert dimension(lake).filter(id=5)["city"].to_list() == [
        "city 0",
        "city 1",
        "late",
        "city 2",
        "city 9",
    ]


def test_a_key_that_comes_again_goes_on_counting_versions(lake, small_files):
    told(lake, STREAM, update(1, 1, "a"), update(2, 1, "b"))
    told(lake, STREAM, update(3, 1, None, "d"))
    assert dimension(lake).filter("is_current").is_empty()
    told(lake, STREAM, update(5, 1, "a"))
    told(lake, STREAM, update(4, 1, "b"))  # between the delete and what came after
    assert dimension(lake)["version"].to_list() == [1, 2, 3, 4]
    assert dimension(lake).drop("_bucket").equals(folded(lake, STREAM))


class Measured(pa.DataFrameModel):
    id: float
    city: str = pa.Field(nullable=True)
    n: int


@pytest.mark.parametrize("spellings", [(float("nan"),) * 4, (0.0, -0.0, 0.0, -0.0)])
def test_a_float_is_one_key_however_it_is_spelled(lake, spellings):
    stream = customers(schema=Measured)
    for n, (key, city) in enumerate(zip(spellings, "abcd", strict=True), 1):
        deliver(lake, stream, silver_rows(stream, [{"id": key, "city": city, "n": n}]))
        merged(lake, stream)
    versions = dimension(lake, stream)
    assert versions.select("city", "version").rows() == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert versions["_bucket"].n_unique() == 1


def test_a_late_change_of_a_deleted_key_does_not_bring_it_back(lake):
    latest = customers(history=False, track=None)
    told(lake, latest, update(1, 1, "a"), update(9, 1, None, "d"))
    told(lake, latest, update(5, 1, "b"))
    assert dimension(lake, latest).is_empty()


def test_a_delete_that_comes_first_waits_for_what_it_deletes(lake):
    told(lake, STREAM, update(9, 1, None, "d"))
    told(lake, STREAM, update(20, 2, "x"))
    told(lake, STREAM, update(5, 1, "a"))
    assert dimension(lake).select("id", "city", "is_current").rows() == [(1, "a", False), (2, "x", True)]


def test_corrected_changes_fold_only_their_keys(lake, monkeypatch):
    """Silver is written again where a later record takes the place of another, not where it is told again."""
    told(lake, STREAM, *(update(n, n % 20, f"city {n}") for n in range(1, 100)))
    before = dimension(lake)
    again = [update(n, n % 20, f"city {n}") | {"_offset": 1000 + n} for n in (3, 50)]
    asked = []
    whole = folding.Folding.of_keys

    def heard(self, found, keys):
        asked.extend(keys["id"])
        return whole(self, found, keys)

    monkeypatch.setattr(folding.Folding, "of_keys", heard)
    told(lake, STREAM, *again)
    assert asked == []
    assert dimension(lake).equals(before)
    told(lake, STREAM, *(row | {"city": "corrected", "_offset": 2000} for row in again[:1]))
    assert asked == [3]
    others = [rows.filter(pl.col("id") != 3) for rows in (before, dimension(lake))]
    assert others[1].equals(others[0])
    assert "corrected" in dimension(lake)["city"].to_list()


def test_new_files_of_silver_that_are_gone_fold_their_bucket_anew(lake):
    """They were joined with others and deleted before the dimension came to see them."""
    told(lake, STREAM, *(update(n, n, "a") for n in range(1, 30)))
    handle = lake.ensure(tables.silver(STREAM))
    before = set(files(handle))
    deliver(lake, STREAM, silver_rows(STREAM, [update(100 + n, n, "b") for n in range(1, 30)]))
    new = set(files(lake.open(tables.silver(STREAM).name))) - before
    lake.open(tables.silver(STREAM).name).optimize.compact()
    for path in new:
        Path(lake.path(tables.silver(STREAM).name), path).unlink()
    merged(lake, STREAM)
    assert dimension(lake).filter("is_current")["city"].unique().to_list() == ["b"]


def test_a_hot_key_with_100_000_changes_in_one_batch(lake):
    count = 100_000
    told(lake, STREAM, update(1, 1, "first"), update(2, 2, "other"))
    number = pl.int_range(10, 10 + count, eager=True)
    frame = pl.DataFrame({"id": pl.repeat(1, count, eager=True), "n": number}).with_columns(
        city=pl.format("city {}", pl.col("n") % 3), note=pl.lit("hot")
    )
    deliver(lake, STREAM, silver_rows(STREAM, frame))
    merged(lake, STREAM)
    rows = dimension(lake)
    assert rows.filter(id=1).height == count + 1
    assert rows.filter("is_current").sort("id")["n"].to_list() == [9 + count, 2]


def test_a_million_deletes_of_unknown_keys_change_nothing(lake):
    latest = customers(history=False, track=None)
    told(lake, latest, *(update(n, n, "a") for n in range(1, 50)))
    before = dimension(lake, latest)
    count = 1_000_000
    frame = pl.DataFrame({"id": pl.int_range(10_000, 10_000 + count, eager=True)}).with_columns(
        n=pl.col("id") + 100, _op=pl.lit("d")
    )
    lake.commit(lake.ensure(tables.silver(latest)), silver_rows(latest, frame))
    assert merged(lake, latest).rows == 49
    assert dimension(lake, latest).equals(before)


def test_a_contract_that_loses_a_column_and_its_history(lake):
    """What the table has more stays, null."""

    class Fewer(pa.DataFrameModel):
        id: int
        city: str = pa.Field(nullable=True)
        n: int

    told(lake, STREAM, *(update(n, n % 3, f"city {n}") for n in range(1, 10)))
    latest = customers(schema=Fewer, history=False, track=None)
    assert merged(lake, latest).rows == 3
    rows = dimension(lake, latest)
    assert rows["city"].to_list() == ["city 9", "city 7", "city 8"]
    assert rows.select("note", "valid_from", "is_current").null_count().row(0) == (3, 3, 3)


def test_a_bucket_is_folded_anew_where_more_changed_than_memory_should_hold():
    assert engine(PIECE, marked=True) == "onward"
    assert engine(PIECE + 1, marked=True) == "anew"
    assert engine(1, marked=False) == "anew"
