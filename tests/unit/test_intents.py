"""A slow writer beside a fast one: it asks, the fast one gives way once, and both go on."""

import threading
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from resources import intents
from resources.intents import Courtesy, Intent, ask, standing, withdraw
from resources.lake import ATTEMPTS, Lake, LostRace
from sluice.errors import RaceLostError
from sluice.tables import Table
from tests.engine import without_pauses

TABLE = Table("silver/numbers", {"n": pl.Int32(), "part": pl.String()}, ("part",), "Numbers.")
FAST, SLOW = 0.1, 1.0  # seconds between commits, and of the slow writer's step


def rows(number: int) -> pl.DataFrame:
    return pl.DataFrame({"n": [number], "part": ["a"]}, schema=TABLE.columns)


def test_a_slow_writer_finishes_beside_a_fast_one(lake):
    """Ten commits a second on the date that a step of a second wants (kafka-medallion 40, 44)."""
    lake.ensure(TABLE)
    done, errors, committed, tried = threading.Event(), [], [], []

    def fast() -> None:
        courtesy = Courtesy(lake, TABLE.name)
        try:
            while not done.wait(FAST) or len(committed) < 5:
                courtesy.give_way(["date/1"])
                number = len(committed)
                step = lambda: lake.commit(lake.ensure(TABLE), rows(number), fences=["date/1"])  # noqa: B023, E731
                committed.append(lake.retrying(TABLE.name, step))
        except BaseException as error:  # noqa: BLE001  # shown by the assertion
            errors.append(error)

    def slow_step() -> None:
        handle = lake.ensure(TABLE)
        tried.append(handle.version())
        there = lake.scan(handle).collect()
        time.sleep(SLOW)
        lake.commit(
            handle,
            there.with_columns(n=pl.lit(-1, pl.Int32)),
            mode="overwrite",
            predicate="part = 'a'",
            fences=["date/1"],
        )

    writer = threading.Thread(target=fast)
    writer.start()
    while len(committed) < 2:  # the fast one is under way
        time.sleep(0.01)
    lake.retrying(TABLE.name, slow_step)
    done.set()
    writer.join()
    assert errors == []
    assert 2 < len(tried) < ATTEMPTS // 2
    told = lake.read(TABLE).collect()["n"]
    assert len(told) == len(committed)  # nothing lost
    assert (told == -1).any()
    assert standing(lake, TABLE.name) == []  # withdrawn


def test_whoever_loses_twice_asks_with_its_fences_and_withdraws(lake, monkeypatch):
    asked, seen = [], []
    monkeypatch.setattr(
        intents, "_write", lambda _lake, intent, *, withdrawn: asked.append((intent, withdrawn))
    )

    def step() -> None:
        seen.append(len(asked))
        lost = LostRace("faster")
        lost.fences = ["date/1", "date/2"]
        raise lost

    with without_pauses(), pytest.raises(RaceLostError):
        lake.retrying(TABLE.name, step)
    assert seen == [0, 0] + [1] * (ATTEMPTS - 2)
    (intent, first), (same, last) = asked
    assert (intent.fences, intent.table, first, last) == ({"date/1", "date/2"}, TABLE.name, False, True)
    assert same == intent


def test_one_gives_way_only_where_one_meets_and_only_once(lake):
    [intent] = ask(lake, TABLE.name, ["date/1"], 0.1)
    courtesy = Courtesy(lake, TABLE.name)
    assert courtesy.give_way(["date/2"]) < 1
    assert Courtesy(lake, "silver/other").give_way() < 1
    assert [i.id for i in standing(lake, TABLE.name, ["date/1"])] == [intent.id]
    courtesy.give_way(["date/1"])  # until it has expired
    assert datetime.now(UTC) >= intent.expires_at
    assert courtesy.give_way(["date/1"]) < 1


def test_a_withdrawn_intent_ends_the_wait(lake):
    [intent] = ask(lake, TABLE.name, [], 100)
    threading.Timer(0.2, withdraw, (lake, intent)).start()
    assert Courtesy(lake, TABLE.name).give_way(["date/9"]) < 20
    assert standing(lake, TABLE.name) == []


def test_a_clock_that_is_wrong_holds_nobody_up_for_ever(lake, monkeypatch):
    monkeypatch.setattr(intents, "LONGEST", 0.2)
    far = Intent("far", TABLE.name, frozenset(), datetime.now(UTC) + timedelta(days=9999))
    intents._write(lake, far, withdrawn=False)
    courtesy = Courtesy(lake, TABLE.name)
    assert 0.2 < courtesy.give_way() < 20
    assert courtesy.give_way() < 0.2 + 1
    assert courtesy.give_way(stopped=lambda: True) < 1


def test_a_store_that_takes_no_intent_stops_nobody(lake, monkeypatch):
    monkeypatch.setattr(Lake, "ensure", lambda *_: (_ for _ in ()).throw(LostRace("no")))
    assert len(ask(lake, TABLE.name, [], 1)) == 1
