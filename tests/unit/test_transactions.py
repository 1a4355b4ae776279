"""All ids of a table at once equal those that delta-rs gives one by one, whatever became of the log."""

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.lake import Lake
from resources.transactions import committed, transactions
from sluice.errors import LakeError
from sluice.tables import Table

TABLE = Table("test/ids", {"n": pl.Int32(), "part": pl.String()}, ("part",), "Numbers.")
ROWS = pl.DataFrame({"n": [1], "part": ["a"]}, schema=TABLE.columns)
NAMES = [f"orders/abc/1/2026-01-01-{hour:02}:00/{p}" for hour in range(5) for p in range(3)]


def add(lake: Lake, handle: DeltaTable, ids: dict[str, int]) -> None:
    lake.commit(handle, ROWS, progress=ids)


def hold_equal(handle: DeltaTable, names=NAMES) -> None:
    told = transactions(handle)
    asked = {name: handle.transaction_version(name) for name in names}
    assert dict(told) == {name: version for name, version in asked.items() if version is not None}


def test_a_table_without_ids_has_none(lake):
    hold_equal(lake.ensure(TABLE))


@settings(max_examples=4)
@given(chance=st.randoms(use_true_random=False))
def test_a_handle_is_right_after_whatever_happens(chance):
    """Own commits, foreign ones, checkpoints, vacuum; handles that moved, old ones, new ones."""
    with TemporaryDirectory() as folder:
        _whatever_happens(Lake(folder), chance)


def _whatever_happens(lake, chance):
    mine, version = lake.ensure(TABLE), 0
    versions = {0: {}}
    truth: dict[str, int] = {}
    for number in range(40):
        match chance.randrange(8):
            case 0 | 1 | 2:
                mine.update_incremental()
                truth |= (ids := dict.fromkeys(chance.sample(NAMES, chance.randrange(1, 4)), number + 1))
                add(lake, mine, ids)
                version += 1
            case 3 | 4:
                truth |= (ids := dict.fromkeys(chance.sample(NAMES, chance.randrange(1, 4)), number + 1))
                add(lake, lake.ensure(TABLE), ids)
                version += 1
            case 5:
                lake.ensure(TABLE).create_checkpoint()
            case 6:
                mine.update_incremental()
            case 7:
                lake.ensure(TABLE).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
                version = lake.ensure(TABLE).version()
        versions[version] = dict(truth)
        hold_equal(mine)
        fresh = lake.ensure(TABLE)
        assert (fresh.version(), dict(transactions(fresh))) == (version, truth)
    old = chance.choice(sorted(versions))
    assert dict(transactions(lake.open(TABLE.name, old))) == versions[old]
    hold_equal(lake.open(TABLE.name, old))


def test_ids_outlive_a_log_that_was_cleaned_up(lake):
    handle = lake.ensure(TABLE)
    lake.commit(handle, ROWS, progress=dict.fromkeys(NAMES, 7))
    late = lake.open(TABLE.name)
    for number in range(3):
        add(lake, handle, {"other": number + 1})
    handle.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    handle.create_checkpoint()
    handle.cleanup_metadata()
    fresh = lake.open(TABLE.name)
    assert dict(transactions(fresh)) == dict.fromkeys(NAMES, 7) | {"other": 3}
    hold_equal(fresh, [*NAMES, "other"])
    with pytest.raises(LakeError, match=r"test/ids.*lacks commits"):  # nothing is never taken for none
        transactions(late)


def test_an_old_hint_put_back_over_a_log_that_was_cut_stops_nobody(lake):
    """A writer slept as it wrote its checkpoint, and finished after newer ones (and a clean-up) came."""
    handle = lake.ensure(TABLE)
    log = Path(lake.path(TABLE.name), "_delta_log")
    for number in range(3):
        add(lake, handle, {"id": number + 1})
    handle.create_checkpoint()
    hint, name = (log / "_last_checkpoint").read_text(), f"{handle.version():020}.checkpoint.parquet"
    old = (log / name).read_bytes()
    for number in range(3, 9):
        add(lake, handle, {"id": number + 1})
    handle.create_checkpoint()
    add(lake, handle, {"id": 10})
    for number in range(9):
        (log / f"{number:020}.json").unlink()
    (log / name).write_bytes(old)
    (log / "_last_checkpoint").write_text(hint)
    fresh = Lake(lake.uri).ensure(TABLE)
    assert (fresh.version(), dict(transactions(fresh))) == (10, {"id": 10})
    add(lake, fresh, {"id": 11})


def test_a_handle_that_goes_back_forgets_what_came_after(lake):
    handle = lake.ensure(TABLE)
    for number in range(1, 4):
        add(lake, handle, {"id": number})
    assert transactions(handle)["id"] == 3
    handle.load_as_version(1)
    assert dict(transactions(handle)) == {"id": 1}


def test_a_commit_that_landed_behind_a_rivals_is_read_not_guessed(lake):
    """Two appends that do not meet: the second lands on the first, and its handle knows both."""
    one, two = lake.ensure(TABLE), lake.ensure(TABLE)
    transactions(one), transactions(two)
    add(lake, one, {"one": 1})
    add(lake, two, {"two": 1})
    assert dict(transactions(two)) == {"one": 1, "two": 1}
    assert dict(transactions(one)) == {"one": 1}
    committed(one, 0, {"wrong": 1})  # of a version that it is not at any more
    assert dict(transactions(one)) == {"one": 1}


def test_what_was_asked_stays_as_it_was(lake):
    handle = lake.ensure(TABLE)
    before = transactions(handle)
    add(lake, handle, {"id": 1})
    assert (dict(before), dict(transactions(handle))) == ({}, {"id": 1})


def test_ten_thousand_ids_from_commits_and_from_a_checkpoint(lake):
    ids = {f"orders/abc/1/{number}": number for number in range(10_000)}
    write_deltalake(
        lake.ensure(TABLE),
        ROWS,
        mode="append",
        commit_properties=CommitProperties(
            custom_metadata={"note": '{"txn": {"appId": "x"}}'},
            app_transactions=[Transaction(name, version) for name, version in ids.items()],
        ),
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False),
    )
    assert dict(transactions(lake.open(TABLE.name))) == ids
    lake.open(TABLE.name).create_checkpoint()
    handle = lake.open(TABLE.name)
    assert dict(transactions(handle)) == ids
    assert all(handle.transaction_version(n) == ids[n] for n in list(ids)[::200])
