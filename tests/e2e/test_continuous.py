"""Continuous workers as processes of their own on a real Kafka: killed, stopped, asleep, side by side."""

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import polars as pl
import pytest
from confluent_kafka import Producer

from tests.conftest import MadeTopic
from tests.crash.forks import Child, Forks
from tests.running import Project

pytestmark = [pytest.mark.integration, pytest.mark.e2e, pytest.mark.timeout(600)]
PARTITIONS = 4
CONTRACT = '''"""Numbered ticks."""

import pandera.polars as pa
import polars as pl

from sluice import Events, Hourly, Json


class Tick(pa.DataFrameModel):
    """One tick; `number` counts within its partition."""

    place: int
    number: int
    at: pl.Datetime("us", "UTC")


ticks = Events(
    topic="{topic}",
    value=Json(),
    schema=Tick,
    key=("place", "number"),
    event_time="at",
    partitions=Hourly(start="{start}"),
)
'''
WORKER = ["--streams", "ticks", "--lease", "2", "--upkeep", "0.5", "--interval", "0.1"]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as made:
        yield made


class Feed:
    """Sends numbered ticks to all partitions until it is ended; then knows how many."""

    def __init__(self, topic: MadeTopic) -> None:
        self._topic, self._over, self.sent = topic, Event(), 0
        self._thread = Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        producer = Producer({"bootstrap.servers": self._topic.servers, "linger.ms": 5})
        while not self._over.wait(0.02):
            at = datetime.now(UTC).isoformat()
            for place in range(PARTITIONS):
                raw = json.dumps({"place": place, "number": self.sent, "at": at})
                producer.produce(self._topic.name, raw, partition=place)
            self.sent += 1
            producer.poll(0)
        assert producer.flush(60) == 0

    def end(self) -> int:
        self._over.set()
        self._thread.join(90)
        return self.sent


@pytest.fixture
def made(topic: Callable[..., MadeTopic], kafka: str, tmp_path: Path) -> tuple[Project, MadeTopic]:
    """Give a project over a topic of its own."""
    of = topic(PARTITIONS)
    start = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%d-%H:00")
    return Project(tmp_path, kafka).write("ticks", CONTRACT.format(topic=of.name, start=start)), of


def work(forks: Forks, project: Project, until: str = "stopped") -> Child:
    steps = [{"continuous": WORKER, "until": until}]
    return forks.start("work.run", folder=str(project.folder), servers=project.servers, steps=steps)


def height(project: Project) -> int:
    handle = project.lake().open("silver/ticks")
    return 0 if handle is None else handle.count()


def wait(condition: Callable[[], bool], *children: Child) -> None:
    """Wait until something holds, while some workers live."""
    until = time.monotonic() + 120
    while not condition():
        for child in children:
            assert not child.ended.is_set(), child.said()
        assert time.monotonic() < until, [child.said() for child in children]
        Event().wait(0.05)


def grow(project: Project, *children: Child, by: int = 80) -> None:
    """Wait until silver has grown."""
    wanted = height(project) + by
    wait(lambda: height(project) >= wanted, *children)


def reach(project: Project, number: int, *children: Child) -> None:
    """Wait until silver has a number of every partition."""

    def reached() -> bool:
        last = project.table("silver/ticks").group_by("place").agg(pl.col("number").max())["number"]
        return len(last) == PARTITIONS and min(last) >= number

    wait(reached, *children)


def hold(forks: Forks, project: Project, feed: Feed) -> None:
    """Catch up; then every tick is there once, and all equations hold."""
    sent = feed.end()
    child = work(forks, project, "caught_up")
    assert child.wait() == 0, child.said()
    rows = project.table("silver/ticks").select("place", "number").sort("place", "number")
    assert rows.rows() == [(place, number) for place in range(PARTITIONS) for number in range(sent)]
    project.prove("ticks")
    assert project.accounts("ticks")["read"] == PARTITIONS * sent


def test_killed_again_and_again_nothing_is_lost_and_nothing_twice(forks, made):
    """The producer goes on meanwhile (event-streaming 16; kafka-medallion 40)."""
    project, topic = made
    feed, chance = Feed(topic), random.Random()  # noqa: S311  # another moment each time
    for _ in range(6):
        child = work(forks, project)
        grow(project, child)
        Event().wait(chance.uniform(0, 0.3))
        child.signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    hold(forks, project, feed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_ends_well_within_seconds(forks, made, number):
    project, topic = made
    feed, child = Feed(topic), work(forks, made[0])
    grow(project, child)
    child.signal(number)
    assert child.wait(30) == 0, child.said()
    hold(forks, project, feed)


def test_two_workers_share_and_one_takes_over_from_one_that_sleeps(forks, made):
    """The sleeper, come back, does no harm and gets its share again (mongodb T086; kinesis 39)."""
    project, topic = made
    feed, workers = Feed(topic), [work(forks, project), work(forks, project)]
    grow(project, *workers)
    workers[0].signal(signal.SIGSTOP)
    reach(project, feed.sent, workers[1])  # all partitions go on without it
    workers[0].signal(signal.SIGCONT)
    reach(project, feed.sent, *workers)
    grow(project, *workers, by=400)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    for worker in workers:
        assert worker.wait(30) == 0, worker.said()
    hold(forks, project, feed)


def test_a_scheduled_run_beside_a_worker_lets_both_go_on(forks, made):
    project, topic = made
    feed, child = Feed(topic), work(forks, made[0])
    grow(project, child)
    tile = datetime.now(UTC).strftime("%Y-%m-%d-%H:00")
    for _ in range(2):
        steps = [{"select": 'key:"bronze/ticks" or key:"silver/ticks"', "tiles": tile, "red": True}]
        beside = forks.start("work.run", folder=str(project.folder), servers=project.servers, steps=steps)
        assert beside.wait() == 0, beside.said()
        grow(project, child)
    child.signal(signal.SIGTERM)
    assert child.wait(30) == 0, child.said()
    hold(forks, project, feed)
