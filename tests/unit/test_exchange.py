"""Rows of a table exchanged: which files are written anew, and who else may commit meanwhile."""

from dataclasses import replace
from datetime import date

import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import Field
from hypothesis import given, settings
from hypothesis import strategies as st

from resources import data_files
from resources.exchange import exchange
from resources.lake import Lake, LostRace
from resources.new_files import NewFile, group_rows
from resources.schema_changes import adopt_columns
from resources.transactions import transactions
from sluice.tables import Table

AT = ["partition", "offset"]
NAMES = ["2026-01-01-03:00", "a b%c/é", "a b", "'"]
DATES = [date(2026, 1, day) for day in (1, 2, 3)]
COLUMNS = {"partition": pl.Int32(), "offset": pl.Int64(), "said": pl.String()}
BY_NAME = Table("by/name", {"by": pl.String(), **COLUMNS}, ("by",), "Rows by a text.")
BY_DATE = Table("by/date", {"by": pl.Date(), **COLUMNS}, ("by",), "Rows by a date.")


def rows(by: object, offsets: range | list[int], partition: int = 0) -> pl.DataFrame:
    told = [(by, partition, offset, f"{by} {offset}") for offset in offsets]
    dtype = pl.Date if isinstance(by, date) else pl.String
    return pl.DataFrame(told, schema={"by": dtype, **COLUMNS}, orient="row")


def held(lake: Lake, table: Table) -> pl.DataFrame:
    return lake.read(table).collect().sort("by", *AT).select(list(table.columns))


def paths(lake: Lake, table: Table) -> set[str]:
    return set(pl.DataFrame(lake.ensure(table).get_add_actions(flatten=True))["path"])


@pytest.mark.parametrize(("table", "values"), [(BY_NAME, NAMES), (BY_DATE, DATES)])
def test_only_files_that_hold_rows_that_go_are_written_anew(lake, table, values):
    for first in (0, 100):
        for value in values:
            exchange(lake, lake.ensure(table), rows(value, range(first, first + 10)), rows(value, []), at=AT)
    before, there = paths(lake, table), held(lake, table)
    gone = rows(values[0], [103, 104])
    exchange(lake, lake.ensure(table), rows(values[1], [500]), gone, at=AT)
    after = paths(lake, table)
    assert len(before - after) == 1, "one file holds both"
    assert len(after - before) == 2, "the file's rest, and what came"
    wanted = pl.concat([there.join(gone, on=["by", *AT], how="anti"), rows(values[1], [500])])
    assert held(lake, table).equals(wanted.sort("by", *AT))


def test_a_file_all_of_whose_rows_go_is_left_out(lake):
    exchange(lake, lake.ensure(BY_NAME), rows("a", range(3)), rows("a", []), at=AT)
    exchange(lake, lake.ensure(BY_NAME), rows("a", []), rows("a", range(3)), at=AT)
    assert not paths(lake, BY_NAME)


def test_a_file_of_which_nothing_is_told_is_looked_at(lake, monkeypatch):
    monkeypatch.setattr("resources.new_files._statistics", lambda _part: '{"numRecords":5}')
    exchange(lake, lake.ensure(BY_NAME), rows("a", range(5)), rows("a", []), at=AT)
    exchange(lake, lake.ensure(BY_NAME), rows("a", range(10, 15)), rows("a", []), at=AT)
    exchange(lake, lake.ensure(BY_NAME), rows("a", []), rows("a", [3]), at=AT)
    assert held(lake, BY_NAME)["offset"].to_list() == [0, 1, 2, 4, *range(10, 15)]


def test_what_is_written_is_heard_of(lake):
    heard: list[tuple[object, str, list[int]]] = []

    def wrote(new: NewFile) -> None:
        heard.append((new.values["by"], new.action.path, new.rows["offset"].to_list()))

    exchange(lake, lake.ensure(BY_DATE), rows(DATES[0], range(3)), rows(DATES[0], []), at=AT, wrote=wrote)
    exchange(lake, lake.ensure(BY_DATE), rows(DATES[1], [9]), rows(DATES[0], [1]), at=AT, wrote=wrote)
    assert [(value, offsets) for value, _, offsets in heard] == [
        (DATES[0], [0, 1, 2]),
        (DATES[1], [9]),
        (DATES[0], [0, 2]),
    ]
    assert {path for _, path, _ in heard[1:]} == paths(lake, BY_DATE)


def joined(lake: Lake) -> None:
    lake.open(BY_NAME.name).optimize.compact()


def shortened(lake: Lake) -> None:
    exchange(lake, lake.open(BY_NAME.name), rows("a", []), rows("a", [2]), at=AT)


