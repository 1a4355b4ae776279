"""The lake's commits: from the handle that was read, progress that never goes back; schemas that grow."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from resources.lake import ATTEMPTS, Lake, LostRace
from resources.schema_changes import widens
from resources.transactions import told_by, transactions
from sluice.errors import LakeError, RaceLostError, StaleWriterError, TableSchemaError
from sluice.tables import Table
from tests.engine import without_pauses

NUMBERS = Table("test/numbers", {"n": pl.Int32(), "part": pl.String()}, ("part",), "Numbers.")


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path))


def rows(*numbers: int, part: str = "a") -> pl.DataFrame:
    return pl.DataFrame({"n": numbers, "part": [part] * len(numbers)}, schema=NUMBERS.columns)


def held(lake: Lake) -> list[int]:
    return lake.read(NUMBERS).collect()["n"].sort().to_list()


def test_a_table_is_made_once_and_empty(lake):
    assert lake.open(NUMBERS.name) is None
    assert lake.read(NUMBERS).collect().schema == pl.Schema(NUMBERS.columns)
    assert lake.ensure(NUMBERS).version() == lake.ensure(NUMBERS).version() == 0
    assert held(lake) == []


def test_makers_of_one_table_all_get_it(lake):
    """Eight threads make the same table at once, and each adds a row (kafka-medallion 40)."""
    errors = []

    def make() -> None:
        try:
            lake.retrying(NUMBERS.name, lambda: lake.commit(lake.ensure(NUMBERS), rows(1)))
        except BaseException as error:  # noqa: BLE001  # shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, held(lake)) == ([], [1] * 8)


def test_progress_travels_with_its_rows_and_never_goes_back(lake):
    handle = lake.ensure(NUMBERS)
    lake.commit(handle, rows(1), progress={"id": 5})
    for version in (5, 4):
        with pytest.raises(StaleWriterError, match=r"id stands at 5.*start a new run"):
            lake.commit(lake.ensure(NUMBERS), rows(2), progress={"id": version})
    assert held(lake) == [1]
    lake.commit(lake.ensure(NUMBERS), rows(2), progress={"id": 6})
    assert (held(lake), lake.open(NUMBERS.name).transaction_version("id")) == ([1, 2], 6)


def test_a_zombie_with_an_old_handle_cannot_commit_late(lake):
    """Two read; one commits; the other's commit of the same id is a lost race (kafka-medallion 40, 41)."""
    zombie, living = lake.ensure(NUMBERS), lake.ensure(NUMBERS)
    lake.commit(living, rows(1), progress={"id": 1})
    with pytest.raises(LostRace):
        lake.commit(zombie, rows(1), progress={"id": 1})
    assert held(lake) == [1]


def test_fences_let_only_one_of_two_that_looked_at_the_same_commit(lake):
    """Appends that do not meet in the table conflict by what they looked at (kafka-medallion 40)."""
    one, two, three = (lake.ensure(NUMBERS) for _ in range(3))
    lake.commit(one, rows(1), fences=["date/1"])
    lake.commit(three, rows(3, part="c"), fences=["date/3"])
    with pytest.raises(LostRace):
        lake.commit(two, rows(2, part="b"), fences=["date/1"])
    assert held(lake) == [1, 3]


def test_an_overwrite_replaces_its_predicate_only(lake):
    lake.commit(lake.ensure(NUMBERS), pl.concat([rows(1, 2), rows(3, part="b")]))
    lake.commit(lake.ensure(NUMBERS), rows(9), mode="overwrite", predicate="part IN ('a')")
    assert held(lake) == [3, 9]


def test_racing_increments_lose_nothing(lake):
    """Four threads add one to a sum, ten times each: serializable (kafka-medallion 40, 42, 44)."""
    lake.commit(lake.ensure(NUMBERS), rows(0))

    def step() -> None:
        handle = lake.ensure(NUMBERS)
        before = lake.scan(handle).collect()["n"].item()
        lake.commit(handle, rows(before + 1), mode="overwrite", predicate="part = 'a'", fences=["sum"])

    errors = []

    def work() -> None:
        for _ in range(5):
            try:
                lake.retrying(NUMBERS.name, step)
            except BaseException as error:  # noqa: BLE001  # shown by the assertion
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    with without_pauses():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lost = sum(isinstance(error, RaceLostError) for error in errors)
    assert len(errors) == lost
    assert held(lake) == [15 - lost]


