"""What arrivals asks for: exactly what is new, bounded, with a reason for each skip; and what waits."""

from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG

import sensors.arrivals
from assets import bounds, equations, reingest
from assets.bronze import bronze_asset
from assets.leases import Leases
from assets.silver import silver_assets
from sensors.arrivals import END, START, STREAM, New, arrivals_sensor, new_tiles, ranges
from sluice.errors import OpenTransactionError
from tests.engine import HOURS, NOW, both, busy_log, decide, load, orders, send, value
from tests.ticking import tick

ROOT = Path(__file__).resolve().parents[2]
ORDERS = orders()
OTHER = orders(name="parcels")


class Clock(datetime):
    """A clock that stands at NOW."""

    @classmethod
    def now(cls, tz=None):  # noqa: ARG003  # as the class it stands for
        return NOW


def asked(data) -> list[tuple[str, str, str]]:
    """Give stream, first and last tile of each request."""
    return [
        (r.tags[STREAM], r.partition_key or r.tags[START], r.partition_key or r.tags[END])
        for r in data.run_requests
    ]


@pytest.fixture
def frozen(monkeypatch):
    monkeypatch.setattr(sensors.arrivals, "datetime", Clock)


def arrivals(instance, lake, kafka, streams=(ORDERS,), cursor=None):
    layers = [*map(bronze_asset, streams), *map(silver_assets, streams)]
    return tick(arrivals_sensor(streams), layers, instance, lake, kafka, cursor)


def test_new_tiles_are_those_with_records_that_the_lake_does_not_have(lake):
    """(kafka-medallion 14, kinesis 37)."""
    kafka = busy_log()
    assert new_tiles(lake, kafka, ORDERS, NOW) == New(HOURS[:4], [], [], [])
    both(lake, kafka, ORDERS, HOURS[:2])
    assert new_tiles(lake, kafka, ORDERS, NOW) == New(HOURS[2:4], [], [], [])
    load(lake, kafka, ORDERS, HOURS[2:4])  # in bronze, not in silver
    assert new_tiles(lake, kafka, ORDERS, NOW) == New([], HOURS[2:4], [], [])
    decide(lake, ORDERS, HOURS[2:4])
    assert new_tiles(lake, kafka, ORDERS, NOW) == New([], [], [], [])


@pytest.mark.usefixtures("frozen")
def test_bronze_goes_on_while_silver_waits_for_a_lossy_tile(instance, lake, monkeypatch):
    """A loss that nobody acknowledged holds up its own tile: the rest is read before retention takes it."""
    monkeypatch.setenv("RUN_TILES_PER_TICK", "2")
    kafka, got = busy_log(), []
    bounds.ensure(lake, kafka, ORDERS, HOURS[:4], NOW)
    kafka.expire("t", 0, 1)
    for _ in range(4):
        data = arrivals(instance, lake, kafka)
        for _, first, last in asked(data):
            tiles = HOURS[HOURS.index(first) : HOURS.index(last) + 1]
            got.append(tiles)
            load(lake, kafka, ORDERS, tiles)
            if not set(equations.holes(lake, ORDERS)["tile"]) & set(tiles):  # as bronze's check says
                decide(lake, ORDERS, tiles)
    assert got == [HOURS[0:2], HOURS[2:4], HOURS[1:2]]
    assert data.skip_message == f"orders: {HOURS[0]} wait until a loss is acknowledged"
    reingest.acknowledge(lake, ORDERS, "known")
    assert asked(arrivals(instance, lake, kafka)) == [("orders", HOURS[0], HOURS[0])]


@pytest.mark.usefixtures("frozen")
def test_an_open_transaction_holds_up_only_the_tiles_whose_end_it_hides(instance, lake):
    kafka = busy_log()
    log = kafka.topics["t"][0]
    end = next(b.next_offset for b in bounds.ensure(lake, kafka, ORDERS, HOURS[1:2], NOW) if b.partition == 0)
    log.stable = end - 1
    assert asked(arrivals(instance, lake, kafka)) == [("orders", HOURS[0], HOURS[3])]
    with pytest.raises(OpenTransactionError):  # so the run ends, without silver
        load(lake, kafka, ORDERS, HOURS[:4])
    assert asked(arrivals(instance, lake, kafka)) == [("orders", HOURS[0], HOURS[0])]
    both(lake, kafka, ORDERS, HOURS[:1])
    waiting = arrivals(instance, lake, kafka)
    assert waiting.skip_message == f"orders: {', '.join(HOURS[1:4])} wait for an open transaction"
    log.stable = None
    assert asked(arrivals(instance, lake, kafka)) == [("orders", HOURS[1], HOURS[3])]


@pytest.mark.usefixtures("frozen")
def test_what_bronze_and_what_silver_lacks_are_asked_for_in_one_tick(instance, lake):
    kafka = busy_log()
    load(lake, kafka, ORDERS, HOURS[:2])
    found = asked(arrivals(instance, lake, kafka))
    assert found == [("orders", HOURS[2], HOURS[3]), ("orders", HOURS[0], HOURS[1])]


