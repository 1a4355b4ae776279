"""Maintenance: what a table says stays, whatever is joined, cut or deleted, and whoever writes meanwhile."""

import os
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import polars as pl
import pytest

import sluice.tables
from assets import aftermath, maintenance
from assets.maintain import RECONCILED
from assets.maintenance import Keeping, cut_log, join_small, maintain, tend
from resources import log_files
from resources.lake import Lake
from resources.transactions import transactions
from sluice.errors import LakeError
from sluice.tables import Table
from tests.engine import HOURS, assert_same, at_commit, both, busy_log, orders, prove, state

TABLE = Table("test/numbers", {"n": pl.Int32(), "part": pl.String()}, ("part",), "Numbers.")
LATER = datetime.now(UTC) + timedelta(days=30)
NOTHING = Keeping(hours=1, commits=3)


def rows(number: int, part: str = "a") -> pl.DataFrame:
    return pl.DataFrame({"n": [number], "part": [part]}, schema=TABLE.columns)


def filled(lake: Lake, commits: int = 30) -> None:
    for number in range(commits):
        told = {"sluice.n": str(number)}
        lake.commit(
            lake.ensure(TABLE), rows(number), progress={"id": number + 1}, fences=["f"], metadata=told
        )


def numbers(lake: Lake) -> list[int]:
    return lake.read(TABLE).collect()["n"].sort().to_list()


def files(lake: Lake) -> int:
    return len(lake.open(TABLE.name).file_uris())


def test_small_files_become_one_and_nothing_else_changes(lake):
    filled(lake)
    before, ids = numbers(lake), dict(transactions(lake.open(TABLE.name)))
    assert join_small(lake, TABLE.name, target=2**24) == (30, "")
    assert (numbers(lake), files(lake)) == (before, 1)
    assert dict(transactions(lake.open(TABLE.name))) == ids == {"id": 30, "f": 30}
    assert join_small(lake, TABLE.name, target=2**24) == (0, "")


def test_only_the_partitions_named_are_joined(lake):
    for number in range(10):
        lake.commit(lake.ensure(TABLE), pl.concat([rows(number), rows(number, "b")]))
    assert join_small(lake, TABLE.name, target=2**24, among={"b", "c"}) == (10, "")
    assert files(lake) == 11


def test_a_lost_race_is_left_to_the_next_time(lake, monkeypatch):
    filled(lake, 10)
    real = maintenance._join

    def beaten(handle, part, target):
        other = lake.ensure(TABLE)
        lake.commit(other, lake.scan(other).collect(), mode="overwrite", predicate="part = 'a'")
        for number in range(10):
            lake.commit(lake.ensure(TABLE), rows(number + 100))
        return real(handle, part, target)

    monkeypatch.setattr(maintenance, "_join", beaten)
    joined, left = join_small(lake, TABLE.name, target=2**24)
    assert (joined, "others write" in left) == (0, True)
    assert len(numbers(lake)) == 40


def test_the_log_is_cut_where_nobody_waits_for_it(lake):
    filled(lake, 60)
    assert cut_log(lake, TABLE.name, 40, Keeping(commits=1000)) == 0  # all of it is young
    assert cut_log(lake, TABLE.name, 40, NOTHING) == 24  # a checkpoint every 25 commits
    log = log_files.listed(lake.open(TABLE.name))
    assert log.filter(~pl.col("checkpoint"))["version"].to_list() == list(range(24, 61))
    assert (numbers(lake), transactions(lake.open(TABLE.name))["id"]) == (list(range(60)), 60)
    assert lake.open(TABLE.name, 24).version() == 24
    lake.commit(lake.ensure(TABLE), rows(60), progress={"id": 61})
    assert len(numbers(lake)) == 61


