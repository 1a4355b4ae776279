"""Tiles decided anew slice by slice: the same as at once, wherever it dies, whoever meets it."""

import shutil
from datetime import timedelta

import pandera.polars as pa
import polars as pl
import pytest

from assets import aftermath, equations
from assets.ingest import Limits
from resources.lake import Lake
from sluice import accounts, tables
from sluice.tables import LEDGER
from tests.engine import (
    HOURS,
    START,
    Killed,
    Order,
    assert_same,
    at_commit,
    busy_log,
    decide,
    dying_everywhere,
    kill,
    load,
    meeting_everywhere,
    orders,
    prove,
    state,
)

STREAM = orders()
TILES = HOURS[:4]
SOME = TILES[1:2]
FEW = Limits(6, 2**40)


class Some(Order):
    amount: pl.Decimal(12, 2) = pa.Field(ge=0, lt=1)


STRICTER = orders(schema=Some)


@pytest.fixture(scope="module")
def is_right(whole, tmp_path_factory):
    """Give a check: one tile is as if it were decided anew in one commit, and everything adds up."""
    lake = Lake(str(shutil.copytree(whole, tmp_path_factory.mktemp("once") / "lake")))
    decide(lake, STRICTER, SOME)
    wanted = state(lake, STRICTER)

    def check(lake: Lake) -> None:
        prove(lake, STRICTER)
        assert_same(wanted, state(lake, STRICTER))
        told = counting(lake)
        assert set(told["code_version"]) == {STRICTER.code_version}
        assert told["read"].sum() == lake.read(tables.bronze(STRICTER)).filter(tile=SOME[0]).collect().height
        assert told["generation"].n_unique() == 1

    return check


def counting(lake: Lake) -> pl.DataFrame:
    """Give the accounts of the tile that count."""
    return accounts.current(aftermath.ledger(lake, STRICTER, "silver")).filter(tile=SOME[0])


def give_up(lake: Lake) -> None:
    decide(lake, STRICTER, SOME, FEW)


def test_no_commit_decides_more_than_a_batch_holds(busy_lake, is_right):
    done = decide(busy_lake, STRICTER, SOME, FEW)
    sizes = {a.batch_id: 0 for a in done.accounts}
    for account in done.accounts:
        sizes[account.batch_id] += account.next_offset - account.first_offset
    assert max(sizes.values()) <= FEW.rows
    assert len(sizes) >= 3
    assert done.notes == [f"decided anew as generation 2: {SOME[0]}"]
    is_right(busy_lake)
    assert decide(busy_lake, STRICTER, SOME, FEW).accounts == []


def test_every_equation_holds_between_slices_that_end_where_accounts_end(busy_lake):
    decide(busy_lake, STRICTER, SOME, FEW)
    looked = []

    def look() -> None:
        found = equations.silver_unequal(busy_lake, STREAM)
        assert found.is_empty(), found
        looked.append(counting(busy_lake)["generation"].n_unique())

    commit = Lake.commit
    with pytest.MonkeyPatch.context() as patch:

        def looked_at(self, handle, rows, **arguments):
            version = commit(self, handle, rows, **arguments)
            if handle.metadata().name == "silver/orders":  # side tables are written before it
                look()
            return version

        patch.setattr(Lake, "commit", looked_at)
        decide(busy_lake, STREAM, SOME, FEW)
    assert set(looked) == {1, 2}  # some of them between two slices


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_at_any_commit_is_mended_by_the_next_run(whole, tmp_path, is_right, after):
    """Kinesis 16: the next run goes on with the slices that are left."""
    assert dying_everywhere(whole, tmp_path, give_up, is_right, after=after) >= 6


def test_the_run_after_a_death_decides_only_the_rest(busy_lake, is_right):
    with pytest.raises(Killed), at_commit(5, kill):
        give_up(busy_lake)
    done = counting(busy_lake).filter(generation=2)
    assert done.height
    rest = decide(busy_lake, STRICTER, SOME, FEW).accounts
    assert rest
    assert not {(a.partition, a.first_offset) for a in rest} & set(
        done.select("partition", "first_offset").iter_rows()
    )
    is_right(busy_lake)


def test_two_runs_that_decide_the_same_anew_meet(whole, tmp_path, is_right):
    """Whoever comes second goes on where the other is (kafka-medallion 40)."""
    assert meeting_everywhere(whole, tmp_path, give_up, give_up, is_right) >= 3


def test_a_contract_that_changes_half_way_begins_again(busy_lake, is_right):
    with pytest.raises(Killed), at_commit(5, kill):
        decide(busy_lake, orders(schema=Some, dedupe_within=timedelta(minutes=30)), SOME, FEW)
    give_up(busy_lake)
    is_right(busy_lake)


def test_records_that_come_half_way_are_decided_once(tmp_path):
    """An open tile grows while it is decided anew."""
    lake, kafka = Lake(str(tmp_path)), busy_log()
    load(lake, kafka, STREAM, SOME, now=START + timedelta(minutes=95))
    decide(lake, STREAM, SOME, FEW)
    with pytest.raises(Killed), at_commit(5, kill):
        give_up(lake)
    load(lake, kafka, STRICTER, SOME)
    give_up(lake)
    prove(lake, STRICTER)
    told = counting(lake)
    assert told["read"].sum() == lake.read(tables.bronze(STRICTER)).collect().height
    assert set(told["code_version"]) == {STRICTER.code_version}


RANGES = [
    (1, "batch", 0, 10),
    (1, "batch", 10, 20),
    (1, "replay", 3, 9),
    (1, "batch", 20, 30),
    (2, "batch", 0, 20),
    (2, "replay", 5, 25),
    (3, "batch", 0, 10),
]


def test_of_a_range_the_newest_account_counts():
    rows = [
        {"stream": "s", "layer": "silver", "epoch": 1, "tile": "t", "partition": 0}
        | dict(zip(("generation", "kind", "first_offset", "next_offset"), told, strict=True))
        for told in RANGES
    ]
    others = [rows[0] | {"partition": 1}, rows[0] | {"tile": "u"}, rows[0] | {"layer": "bronze"}]
    ledger = pl.DataFrame([*rows, *others], schema_overrides={n: LEDGER[n] for n in rows[0]})
    kept = accounts.current(ledger)
    mine = kept.filter(layer="silver", tile="t", partition=0)
    told = mine.select("generation", "kind", "first_offset", "next_offset").rows()
    assert sorted(told) == [(1, "batch", 20, 30), (3, "batch", 0, 10)]
    assert kept.height - mine.height == len(others)
