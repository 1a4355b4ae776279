"""Which files of changes a batch meets: those whose positions the log says could be its own, and no other."""

from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from assets.meet import keys_of_silver, meet
from assets.whole_rows import Rows
from resources.key_index import KeyIndex, key_index
from resources.lake import Lake
from sluice import Changes, Daily, Json, dedupe, tables
from tests.changes import silver_rows


class Account(pa.DataFrameModel):
    """An account."""

    id: int
    seq: int


STREAM = Changes(
    name="accounts",
    topic="accounts",
    value=Json(),
    schema=Account,
    key="id",
    sequence="seq",
    partitions=Daily(start="2026-01-01"),
)
SAME = dedupe.identity(STREAM)
KEYS = range(40)


def rows(seqs: range) -> pl.DataFrame:
    """Make rows of silver: each of the keys at each place."""
    told = [
        {"id": key, "seq": seq, "_offset": seq * 100 + key, "_tile": "2026-01-01"}
        for seq in seqs
        for key in KEYS
    ]
    return dedupe.placed(silver_rows(STREAM, told), STREAM)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch) -> Lake:
    """Give a lake whose silver has three commits: places 0 to 9, 10 to 19, 20 to 29."""
    monkeypatch.setenv("SLUICE_KEY_INDEX_DIR", str(tmp_path / "keys"))
    key_index.cache_clear()
    made = Lake(str(tmp_path / "lake"))
    for first in (0, 10, 20):
        made.commit(made.ensure(tables.silver(STREAM)), rows(range(first, first + 10)))
    return made


def read_by(lake: Lake, monkeypatch, batch: pl.DataFrame) -> tuple[set[int], int]:
    """Meet a batch; give the places of the rows of silver that it met, and how many files were read."""
    read: list[str] = []
    real = KeyIndex._read

    def counted(self, lake, handle, paths):
        read.extend(paths)
        return real(self, lake, handle, paths)

    monkeypatch.setattr(KeyIndex, "_read", counted)
    whole = Rows(lambda _at: batch.clear(), batch.clear())
    met = meet(lake, STREAM, lake.ensure(tables.silver(STREAM)), SAME, batch, whole)
    return set(met.rows.filter(pl.col("_from") == "silver")["_offset"] // 100), len(read)


def test_changes_that_come_after_all_others_read_nothing(lake, monkeypatch):
    assert read_by(lake, monkeypatch, rows(range(30, 35))) == (set(), 0)


def test_changes_that_come_again_read_the_files_of_their_places_only(lake, monkeypatch):
    again = rows(range(12, 14)).with_columns(pl.col("_offset") + 50, _partition=pl.lit(1, pl.Int32))
    places, files = read_by(lake, monkeypatch, again)
    assert places == {12, 13}
    assert files == again["_bucket"].n_unique()


def test_files_joined_by_another_writer_answer_alike(lake, monkeypatch):
    lake.ensure(tables.silver(STREAM)).optimize.compact()
    late = rows(range(28, 32)).with_columns(pl.col("_offset") + 50, _partition=pl.lit(1, pl.Int32))
    assert read_by(lake, monkeypatch, late)[0] == {28, 29}
    assert read_by(lake, monkeypatch, rows(range(30, 32))) == (set(), 0)
    index = keys_of_silver(lake, STREAM, SAME)
    assert set(index._active(lake.ensure(tables.silver(STREAM)))["most"]) == {
        rows(range(29, 30))["_position"][0]
    }
