"""Silver under crashes at every commit, under rivals at every commit, and decided anew."""

import shutil
import threading
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from assets import aftermath
from assets.aftermath import PROMOTED
from assets.ingest import Limits
from assets.refine import refine
from resources.lake import Lake
from sluice.errors import BronzeMissingError, RaceLostError
from tests.engine import (
    HOURS,
    Killed,
    Order,
    assert_same,
    at_commit,
    both,
    busy_log,
    decide,
    dying_everywhere,
    kill,
    load,
    meeting_everywhere,
    orders,
    prove,
    state,
    without_pauses,
)

STREAM = orders()
TILES = HOURS[:4]
FEW = Limits(16, 2**40)


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    """Give a lake with all of bronze, and silver of two tiles whose winners the others displace."""
    folder = tmp_path_factory.mktemp("half")
    lake = Lake(str(folder))
    load(lake, busy_log(), STREAM, TILES)
    decide(lake, STREAM, [TILES[1], TILES[2]])
    return folder


@pytest.fixture
def is_right(whole):
    """Give a check: the lake equals the undisturbed one, and proves itself."""
    wanted = state(Lake(str(whole)), STREAM)

    def check(lake: Lake) -> None:
        prove(lake, STREAM)
        assert_same(wanted, state(lake, STREAM))

    return check


def rest(lake: Lake) -> None:
    decide(lake, STREAM, [TILES[0], TILES[3]], FEW)


def anew(lake: Lake) -> None:
    decide(lake, STREAM, TILES[:2], replace=True)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_at_any_commit_is_mended_by_the_next_run(half, tmp_path, is_right, after):
    """Winners displaced, side tables first: as if undisturbed (event-streaming 6, kinesis 15, 16)."""
    assert dying_everywhere(half, tmp_path, rest, is_right, after=after) >= 4


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_in_a_rebuild_loses_nothing(whole, tmp_path, is_right, after):
    """A tile decided anew as the next generation, killed at each commit, and decided again (kinesis 16)."""
    assert dying_everywhere(whole, tmp_path, anew, is_right, after=after) >= 3


def test_a_death_and_then_the_other_tiles_first(half, tmp_path, is_right):
    """What a dead run left in the side tables misleads no tile that is decided before it runs again."""

    def other_way(lake: Lake) -> None:
        decide(lake, STREAM, [TILES[3]])
        decide(lake, STREAM, [TILES[0]])

    def forward(lake: Lake) -> None:
        decide(lake, STREAM, [TILES[0]])
        decide(lake, STREAM, [TILES[3]])

    for first, second in ((forward, other_way), (other_way, forward)):
        number = 0

        def work(lake: Lake, first=first, second=second) -> None:
            nonlocal number
            number += 1
            (first if number % 2 else second)(lake)  # each death is followed by the other order

        number = 0
        assert dying_everywhere(half, tmp_path, work, is_right, after=False) >= 4


def test_rivals_on_the_same_tiles_meet_at_every_commit(half, tmp_path, is_right):
    """The rival does all the work between reading and committing (kafka-medallion 40, 41, 43, 44)."""
    assert meeting_everywhere(half, tmp_path, rest, rest, is_right) >= 2


def test_rivals_on_tiles_of_the_same_keys_meet_at_every_commit(half, tmp_path, is_right):
    """Other tiles, same facts: one reads again what the other displaced (kafka-medallion 40, 44)."""

    def mine(lake: Lake) -> None:
        decide(lake, STREAM, [TILES[0]])

    def other(lake: Lake) -> None:
        decide(lake, STREAM, [TILES[3]])

    assert meeting_everywhere(half, tmp_path, mine, other, is_right) >= 2


def test_a_rebuild_meets_a_run_of_other_tiles(half, tmp_path, is_right):
    """A tile decided anew while its neighbours are decided (kafka-medallion 40)."""

    def again(lake: Lake) -> None:
        decide(lake, STREAM, TILES[1:2], replace=True)

    assert meeting_everywhere(half, tmp_path, again, rest, is_right) >= 1


