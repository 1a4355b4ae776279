"""Replay of quarantine: what passes today moves once, whatever dies; and contracts that change."""

import shutil
from collections import Counter
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from assets import equations
from assets.ingest import Limits
from assets.replay import Choice, replay
from resources.lake import Lake
from sluice import Json, tables
from sluice.errors import TableSchemaError
from tests.engine import (
    COORDINATES,
    HOURS,
    WIDE,
    Order,
    assert_same,
    at_commit,
    both,
    busy_log,
    decide,
    dying_everywhere,
    meeting_everywhere,
    orders,
    prove,
    send,
    state,
    value,
)

TILES = HOURS[:2]  # each test here dies or meets at every commit


class Positive(Order):
    amount: pl.Decimal(12, 2) = pa.Field(gt=1)


class Noted(Order):
    note: str = pa.Field(nullable=True)


class Narrow(Order):
    amount: pl.Int32


class Wide(Order):
    amount: pl.Decimal(20, 4) = pa.Field(ge=0)


class Few(pa.DataFrameModel):
    order_id: str
    amount: pl.Int32
    at: pl.Datetime("us", "UTC")


class Many(Few):
    amount: pl.Int64


class Exact(Few):
    amount: pl.Decimal(20, 2)


STRICT, LAX = orders(schema=Positive), orders()


def run(lake: Lake, choice: Choice | None = None, limits=WIDE):
    return replay(lake, LAX, choice or Choice(), run_id="replay", limits=limits, say=lambda _text: None)


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> Path:
    """Give a lake whose contract was too strict."""
    folder = tmp_path_factory.mktemp("refused")
    both(Lake(str(folder)), busy_log(), STRICT, TILES)
    return folder


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> dict[str, pl.DataFrame]:
    """Give the tables that the lax contract makes from scratch."""
    lake = Lake(str(tmp_path_factory.mktemp("wanted")))
    both(lake, busy_log(), LAX, TILES)
    return state(lake, LAX)


def still_open(lake: Lake) -> pl.DataFrame:
    return state(lake, LAX)["quarantine"].filter(~pl.col("resolved_at"))


@pytest.fixture
def moved_once(wanted):
    """Give a check: silver and losers as from scratch, quarantine open where it would be."""

    def check(lake: Lake) -> None:
        found = state(lake, LAX)
        for name in ("silver", "losers"):
            assert_same({name: wanted[name]}, found)
        named = [*COORDINATES, "stage", "value"]  # the reason is that of the contract that refused first
        assert still_open(lake).select(named).equals(wanted["quarantine"].select(named))
        prove(lake, LAX)

    return check


def copy(start: Path, folder: Path) -> Lake:
    shutil.copytree(start, folder / "lake")
    return Lake(str(folder / "lake"))


def test_what_passes_today_moves_and_the_rest_stays(refused, tmp_path, moved_once):
    """Rows move exactly once, marked, and a second replay does nothing (event-streaming 5, 6)."""
    lake = copy(refused, tmp_path)
    before = still_open(lake).height
    done = run(lake)
    assert done.read == before
    assert done.moved == before - still_open(lake).height > 0
    moved_once(lake)
    with at_commit(0, lambda: None) as seen:
        again = run(lake)
    assert (again.moved, again.read, seen["commits"]) == (0, done.kept, 0)
    moved_once(lake)


def test_a_replay_moves_no_more_at_once_than_a_batch_holds(refused, tmp_path, moved_once):
    lake = copy(refused, tmp_path)
    done = run(lake, limits=Limits(2, 2**40))
    read = Counter()
    for account in done.accounts:
        read[account.batch_id] += account.read
    assert max(read.values()) <= 2 < len(read)
    moved_once(lake)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_replay_that_dies_anywhere_is_finished_by_the_next(refused, tmp_path, moved_once, after):
    """(event-streaming 6, kinesis 16)."""
    assert dying_everywhere(refused, tmp_path, run, moved_once, after=after) >= 8


def test_two_replays_at_once_move_each_record_once(refused, tmp_path, moved_once):
    """(kafka-medallion 40)."""
    assert meeting_everywhere(refused, tmp_path, run, run, moved_once) >= 2


def test_a_replay_meets_a_rebuild_of_the_same_tiles(refused, tmp_path, moved_once):
    """The tile decided anew under today's contract takes the same records (kafka-medallion 40)."""

    def rebuild(lake: Lake) -> None:
        decide(lake, LAX, TILES)

    def check(lake: Lake) -> None:
        rebuild(lake)  # tiles that the replay had moved last
        moved_once(lake)

    assert meeting_everywhere(refused, tmp_path, run, rebuild, check) >= 1