def test_a_version_an_hour_can_still_be_read_of_what_left_a_busy_log(lake):
    filled(lake, 80)
    assert cut_log(lake, TABLE.name, 10_000, Keeping(hours=5, commits=3)) == 74
    assert sorted(lake.read(TABLE, 24).collect()["n"]) == list(range(24))
    lake.open(TABLE.name).create_checkpoint()
    assert cut_log(lake, TABLE.name, 10_000, Keeping(hours=5, commits=3), LATER) == 6
    with pytest.raises(LakeError, match="test/numbers"):
        lake.open(TABLE.name, 24)
    assert len(numbers(lake)) == 80


def test_a_handle_from_before_the_cut_finds_its_way(lake):
    long = Lake(lake.uri)  # another process
    filled(lake, 3)
    long.read(TABLE).collect()
    for number in range(4, 60):
        lake.commit(lake.ensure(TABLE), rows(number), progress={"id": number})
    assert cut_log(lake, TABLE.name, 10_000, NOTHING) > 0
    long.commit(long.ensure(TABLE), rows(60), progress={"id": 60})
    assert transactions(lake.open(TABLE.name))["id"] == 60


def test_maintenance_of_a_whole_stream_changes_no_answer(lake, tmp_path):
    """Between runs and in the middle of one; equations and ledger hold all the time (kafka-medallion 40)."""
    stream, log = orders(), busy_log()
    alone = Lake(str(tmp_path / "alone"))
    for hour in HOURS[:4]:
        both(alone, log, stream, [hour])
        both(lake, log, stream, [hour])
        maintain(lake, [stream], NOTHING, say=lambda _text: None)
    prove(lake, stream)
    assert_same(state(lake, stream), state(alone, stream))
    with at_commit(2, lambda: maintain(lake, [stream], NOTHING, say=lambda _text: None)):
        both(lake, log, stream, HOURS[4:6])
    both(alone, log, stream, HOURS[4:6])
    assert_same(state(lake, stream), state(alone, stream))
    prove(lake, stream)


def test_no_table_of_the_system_is_left_out():
    rooms = [import_module(f"assets.{file.stem}") for file in Path(maintenance.__file__).parent.glob("*.py")]
    held = [vars(room).values() for room in (*rooms, sluice.tables)]
    known = {t.name for of in held for t in of if isinstance(t, Table) and t.name.startswith("system/")}
    assert known == {table.name for table in (*maintenance.SYSTEM, *RECONCILED)}


@pytest.mark.parametrize("table", maintenance.SYSTEM, ids=lambda table: table.name)
def test_a_long_run_keeps_the_tables_of_the_system_short(lake, table):
    """Others' partitions are theirs; nothing that is told changes."""
    names = [name for name, dtype in table.columns.items() if dtype == pl.String()]
    for number in range(40):
        row = pl.DataFrame([dict.fromkeys(names, "orders")], schema=table.columns)
        lake.commit(lake.ensure(table), row, progress={"id": number + 1})
    before = lake.read(table).collect()
    done = {tidied.table: tidied for tidied in tend(lake, orders(), NOTHING, {})}
    assert (done[table.name].joined, done[table.name].commits > 20) == (40, True)
    assert len(lake.open(table.name).file_uris()) == 1
    assert lake.read(table).collect().equals(before)
    assert transactions(lake.open(table.name))["id"] == 40


def test_accounts_that_were_not_folded_stay(lake):
    stream, log = orders(), busy_log()
    for hour in HOURS[:3]:
        both(lake, log, stream, [hour])
    for layer in ("bronze", "silver"):
        aftermath.finish(lake, stream, layer)
    both(lake, log, stream, HOURS[3:4])
    tend(lake, stream, Keeping(hours=1, commits=0), {"bronze": [], "silver": []})
    prove(lake, stream)


def test_orphans_of_dead_runs_are_deleted_and_young_files_are_not(lake):
    filled(lake, 10)
    folder = Path(lake.path(TABLE.name)) / "part=a"
    old, young = folder / "part-old.parquet", folder / "part-young.parquet"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (1, 1))
    assert maintenance._vacuum(lake, TABLE.name, Keeping(hours=1)) == 1
    assert (old.exists(), young.exists(), len(numbers(lake))) == (False, True, 10)
