"""A stream that is quiet for long: failures are waited out, tiles end in time, the hour may turn."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event

import pytest

from assets import bounds
from assets.flow import Flow
from assets.upkeep import Upkeep
from sluice.errors import KafkaReadError
from tests.engine import (
    HOURS,
    START,
    busy_log,
    prove,
    send,
    value,
)
from tests.fake_kafka import FakeKafka
from tests.following import SMALL, STREAM, flow, follow, silent


def watching(kafka: FakeKafka, act: Callable[[int], None]) -> None:
    """Before each look of a reader for new records, do something with the number of the look."""
    tail, looks = kafka.tail, []

    def watched(name, places):
        reader = tail(name, places)
        take = reader.take

        def counted(*given):
            looks.append(True)
            act(len(looks))
            return take(*given)

        reader.take = counted
        return reader

    kafka.tail = watched


@pytest.mark.parametrize("lasting", [False, True], ids=["passes", "lasts"])
def test_a_worker_that_was_idle_for_long_is_as_patient_as_any(lake, monkeypatch, lasting):
    """Patience counts from the first failure, not from the last record."""
    monkeypatch.setattr("assets.flow._PAUSE", 0.0)
    time, stop, failed, kafka = [0.0], Event(), [], busy_log()
    monkeypatch.setattr("assets.flow.monotonic", lambda: time[0])
    follow(lake, kafka)

    def act(look: int) -> None:
        time[0] += 50
        if look == 10 or (lasting and look > 10):
            if lasting:
                send(kafka, value(f"late{look}", "1", 230), 230)  # there is work, and it cannot be done
            failed.append(True)
            raise KafkaReadError("t", "the broker is away")
        if look == 20:
            stop.set()

    watching(kafka, act)
    if lasting:
        with pytest.raises(KafkaReadError):
            flow(lake, kafka).run(stop)
        assert len(failed) == 4  # within 120 seconds, and the one after
    else:
        flow(lake, kafka).run(stop)
        assert stop.is_set()


def test_tiles_end_in_time_where_no_more_records_come(lake):
    kafka, clock, stop = FakeKafka(), [START + timedelta(minutes=40)], Event()
    kafka.create("t")
    send(kafka, value("only", "1", 30), 30)

    def act(look: int) -> None:
        if look == 5:
            clock[0] = START + timedelta(hours=3, minutes=1)
        if look == 20:
            stop.set()

    watching(kafka, act)
    one = Flow(lake, kafka, STREAM, "run", SMALL, clock=lambda: clock[0], say=silent)
    one.run(stop)
    upkeep = Upkeep(lake, one, silent)
    upkeep.once()
    assert bounds.stored(lake, STREAM)["next_offset"].to_list() == [1, 1, 1, None]
    assert upkeep.taken() == HOURS[:3]


def test_a_worker_may_start_as_the_hour_ends(lake):
    """What it mends is the tile whose bounds it has just written."""
    kafka = busy_log()
    moments = iter([START + timedelta(minutes=59, seconds=59)])
    later = START + timedelta(hours=1, seconds=1)
    one = Flow(lake, kafka, STREAM, "run", SMALL, clock=lambda: next(moments, later), say=silent)
    one.run(Event(), caught_up=True)
    prove(lake, STREAM)