def test_ranges_hold_tiles_that_follow_each_other_and_are_bounded():
    tiles = [HOURS[n] for n in (0, 1, 2, 4, 5, 9)]
    assert ranges(ORDERS, tiles, 24) == [(HOURS[0], HOURS[2]), (HOURS[4], HOURS[5]), (HOURS[9], HOURS[9])]
    assert ranges(ORDERS, tiles, 2)[:2] == [(HOURS[0], HOURS[1]), (HOURS[2], HOURS[2])]
    assert ranges(ORDERS, [], 2) == []


@pytest.mark.usefixtures("frozen")
def test_a_tick_asks_for_bronze_and_silver_of_the_new_tiles(instance, lake):
    data = arrivals(instance, lake, busy_log())
    assert asked(data) == [("orders", HOURS[0], HOURS[3])]
    wanted = {dg.AssetKey([layer, "orders"]) for layer in ("bronze", "silver", "quarantine", "losers")}
    assert set(data.run_requests[0].asset_selection) == wanted


@pytest.mark.usefixtures("frozen")
def test_a_tick_asks_for_what_is_new_and_tells_nothing_of_the_rest(instance, lake):
    """Requests and skips in one tick: Dagster takes only one of both."""
    kafka = busy_log()
    both(lake, kafka, ORDERS, HOURS[:4])
    both(lake, kafka, OTHER, HOURS[:1])
    data = arrivals(instance, lake, kafka, (ORDERS, OTHER))
    assert asked(data) == [("parcels", HOURS[1], HOURS[3])]
    assert data.skip_message is None


@pytest.mark.usefixtures("frozen")
def test_nothing_new_is_a_skip_with_reasons(instance, lake):
    kafka = busy_log()
    both(lake, kafka, ORDERS, HOURS[:4])
    data = arrivals(instance, lake, kafka)
    assert (data.run_requests, data.skip_message) == ([], "orders: nothing new")


@pytest.mark.usefixtures("frozen")
def test_a_skip_says_which_transaction_hides_what_is_new(instance, lake):
    kafka = busy_log()
    both(lake, kafka, ORDERS, HOURS[:4])
    kafka.topics["t"][0].stable = kafka.topics["t"][0].high
    send(kafka, value("hidden", "1", 60 * 47), 60 * 47)
    data = arrivals(instance, lake, kafka)
    assert data.run_requests == []
    assert "orders: nothing new, and an open transaction holds partition 0 at" in data.skip_message


@pytest.mark.usefixtures("frozen")
def test_an_absent_broker_is_a_skip_not_an_error(instance, lake):
    kafka = busy_log()
    kafka.down = True
    data = arrivals(instance, lake, kafka)
    assert not data.run_requests
    assert "no Kafka broker answers at fake:9092" in data.skip_message


@pytest.mark.usefixtures("frozen")
def test_a_tick_is_bounded_and_the_streams_take_turns(instance, lake, monkeypatch):
    """Two streams share two tiles a tick: none starves."""
    monkeypatch.setenv("RUN_TILES_PER_TICK", "2")
    kafka, cursor, got = busy_log(), None, []
    for _ in range(4):
        data = arrivals(instance, lake, kafka, (ORDERS, OTHER), cursor)
        cursor = data.cursor
        for name, first, last in asked(data):
            got.append((name, first, last))
            stream = {"orders": ORDERS, "parcels": OTHER}[name]
            both(lake, kafka, stream, HOURS[HOURS.index(first) : HOURS.index(last) + 1])
    first_half, second_half = (HOURS[0], HOURS[1]), (HOURS[2], HOURS[3])
    assert got == [
        ("orders", *first_half),
        ("parcels", *first_half),
        ("orders", *second_half),
        ("parcels", *second_half),
    ]


@pytest.mark.usefixtures("frozen")
def test_a_busy_stream_is_left_alone(instance, lake):
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def job() -> None:
        nothing()

    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={STREAM: "orders"})
    data = arrivals(instance, lake, busy_log(), (ORDERS, OTHER))
    assert [name for name, _, _ in asked(data)] == ["parcels"]
    alone = arrivals(instance, lake, busy_log())
    assert alone.skip_message == "orders: a run of it is queued or running"


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("name", ["dagster.yaml", "dagster.postgres.yaml"])
def test_a_run_whose_machine_died_holds_up_its_stream_for_a_bounded_time(instance, lake, name):
    """Dagster's monitoring ends what the tag bounds, and frees what it held."""
    deployed = yaml.safe_load((ROOT / "deploy" / name).read_text())["run_monitoring"]
    assert deployed["enabled"]
    assert deployed["free_slots_after_run_end_seconds"] > 0
    data = arrivals(instance, lake, busy_log())
    assert [int(request.tags[MAX_RUNTIME_SECONDS_TAG]) for request in data.run_requests] == [7200]


def test_a_stream_that_a_continuous_run_follows_is_left_alone(lake, instance):
    kafka, assets = busy_log(), [bronze_asset(ORDERS), silver_assets(ORDERS)]
    worker = Leases(lake, "worker", ["orders"])
    worker.beat()
    told = tick(arrivals_sensor([ORDERS]), assets, instance, lake, kafka)
    assert told.skip_message == "orders: a continuous run follows it"
    worker.beat(last=True)
    assert tick(arrivals_sensor([ORDERS]), assets, instance, lake, kafka).run_requests
