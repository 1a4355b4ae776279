"""The demo's shop, smaller: every layer by the command line, against the computation in plain Python."""

import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from demo.client import DemoKafka
from demo.message import TOPICS, Message
from demo.run import SEED, START
from demo.shop import generate
from demo.verify import report, verify
from resources.settings import PROJECT
from tests.running import TOPIC, Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
HOURS = 4
TILES = [f"{START + timedelta(hours=n):%Y-%m-%d-%H:%M}" for n in range(HOURS + 1)]
DATES = ((START - timedelta(days=1)).date().isoformat(), START.date().isoformat())
SIDES = "group:bronze or group:silver or group:quarantine or group:losers"
NAMES = ("orders", "payments", "pageviews", "customers", "products")


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    """Make the shop's records of four hours."""
    return list(generate(SEED, START, HOURS, 60))


@pytest.fixture(scope="module")
def servers(kafka: str, messages: Sequence[Message]) -> str:
    """Send them."""
    client = DemoKafka(kafka)
    for topic in TOPICS:
        client.create_topic(topic, 3, TOPIC)
    assert client.produce(messages) == len(messages)
    return kafka


def shop(folder: Path, servers: str) -> Project:
    made = Project(folder, servers)
    made.streams = PROJECT / "streams"
    return made


def run(made: Project, selection: str, *more: str) -> None:
    done = made.dagster(selection, *more)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.fixture(scope="module")
def built(servers: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Build every layer by the command line, as the demo does."""
    made = shop(tmp_path_factory.mktemp("shop"), servers)
    run(made, SIDES, "--partition-range", f"{TILES[0]}...{TILES[-1]}")
    run(made, "group:dimensions")
    run(made, "group:gold", "--partition-range", "...".join(DATES))
    return made


def test_every_number_equals_the_computation_in_plain_python(built: Project, messages: Sequence[Message]):
    assert verify(built.lake(), messages) == []
    built.prove(*NAMES)
    said = report(built.lake(), produced=len(messages), seconds=1)
    assert f"{built.table('silver/orders').height:,}" in said


def test_a_second_time_adds_nothing(built: Project, messages: Sequence[Message]):
    layers = ("bronze", "silver", "losers", "quarantine")
    tables = [f"{layer}/{name}" for layer in layers for name in NAMES] + ["system/ledger", "system/tiles"]
    before = {table: built.version(table) for table in tables}
    built.run(SIDES, (TILES[0], TILES[-1])).good()
    built.run("group:dimensions").good()
    assert {table: built.version(table) for table in tables} == before
    assert verify(built.lake(), messages) == []


def test_hours_in_another_order_give_the_same_lake(
    built: Project, servers: str, messages: Sequence[Message], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = shop(tmp_path, servers)
    hours = list(TILES)
    random.Random(4).shuffle(hours)  # noqa: S311  # an order, nothing secret
    for hour in hours:
        made.run(SIDES, hour).good()
    made.run("group:dimensions").good()
    monkeypatch.setenv("LAKE_URI", made.uri)  # which dbt reads
    made.run("group:gold", DATES).good()
    assert verify(made.lake(), messages) == []
    for name in ("fct_orders", "fct_payments", "daily_revenue"):
        one, other = made.table(f"gold/{name}"), built.table(f"gold/{name}")
        assert sorted(map(repr, one.rows())) == sorted(map(repr, other.select(one.columns).rows())), name
