"""Kept handles: a snapshot never moves under its reader, whoever asks for the table meanwhile."""

import threading

import polars as pl
import pytest

from assets.maintenance import Keeping, maintain
from resources import lake as module
from resources.lake import Lake, LostRace
from resources.table_sides import delta_side
from resources.transactions import transactions
from sluice.tables import Table
from tests.engine import HOURS, assert_same, both, busy_log, meeting_everywhere, orders, prove, state

TABLE = Table("test/numbers", {"n": pl.Int32()}, (), "Numbers.")


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """List the tables that were opened anew."""
    names: list[str] = []
    real = module.Handle

    class Counted(real):
        def __init__(self, table_uri, *arguments, **named):
            names.append(table_uri)
            super().__init__(table_uri, *arguments, **named)

    monkeypatch.setattr(module, "Handle", Counted)
    return names


def rows(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"n": numbers}, schema=TABLE.columns)


def test_a_table_is_opened_once_and_then_moved_on(lake, opened):
    for number in range(5):
        lake.commit(lake.ensure(TABLE), rows(number), progress={"id": number + 1})
        Lake(lake.uri).commit(
            Lake(lake.uri).open(TABLE.name), rows(10 + number), progress={"other": number + 1}
        )
    opened.clear()
    handle = lake.ensure(TABLE)
    assert (opened, handle.version(), dict(transactions(handle))) == ([], 10, {"id": 5, "other": 5})
    assert lake.read(TABLE).collect().height == 10


def test_a_handle_in_use_stays_where_it_is(lake, opened):
    """Even where all that is left of it is a scan that nobody has collected yet."""
    lake.commit(lake.ensure(TABLE), rows(1))
    mine = lake.ensure(TABLE)
    scan = lake.scan(lake.ensure(TABLE))
    lake.commit(lake.ensure(TABLE), rows(2), fences=["all"])
    newest = lake.open(TABLE.name)
    assert (mine.version(), newest.version()) == (1, 2)
    assert scan.collect()["n"].to_list() == [1]
    with pytest.raises(LostRace):  # and whoever decided on it is told
        lake.commit(mine, rows(3), mode="overwrite", fences=["all"])
    del mine, newest, scan
    opened.clear()
    assert lake.read(TABLE).collect()["n"].sort().to_list() == [1, 2]
    assert opened == []


def test_a_log_that_was_cleaned_up_meanwhile_is_read_anew(lake):
    lake.commit(lake.ensure(TABLE), rows(1))
    other = Lake(lake.uri)
    for number in range(3):
        other.commit(other.ensure(TABLE), rows(number), progress={"id": number + 1})
    handle = other.ensure(TABLE)
    handle.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    handle.create_checkpoint()
    handle.cleanup_metadata()
    assert transactions(lake.ensure(TABLE))["id"] == 3
    assert lake.read(TABLE).collect().height == 4


def test_threads_share_a_lake(lake):
    errors = []

    def work(name: str) -> None:
        try:
            for number in range(10):
                lake.retrying(
                    TABLE.name,
                    lambda number=number: lake.commit(
                        lake.ensure(TABLE), rows(number), progress={name: number + 1}
                    ),
                )
        except BaseException as error:  # noqa: BLE001  # shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, lake.read(TABLE).collect().height) == ([], 30)


def test_rivals_at_every_commit_of_a_run_that_keeps_its_handles(tmp_path):
    """What a rival commits meanwhile is seen: the tables are those of a run alone (kafka-medallion 40)."""
    stream, log = orders(), busy_log()
    alone = Lake(str(tmp_path / "alone"))
    both(alone, log, stream, HOURS[:2])
    expected = state(alone, stream)
    (tmp_path / "start").mkdir()

    def check(lake: Lake) -> None:
        prove(lake, stream)
        assert_same(state(lake, stream), expected)

    def work(lake: Lake) -> None:
        for hour in HOURS[:2]:
            both(lake, log, stream, [hour])

    met = meeting_everywhere(
        tmp_path / "start", tmp_path, work, lambda lake: both(lake, log, stream, HOURS[1:2]), check
    )
    assert met > 8


def test_a_lake_in_a_folder_of_any_name(tmp_path):
    """Runs, proofs, upkeep and the reconciliation's reader: delta-rs escapes such a name, others do not."""
    folder = tmp_path / "José's own läke"
    folder.mkdir()
    lake, plain, stream, log = Lake(str(folder)), Lake(str(tmp_path / "plain")), orders(), busy_log()
    for hour in HOURS[:2]:
        both(lake, log, stream, [hour])
        both(plain, log, stream, [hour])
    maintain(lake, [stream], Keeping(hours=0), say=lambda _: None)
    prove(lake, stream)
    assert_same(state(lake, stream), state(plain, stream))
    silver = lake.open("silver/orders")
    side = delta_side(lake, silver, {"id": "order_id"}, tmp_path)
    assert pl.read_parquet(side.files, hive_partitioning=False).height == lake.scan(silver).collect().height
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "plain"}