def fenced(lake: Lake) -> None:
    lake.commit(lake.open(BY_NAME.name), rows("b", [7]), fences=["a"])


def widened(lake: Lake) -> None:
    lake.open(BY_NAME.name).alter.add_columns([Field("more", "string")])


@pytest.mark.parametrize("rival", [joined, shortened, fenced, widened])
def test_who_changed_meanwhile_what_it_stands_on_wins_the_race(lake, rival):
    """Compaction sets no fence: the file that both take out of the table keeps them apart."""
    for first in (0, 10):
        exchange(lake, lake.ensure(BY_NAME), rows("a", range(first, first + 5)), rows("a", []), at=AT)
    old = lake.open(BY_NAME.name)
    rival(lake)
    there = held(lake, BY_NAME)
    with pytest.raises(LostRace, match="stands on"):
        exchange(lake, old, rows("a", [99]), rows("a", [3]), at=AT, fences=["a"])
    assert held(lake, BY_NAME).equals(there)
    exchange(lake, lake.open(BY_NAME.name), rows("a", [99]), rows("a", [3]), at=AT, fences=["a"])
    wanted = pl.concat([there.filter(pl.col("offset") != 3), rows("a", [99])])
    assert held(lake, BY_NAME).equals(wanted.sort("by", *AT))


def test_who_writes_elsewhere_is_let_pass(lake):
    for value in ("a", "b"):
        exchange(lake, lake.ensure(BY_NAME), rows(value, range(5)), rows(value, []), at=AT)
    old = lake.open(BY_NAME.name)
    for offset in range(100, 103):
        lake.commit(lake.open(BY_NAME.name), rows("a", [offset]), fences=["b"])
    exchange(lake, lake.open(BY_NAME.name), rows("b", []), rows("b", [1]), at=AT)
    exchange(lake, old, rows("a", [99]), rows("a", [3]), at=AT, fences=["a"])
    assert transactions(old) == transactions(lake.open(BY_NAME.name))
    told = held(lake, BY_NAME)
    assert told.filter(by="a")["offset"].to_list() == [0, 1, 2, 4, 99, 100, 101, 102]
    assert told.filter(by="b")["offset"].to_list() == [0, 2, 3, 4]


def test_a_type_that_widens_beside_others_keeps_each_row_once(lake):
    """Delta-rs lets an overwrite of all pass, whatever it meets."""
    wide = replace(BY_NAME, columns={**BY_NAME.columns, "partition": pl.Int64()})
    for first in (0, 10):
        exchange(lake, lake.ensure(BY_NAME), rows("a", range(first, first + 5)), rows("a", []), at=AT)
    old = lake.open(BY_NAME.name)
    joined(lake)
    with pytest.raises(LostRace):
        lake.patiently(wide.name, lambda: adopt_columns(lake, old, wide))
    lake.ensure(wide)
    assert held(lake, wide)["offset"].to_list() == [*range(5), *range(10, 15)]


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sets(st.tuples(st.sampled_from(DATES), st.integers(0, 2), st.integers(0, 40)), max_size=25),
            st.integers(0, 2**32),
        ),
        min_size=1,
        max_size=5,
    ),
    piece=st.integers(1, 9),
)
def test_the_table_holds_what_came_and_did_not_go(tmp_path_factory, steps, piece):
    lake, there = Lake(str(tmp_path_factory.mktemp("lake"))), rows(DATES[0], [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_files, "_PIECE", piece)
        patch.setattr(data_files, "_NEAR", piece)
        for coming, seed in steps:
            go = there.sample(fraction=0.3, shuffle=True, seed=seed)
            stay = there.join(go, on=AT, how="anti")
            told = [(day, p, o, f"{seed}") for day, p, o in sorted(coming)]
            come = pl.DataFrame(told, schema=stay.schema, orient="row").unique(AT, keep="first")
            come = come.join(stay, on=AT, how="anti")
            exchange(lake, lake.ensure(BY_DATE), come, go, at=AT)
            there = pl.concat([stay, come])
            assert held(lake, BY_DATE).equals(there.sort("by", *AT))


def test_rows_that_are_large_are_read_a_few_at_a_time(lake):
    """Whoever wants some rows of a file decodes a row group, not all megabytes of it."""
    said = pl.Series([chr(65 + n) * (4 << 20) for n in range(40)])
    large = rows("a", range(40)).with_columns(said=said)
    exchange(lake, lake.ensure(BY_NAME), large, rows("a", []), at=AT)
    (path,) = paths(lake, BY_NAME)
    assert pq.ParquetFile(f"{lake.path(BY_NAME.name)}/{path}").num_row_groups == 6
    small = rows("b", range(1000))
    assert group_rows(small) > 100_000