def test_losing_always_is_a_clear_error_after_a_bounded_number(lake):
    """(kafka-medallion 44)."""
    tried = []

    def step() -> None:
        tried.append(1)
        raise LostRace("someone was faster")

    with without_pauses(), pytest.raises(RaceLostError, match=f"test/numbers.*{ATTEMPTS} times.*faster"):
        lake.retrying(NUMBERS.name, step)
    assert len(tried) == ATTEMPTS


def test_other_errors_are_not_tried_again(lake):
    tried = []

    def step() -> None:
        tried.append(1)
        raise LakeError("t", "u", "full")

    with pytest.raises(LakeError, match="full"):
        lake.retrying(NUMBERS.name, step)
    assert len(tried) == 1


def test_a_version_stays_what_it_was(lake):
    """A reader of a version sees it whole, whatever is committed after (kafka-medallion 42)."""
    version = lake.commit(lake.ensure(NUMBERS), rows(1, 2))
    before = lake.read(NUMBERS, version)
    lake.commit(lake.ensure(NUMBERS), rows(7), mode="overwrite", predicate="part = 'a'")
    assert before.collect()["n"].sort().to_list() == [1, 2]
    assert lake.read(NUMBERS, version).collect()["n"].sort().to_list() == [1, 2]


def test_a_version_that_never_was_is_named(lake):
    lake.ensure(NUMBERS)
    with pytest.raises(LakeError, match="test/numbers"):
        lake.open(NUMBERS.name, 77)


def test_commits_and_their_metadata_outlive_many_checkpoints(lake):
    """The accounts are in the commits: nothing but us may clean them up."""
    for number in range(105):
        lake.commit(lake.ensure(NUMBERS), rows(number), metadata={"sluice.n": str(number)})
    told = [commit.get("sluice.n") for commit in lake.open(NUMBERS.name).history()]
    assert told == [str(n) for n in reversed(range(105))] + [None]
    assert list(Path(lake.path(NUMBERS.name)).glob("_delta_log/*.checkpoint.parquet"))


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


READER = """
import sys
import polars as pl
from resources.lake import Lake
from sluice.tables import Table
table = Table("test/numbers", {"n": pl.Int32(), "part": pl.String()}, ("part",), "")
assert Lake(sys.argv[1]).read(table).collect().height == 3
"""


def test_readers_in_fresh_processes_end_well(lake):
    """Python can abort at its exit after other ways to read Delta (code 134); this one never does."""
    lake.commit(lake.ensure(NUMBERS), rows(1, 2, 3))
    root = Path(__file__).resolve().parents[2]
    codes = [
        subprocess.run([sys.executable, "-c", READER, lake.uri], cwd=root, check=False).returncode
        for _ in range(10)
    ]
    assert codes == [0] * 10


def test_the_lake_never_cleans_its_log_by_itself(lake):
    """What delta-rs does by default, switched off in the table and in each commit."""
    assert lake.ensure(NUMBERS).metadata().configuration["delta.enableExpiredLogCleanup"] == "false"
    assert isinstance(lake.open(NUMBERS.name), DeltaTable)


def test_the_commits_that_a_handle_knows_keep_their_numbers(lake):
    """delta-rs tells newer ones too, and numbers them as if the handle's were the newest."""
    for number in range(1, 4):
        lake.commit(lake.ensure(NUMBERS), rows(number), metadata={"sluice.n": str(number)})
    handle = lake.open(NUMBERS.name)
    for number in range(4, 8):
        lake.commit(lake.ensure(NUMBERS), rows(number), metadata={"sluice.n": str(number)})
    for after in range(-1, 4):
        told = [
            (commit["version"], commit.get("sluice.n")) for commit in told_by(handle, after, ["sluice.n"])
        ]
        assert told == [(n, str(n) if n else None) for n in range(after + 1, 4)]


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
