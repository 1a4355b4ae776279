"""Runs that are overtaken: they pause ever longer, forget nothing, and fail by name where it never ends."""

import random
from itertools import pairwise
from threading import Event

import pytest
import tenacity

import assets.flow
import assets.races
from assets import ingest, refine
from assets.flow import Flow, Pace
from resources import intents
from resources.lake import ATTEMPTS, LostRace
from sluice.errors import RaceLostError, StaleWriterError
from tests.engine import HOURS, NOW, both, busy_log, decide, load, orders, prove

STREAM = orders()
TILES = HOURS[:4]


@pytest.fixture
def paused(monkeypatch) -> list[float]:
    """Give the pauses, each the longest that might have been drawn; nobody waits."""
    pauses: list[float] = []
    monkeypatch.setattr(random, "uniform", lambda _least, most: most)
    monkeypatch.setattr(assets.races, "uniform", lambda _least, most: most)
    monkeypatch.setattr(assets.races, "sleep", pauses.append)
    monkeypatch.setattr(tenacity.nap.time, "sleep", pauses.append)
    return pauses


def overtaken(monkeypatch, module, name: str, times: int | None = None) -> list[int]:
    """Let a rival be faster at the first calls of a step, or at all; gives a list of the calls."""
    real, calls = getattr(module, name), []

    def beaten(*given, **more):
        calls.append(len(calls) + 1)
        if times is None or len(calls) <= times:
            raise StaleWriterError("some/table", "id", 1, 1)
        return real(*given, **more)

    monkeypatch.setattr(module, name, beaten)
    return calls


def grows(pauses: list[float]) -> bool:
    return all(b == min(3, 2 * a) for a, b in pairwise(pauses))


def test_ingesting_ends_with_an_error_when_it_is_always_overtaken(lake, monkeypatch, paused):
    """(kafka-medallion 44)."""
    calls = overtaken(monkeypatch, ingest, "append")
    with pytest.raises(RaceLostError, match=rf"bronze/orders.*{ATTEMPTS} times.*fewer runs"):
        load(lake, busy_log(), STREAM, TILES)
    assert (len(calls), len(paused)) == (ATTEMPTS, ATTEMPTS - 1)
    assert grows(paused)


def test_refining_ends_with_an_error_when_it_is_always_overtaken(lake, monkeypatch, paused):
    load(lake, busy_log(), STREAM, TILES)
    calls = overtaken(monkeypatch, refine, "decide")
    paused.clear()
    with pytest.raises(RaceLostError, match=rf"silver/orders.*{ATTEMPTS} times"):
        decide(lake, STREAM, TILES)
    assert (len(calls), len(paused)) == (ATTEMPTS, ATTEMPTS - 1)
    assert grows(paused)


def test_pauses_after_lost_commits_grow(lake, monkeypatch, paused):
    monkeypatch.setattr(intents, "ask", lambda *_: [])

    def step() -> None:
        raise LostRace("someone was faster")

    with pytest.raises(RaceLostError):
        lake.retrying("some/table", step)
    assert len(paused) == ATTEMPTS - 1
    assert grows(paused)


def test_only_races_in_a_row_are_counted(paused):
    races = assets.races.Races("bronze/orders", lambda _text: None)
    for done in range(3 * ATTEMPTS):
        races.lose(StaleWriterError("some/table", "id", 1, 1), done // 3)
    assert max(paused) < 1


def test_a_tile_that_was_to_be_replaced_is_not_forgotten(lake, monkeypatch, paused):
    both(lake, busy_log(), STREAM, TILES)
    overtaken(monkeypatch, refine, "decide", times=2)
    done = decide(lake, STREAM, TILES, replace=True)
    assert sorted(done.anew) == TILES
    assert len(paused) == 2
    prove(lake, STREAM)


def test_a_worker_that_meets_another_pauses_a_moment(lake, monkeypatch):
    drawn: list[int] = []
    monkeypatch.setattr(assets.flow, "pause", lambda lost: drawn.append(lost) or 0)
    overtaken(monkeypatch, assets.flow, "append", times=20)
    one = Flow(lake, busy_log(), STREAM, "run", Pace(interval=0.01), clock=lambda: NOW, say=lambda _: None)
    one.run(Event(), caught_up=True)
    assert len(drawn) == 20
    prove(lake, STREAM)
