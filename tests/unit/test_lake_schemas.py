"""Tables whose schemas grow: columns that are added or widen, and what is refused."""

import sys
from dataclasses import replace

import polars as pl
import pytest

from resources.lake import Lake
from resources.schema_changes import widens
from resources.transactions import transactions
from sluice.errors import TableSchemaError
from tests.small_table import NUMBERS, held, rows


def test_a_new_column_is_null_in_old_rows(lake):
    lake.commit(lake.ensure(NUMBERS), rows(1), progress={"id": 3})
    wider = replace(NUMBERS, columns={**NUMBERS.columns, "note": pl.String()})
    handle = lake.ensure(wider)
    lake.commit(handle, rows(2).with_columns(note=pl.lit("new")), progress={"id": 4})
    assert lake.read(wider).collect().sort("n")["note"].to_list() == [None, "new"]
    assert lake.ensure(NUMBERS).version() == lake.ensure(wider).version()


def test_two_runs_may_add_the_same_column_at_once(lake, monkeypatch):
    """The slower of two finds it done (kafka-medallion 40)."""
    lake.ensure(NUMBERS)
    wider = replace(NUMBERS, columns={**NUMBERS.columns, "note": pl.String()})
    adopt, met = sys.modules["resources.lake"].adopt_columns, []

    def after_another(of, handle, table):
        if not met:
            met.append(1)
            Lake(lake.uri).ensure(table)
        adopt(of, handle, table)

    monkeypatch.setattr("resources.lake.adopt_columns", after_another)
    handle = lake.ensure(wider)
    assert "note" in [field.name for field in handle.schema().fields]


@pytest.mark.parametrize(
    ("wanted", "value"), [(pl.Int64(), 2**40), (pl.Decimal(12, 2), "12.25"), (pl.Decimal(38, 6), "0.000001")]
)
def test_a_column_widens_and_keeps_its_values(lake, wanted, value):
    lake.commit(lake.ensure(NUMBERS), rows(1, 2**31 - 1), progress={"id": 3})
    wider = replace(NUMBERS, columns={**NUMBERS.columns, "n": wanted})
    handle = lake.ensure(wider)
    more = pl.DataFrame({"n": [value], "part": ["b"]}).with_columns(pl.col("n").cast(wanted))
    lake.commit(handle, more, progress={"id": 4})
    stored = lake.read(wider).collect()
    assert stored.schema["n"] == wanted
    assert stored.filter(pl.col("part") == "a")["n"].cast(pl.Int64).sort().to_list() == [1, 2**31 - 1]
    assert stored.filter(pl.col("part") == "b")["n"].to_list() == more["n"].to_list()


@pytest.mark.parametrize("wanted", [pl.Int16(), pl.String(), pl.Decimal(10, 2), pl.Date()])
def test_a_narrower_type_is_refused_by_name_and_changes_nothing(lake, wanted):
    lake.commit(lake.ensure(NUMBERS), rows(1))
    other = replace(NUMBERS, columns={**NUMBERS.columns, "n": wanted})
    with pytest.raises(TableSchemaError, match=r"test/numbers.*'n' is stored as Int32.*wider type"):
        lake.ensure(other)
    assert (lake.ensure(NUMBERS).version(), held(lake)) == (1, [1])


def test_what_widens():
    inner = pl.Struct({"a": pl.Int32})
    assert widens(pl.Float32(), pl.Float64())
    assert widens(inner, pl.Struct({"a": pl.Int64, "b": pl.String}))
    assert widens(pl.List(pl.Int32), pl.List(pl.Int64))
    assert not widens(pl.Struct({"a": pl.Int32, "b": pl.String}), inner)
    assert not widens(pl.Decimal(12, 2), pl.Decimal(12, 4))
    assert not widens(pl.Int64(), pl.Float64())


@pytest.mark.parametrize("by", [("part",), ()])
def test_a_column_widens_a_piece_of_a_file_at_a_time(lake, monkeypatch, by):
    """In one commit, which keeps progress and how the table is set up."""
    table = replace(NUMBERS, partition_by=by)
    monkeypatch.setattr("resources.data_files._PIECE", 10)
    for part in "ab":
        new = pl.DataFrame({"n": range(45), "part": [part] * 45}, schema=NUMBERS.columns)
        lake.commit(lake.ensure(table), new, progress={f"id {part}": 3})
    before = lake.open(NUMBERS.name)
    heights, collect = [], pl.LazyFrame.collect

    def counted(self, **arguments):
        found = collect(self, **arguments)
        heights.append(found.height)
        return found

    monkeypatch.setattr(pl.LazyFrame, "collect", counted)
    handle = lake.ensure(replace(table, columns={**NUMBERS.columns, "n": pl.Decimal(12, 2)}))
    assert max(heights) <= 10
    monkeypatch.undo()
    assert int(handle.version()) == int(before.version()) + 1
    assert transactions(handle) == {"id a": 3, "id b": 3}
    assert handle.metadata().configuration == before.metadata().configuration
    assert handle.metadata().partition_columns == list(by)
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    assert (files["num_records"].sum(), files["max.n"].max()) == (90, 44)
    stored = lake.read(NUMBERS).collect().sort("part", "n")
    assert stored.schema["n"] == pl.Decimal(12, 2)
    assert stored["n"].cast(pl.Int64).to_list() == [*range(45), *range(45)]
