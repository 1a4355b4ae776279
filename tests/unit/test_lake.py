"""The lake's commits: from the handle that was read, with progress that never goes back."""

import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from resources.lake import ATTEMPTS, LostRace
from resources.transactions import told_by
from sluice.errors import LakeError, RaceLostError, StaleWriterError
from tests.engine import without_pauses
from tests.small_table import NUMBERS, held, rows


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
