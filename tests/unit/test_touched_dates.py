"""Which dates gold owes: those of rows that are new, or that left; and when it waits."""

from datetime import date

import dagster as dg

from resources.dbt import AsOfJoin
from sensors.arrivals import END, START
from sensors.touched_dates import date_ranges, touched_dates_sensor
from tests.engine import HOURS, both, orders, send, value
from tests.fake_kafka import FakeKafka
from tests.ticking import tick

ORDERS = orders()


JOIN = AsOfJoin("fct_orders", "customers", "orders", "order_id", "at")


@dg.asset(key=["gold", "fct_orders"], partitions_def=dg.DailyPartitionsDefinition("2025-12-01"))
def gold() -> None: ...


def owed(instance, lake, streams=(ORDERS,), joins=(), cursor=None):
    data = tick(touched_dates_sensor(streams, joins, gold), [gold], instance, lake, cursor=cursor)
    found = [(r.partition_key or r.tags[START], r.partition_key or r.tags[END]) for r in data.run_requests]
    return found, data


def spread_log() -> FakeKafka:
    kafka = FakeKafka()
    kafka.create("t")
    for order, minutes, stamp in (("a", 0, 1), ("b", 3 * 1440, 2), ("c", 4 * 1440, 3), ("d", 60, 61)):
        send(kafka, value(order, "1", minutes), stamp)
    return kafka


def test_gold_owes_exactly_the_dates_of_new_rows(instance, lake):
    """(kinesis 37)."""
    kafka = spread_log()
    both(lake, kafka, ORDERS, HOURS[:1])
    found, data = owed(instance, lake)
    assert found == [("2026-01-01", "2026-01-01"), ("2026-01-04", "2026-01-05")]
    found, again = owed(instance, lake, cursor=data.cursor)
    assert (found, again.skip_message) == ([], "nothing was committed since gold was asked last")
    both(lake, kafka, ORDERS, HOURS[:2])
    found, data = owed(instance, lake, cursor=data.cursor)
    assert found == [("2026-01-01", "2026-01-01")]


def test_gold_owes_the_date_that_a_displaced_row_left(instance, lake):
    """The winner of a key moves to an earlier date: both are touched."""
    kafka = FakeKafka()
    kafka.create("t")
    send(kafka, value("x", "2", 1440 + 30), 1)
    send(kafka, value("x", "1", 1440 - 30), 61)
    both(lake, kafka, ORDERS, HOURS[:1])
    _, data = owed(instance, lake)
    both(lake, kafka, ORDERS, HOURS[:2])
    found, _ = owed(instance, lake, cursor=data.cursor)
    assert found == [("2026-01-01", "2026-01-02")]


def test_gold_waits_while_a_check_stands_failed(instance, lake):
    """A level, not an edge: the cursor stays, and the dates are asked for when the check passes."""
    both(lake, spread_log(), ORDERS, HOURS[:1])

    def report(*, passed: bool) -> None:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(dg.AssetKey(["silver", "orders"]), "records_accounted_for", passed, {})
        )

    report(passed=False)
    found, data = owed(instance, lake, cursor="{}")
    assert (found, data.cursor) == ([], "{}")
    assert "silver/orders: records_accounted_for" in data.skip_message
    report(passed=True)
    found, _ = owed(instance, lake, cursor="{}")
    assert len(found) == 2


def test_dates_that_follow_each_other_are_one_range():
    days = {date(2026, 1, n) for n in (1, 2, 3, 7, 9, 10)}
    assert [(a.day, b.day) for a, b in date_ranges(days)] == [(1, 3), (7, 7), (9, 10)]
    assert date_ranges(set()) == []


def test_many_single_dates_are_one_run(instance, lake, monkeypatch):
    monkeypatch.setenv("RUN_TILES_PER_TICK", "1")
    both(lake, spread_log(), ORDERS, HOURS[:1])
    assert owed(instance, lake)[0] == [("2026-01-01", "2026-01-05")]