def test_losing_every_race_ends_with_an_error_that_names_the_table(half, tmp_path):
    """Races are bounded; all that was committed stands (kafka-medallion 44)."""
    lake = Lake(str(half))
    commit, depth = Lake.commit, [0]

    def always_second(self, handle, rows, **arguments):
        if depth[0] == 0 and (handle.metadata().name or "").startswith("silver/"):
            depth[0] = 1
            fresh = lake.open("silver/orders")
            names = [f"tile/{TILES[0]}", f"tile/{TILES[3]}"]
            commit(self, fresh, [], fences=names)
            depth[0] = 0
        return commit(self, handle, rows, **arguments)

    Lake.commit = always_second
    try:
        with without_pauses(), pytest.raises(RaceLostError, match=r"silver/orders.*fewer runs"):
            decide(lake, STREAM, [TILES[0]])
    finally:
        Lake.commit = commit
    both(lake, busy_log(), STREAM, TILES)
    prove(lake, STREAM)


def test_silver_of_a_tile_that_bronze_never_read_is_refused_by_name(whole):
    with pytest.raises(BronzeMissingError, match=r"2026-01-01-07:00.*materialize bronze/orders"):
        refine(Lake(str(whole)), STREAM, [HOURS[7]], run_id="r", limits=FEW)


def test_an_unchanged_tile_commits_nothing(whole):
    """Incremental: what is decided is not decided again (kafka-medallion 14), nor proven again."""
    lake = Lake(str(whole))
    decide(lake, STREAM, TILES)  # the first look proves the tiles, and keeps that
    with at_commit(0, lambda: None) as seen:
        done = decide(lake, STREAM, TILES)
    assert (seen["commits"], done.accounts) == (0, [])


class Some(Order):
    amount: pl.Decimal(12, 2) = pa.Field(ge=0, lt=1)


STRICTER = orders(schema=Some)


def give_up(lake: Lake) -> None:
    decide(lake, STRICTER, TILES[1:3])


@pytest.fixture(scope="module")
def given_up(whole, tmp_path_factory) -> dict[str, pl.DataFrame]:
    """Give the tables after two tiles gave up winners, whose losers elsewhere were promoted."""
    folder = tmp_path_factory.mktemp("given") / "lake"
    shutil.copytree(whole, folder)
    lake = Lake(str(folder))
    give_up(lake)
    commits = lake.open("silver/orders").history()
    assert any(PROMOTED in commit for commit in commits)
    prove(lake, STRICTER)
    return state(lake, STRICTER)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_while_losers_are_promoted(whole, tmp_path, given_up, after):
    """A promotion announced by a dead run is finished by the next (kinesis 16)."""

    def check(lake: Lake) -> None:
        prove(lake, STRICTER)
        assert_same(given_up, state(lake, STRICTER))

    assert dying_everywhere(whole, tmp_path, give_up, check, after=after) >= 4


def test_two_runs_that_promote_the_same_losers_meet(whole, tmp_path, given_up):
    """Whoever comes second finds it done (kafka-medallion 40)."""

    def check(lake: Lake) -> None:
        prove(lake, STRICTER)
        assert_same(given_up, state(lake, STRICTER))

    assert meeting_everywhere(whole, tmp_path, give_up, give_up, check) >= 4


def test_two_runs_that_finish_what_a_dead_one_announced_meet(whole, tmp_path):
    """Both withdraw the promoted losers; the second finds it done (kafka-medallion 40)."""
    for number in range(1, 20):
        shutil.copytree(whole, tmp_path / str(number))
        lake = Lake(str(tmp_path / str(number)))
        with at_commit(number, kill, after=True), pytest.raises(Killed):
            give_up(lake)
        if PROMOTED in lake.open("silver/orders").history(1)[0]:
            break
    with without_pauses(), at_commit(1, lambda: aftermath.finish(lake, STRICTER, "silver")) as seen:
        aftermath.finish(lake, STRICTER, "silver")
    assert seen["commits"] > 1
    prove(lake, STRICTER)


def test_threads_on_one_lake_give_what_one_run_gives(tmp_path, is_right):
    """Three at once, each all tiles in its own order (kafka-medallion 40)."""
    lake, kafka, errors = Lake(str(tmp_path)), busy_log(), []

    def work(order: list[str]) -> None:
        try:
            for tile in order:
                both(lake, kafka, STREAM, [tile])
        except BaseException as error:  # noqa: BLE001  # shown by the assertion
            errors.append(error)

    orders_of_tiles = (TILES, TILES[::-1], TILES[2:] + TILES[:2])
    threads = [threading.Thread(target=work, args=(order,)) for order in orders_of_tiles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = [error for error in errors if not isinstance(error, RaceLostError)]
    assert lost == []
    both(lake, kafka, STREAM, TILES)  # who lost too many races starts again
    is_right(lake)