@pytest.mark.parametrize(
    ("choice", "column", "values"),
    [
        (Choice(tiles=[TILES[1]]), "tile", [TILES[1]]),
        (Choice(stages=["rule"]), "stage", ["rule"]),
        (Choice(rules=["gt"]), "rule", ["gt"]),
        (Choice(stages=["decode"]), "stage", ["decode"]),
    ],
)
def test_only_what_is_chosen_is_replayed(refused, tmp_path, choice, column, values):
    lake = copy(refused, tmp_path)
    before = still_open(lake)
    chosen = before.filter(pl.col(column).is_in(values))
    assert 0 < chosen.height < before.height
    done = run(lake, choice)
    assert done.read == chosen.height
    left = still_open(lake)
    assert left.filter(~pl.col(column).is_in(values)).equals(before.filter(~pl.col(column).is_in(values)))
    prove(lake, STRICT)


def test_records_refused_and_replayed_count_for_the_share_no_more(refused, tmp_path):
    lake = copy(refused, tmp_path)
    limited = orders(max_quarantined=0.0)
    before = equations.over_quarantined(lake, limited)
    run(lake)
    assert equations.over_quarantined(lake, limited)["quarantined"].sum() < before["quarantined"].sum()


@pytest.mark.parametrize(("first", "then"), [(STRICT, LAX), (LAX, STRICT)], ids=["looser", "stricter"])
def test_other_rules_give_what_building_from_scratch_gives(tmp_path, first, then):
    """All tiles decided again under the new contract, in any order (kafka-medallion 5)."""
    kafka = busy_log()
    changed, fresh = Lake(str(tmp_path / "changed")), Lake(str(tmp_path / "fresh"))
    both(changed, kafka, first, TILES)
    for tile in reversed(TILES):
        done = decide(changed, then, [tile])
        assert done.notes == [f"decided anew as generation 2: {tile}"]
    both(fresh, kafka, then, TILES)
    assert_same(state(fresh, then), state(changed, then))
    prove(changed, then)
    assert decide(changed, then, TILES).accounts == []


def test_a_replay_and_then_the_old_rules_again(refused, tmp_path):
    """What a replay moved goes back into quarantine, open, under rules that refuse it."""
    lake = copy(refused, tmp_path)
    before = state(lake, STRICT)
    run(lake)
    decide(lake, LAX, TILES)
    decide(lake, STRICT, TILES)
    assert_same(before, state(lake, STRICT))
    prove(lake, STRICT)


def test_a_new_nullable_column_is_filled_from_bronze(tmp_path):
    """Adopting a member is to decide the tile again (kafka-medallion 5)."""
    lake, kafka = Lake(str(tmp_path)), busy_log()
    raw = value("noted", "1", 5).replace(b"}", b', "note": "hello"}')
    send(kafka, raw, 230)
    done = both(lake, kafka, LAX, HOURS[:4])
    assert done.unknown == {"note": 1}
    noted = orders(schema=Noted)
    decide(lake, noted, HOURS[:4])
    notes = {row["order_id"]: row["note"] for row in state(lake, noted)["silver"].iter_rows(named=True)}
    assert notes["noted"] == "hello"
    assert {text for name, text in notes.items() if name != "noted"} == {None}
    prove(lake, noted)


@pytest.mark.parametrize("wider", [Many, Exact], ids=["bigint", "decimal"])
def test_a_wider_type_keeps_every_value(tmp_path, wider):
    lake, kafka = Lake(str(tmp_path / "changed")), busy_log()
    kafka.create("t")
    for n in range(4):
        send(kafka, value(f"o{n}", str(n), 60 * n), 60 * n)
    both(lake, kafka, orders(schema=Few), TILES)
    wide = orders(schema=wider)
    decide(lake, wide, TILES)
    fresh = Lake(str(tmp_path / "fresh"))
    both(fresh, kafka, wide, TILES)
    assert_same(state(fresh, wide), state(lake, wide))
    prove(lake, wide)


def test_a_narrower_type_is_refused_by_name(tmp_path):
    lake = Lake(str(tmp_path))
    both(lake, busy_log(), LAX, TILES)
    before = state(lake, LAX)
    with pytest.raises(TableSchemaError, match=r"silver/orders.*'amount' is stored as Decimal"):
        decide(lake, orders(schema=Narrow), TILES)
    assert_same(before, state(lake, LAX))


def test_other_ways_to_read_a_value_are_another_contract(tmp_path):
    """Whatever decides a record is part of the contract's version."""
    versions = {s.code_version for s in (LAX, STRICT, orders(value=Json(epoch="ms")))}
    assert len(versions) == 3
    assert LAX.code_version == orders(owners=["team:x"], max_quarantined=0.5).code_version
    assert tables.silver(LAX).name == "silver/orders"
