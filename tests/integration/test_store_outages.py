"""The store misbehaves in the middle of runs, on a real S3 server: nothing is lost, nothing twice."""

import random
import threading
import time

import pytest

from assets.flow import Flow, Pace
from resources.lake import Lake
from sluice.errors import LakeFullError, LakeRefusedError, LakeUnreachableError
from tests.engine import HOURS, NOW, assert_same, both, busy_log, decide, load, orders, prove, state
from tests.fault_proxy import FaultProxy
from tests.seaweed import SeaweedFS, lake_at

pytestmark = pytest.mark.integration
TABLES = ("bronze/orders", "silver/orders", "losers/orders", "quarantine/orders", "system/tiles")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = SeaweedFS(tmp_path_factory.mktemp("weed"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def proxy(server):
    made = FaultProxy(server.address)
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Lake:
    """The same runs on disk, where nothing happens."""
    lake = Lake(str(tmp_path_factory.mktemp("disk")))
    run(lake)
    return lake


def run(lake: Lake) -> None:
    for hour in HOURS[:2]:
        both(lake, busy_log(), orders(), [hour])


def follow(lake: Lake) -> None:
    """Catch up as a continuous run does."""
    pace = Pace(interval=0.01, rows=20)
    one = Flow(lake, busy_log(), orders(), "run", pace, clock=lambda: NOW, say=lambda _text: None)
    one.run(threading.Event(), caught_up=True)


def hold_equal(lake: Lake, undisturbed: Lake) -> None:
    prove(lake, orders())
    assert_same(state(lake, orders()), state(undisturbed, orders()))


def commits(lake: Lake) -> dict[str, int]:
    return {name: handle.version() for name in TABLES if (handle := lake.open(name))}


def test_commits_whose_answers_are_lost_count_once(proxy, undisturbed):
    """Every commit is taken and its answer lost, those with progress and those with fences only."""
    lake, met = lake_at(proxy.address, "answers"), set()

    def first_try(method: str, path: str) -> bool:
        made = path.endswith("00000.json")  # made twice, a table is as it would be
        if method != "PUT" or not path.endswith(".json") or path in met or made:
            return False
        met.add(path)
        return True

    with proxy.faulty("cut", first_try):
        run(lake)
    hold_equal(lake, undisturbed)
    assert commits(lake) == commits(undisturbed)
    assert len(met) > 8


def test_a_store_that_misbehaves_all_the_time(proxy, undisturbed):
    """Down for seconds, throttling, slow, answers lost, one request in eight."""
    lake, lock = lake_at(proxy.address, "chaos"), threading.Lock()
    chance = random.Random(7)  # noqa: S311  # the same faults each time
    away = [0.0]

    def sometimes(_method: str, _path: str) -> bool:
        with lock:
            if len(proxy.seen) == 60:
                away[0] = time.monotonic() + 6
            if time.monotonic() < away[0]:
                proxy.fault = "down"
                return True
            proxy.fault = chance.choice(["down", "busy", "cut", "busy", "slow"])
            return chance.random() < 0.12

    with proxy.faulty("busy", sometimes):
        run(lake)
    hold_equal(lake, undisturbed)
    assert sum(1 for _, _, met in proxy.seen if met) > 20


def test_a_store_that_is_killed_and_comes_back(server, proxy, undisturbed):
    """SIGKILL in the middle of a commit, back on the same folder: the run goes on by itself."""
    lake, killed = lake_at(proxy.address, "killed"), threading.Event()

    def kill_once(method: str, path: str) -> bool:
        if method == "PUT" and "silver" in path and path.endswith("1.json") and not killed.is_set():
            killed.set()
            server.kill()
            threading.Thread(target=server.start).start()
        return False

    with proxy.faulty("down", kill_once):
        run(lake)
    assert killed.is_set()
    hold_equal(lake, undisturbed)


def test_a_continuous_run_goes_on_after_thirty_seconds_without_a_store(proxy, tmp_path):
    """Down from the middle of a run on (mongodb-cdc T085): nobody starts it again."""
    lake, down = lake_at(proxy.address, "thirty"), threading.Event()

    def goes_down(method: str, path: str) -> bool:
        if method == "PUT" and "silver" in path and path.endswith("1.json") and not down.is_set():
            down.set()
            threading.Timer(30, setattr, (proxy, "fault", None)).start()
        return down.is_set()

    begin = time.monotonic()
    with proxy.faulty("down", goes_down):
        follow(lake)
    assert down.is_set()
    assert time.monotonic() - begin > 30
    beside = Lake(str(tmp_path / "lake"))
    follow(beside)
    hold_equal(lake, beside)


def test_a_store_that_is_full_is_told_and_loses_nothing(proxy, undisturbed):
    """Mongodb-cdc T219: what was committed stays, and the next run goes on once there is room."""
    lake = lake_at(proxy.address, "full")
    load(lake, busy_log(), orders(), HOURS[:1])
    before = commits(lake)
    with (
        proxy.faulty("full", lambda method, _path: method in ("PUT", "POST")),
        pytest.raises(LakeFullError, match="no space is left"),
    ):
        decide(lake, orders(), HOURS[:1])
    assert commits(lake) == before
    run(lake)
    hold_equal(lake, undisturbed)


def test_a_store_that_stays_away_is_a_clear_retryable_error(proxy):
    """And the next run goes on (kafka-medallion 44)."""
    lake = lake_at(proxy.address, "away", store_patience_seconds=1)
    load(lake, busy_log(), orders(), HOURS[:1])
    before = commits(lake)
    with proxy.faulty("busy"), pytest.raises(LakeUnreachableError, match="STORE_PATIENCE_SECONDS"):
        decide(lake, orders(), HOURS[:1])
    assert commits(lake) == before
    decide(lake, orders(), HOURS[:1])
    assert commits(lake)["silver/orders"] == 1


def test_a_store_that_refuses_us_is_a_permanent_error_at_once(server, proxy):
    lake = lake_at(proxy.address, "refused")
    with proxy.faulty("refused"), pytest.raises(LakeRefusedError, match="correct LAKE_URI, the credentials"):
        both(lake, busy_log(), orders(), HOURS[:1])
    assert len(proxy.seen) < 5  # nothing was tried again
    nowhere = Lake("s3://no-such-bucket/x", lake.storage_options)
    with pytest.raises(LakeRefusedError, match="NoSuchBucket"):
        both(nowhere, busy_log(), orders(), HOURS[:1])
