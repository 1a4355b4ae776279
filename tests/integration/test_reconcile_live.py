"""A database that others write to, held against the lake as of one position: they change no verdict."""

import random
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pandera.polars as pa
import polars as pl
import psycopg
import pytest

from assets.asked import Asked
from assets.reconcile import reconcile
from demo.postgres import Postgres as Server
from resources.lake import Lake
from resources.source_postgres import MARK, PostgresSnapshot
from sluice import Changes, Daily, Debezium, Postgres, tables
from sluice.errors import DemoServerError, MarkerLateError, SettingsError
from tests.beside import Beside, ended_half_way
from tests.engine import prove
from tests.fake_kafka import FakeKafka
from tests.integration.small_connector import SmallConnector

pytestmark = pytest.mark.integration
TOPIC = "live.public.customers"


class Customer(pa.DataFrameModel):
    id: int
    name: str = pa.Field(nullable=True)
    amount: pl.Decimal(12, 2) = pa.Field(nullable=True)


def contract(*, history: bool) -> Changes:
    return Changes(
        name="customers",
        topic=TOPIC,
        value=Debezium(source="postgresql"),
        schema=Customer,
        key="id",
        partitions=Daily(start=(datetime.now(UTC) - timedelta(days=1)).date().isoformat()),
        history=history,
        source=Postgres(table="customers", connection="shop"),
    )


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL of this module."""
    try:
        with Server() as made:
            yield made
    except DemoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def live(server, tmp_path, monkeypatch):
    """A table with rows, a connector that follows it, and an empty lake."""
    monkeypatch.setenv("SOURCE_CONNECTIONS", f'{{"shop": "{server.dsn}"}}')
    kafka = FakeKafka()
    kafka.create(TOPIC, 2)
    kafka.create("live.message", 1)
    with server.connect(autocommit=True) as session:
        session.execute("DROP TABLE IF EXISTS customers")
        session.execute("CREATE TABLE customers (id bigint PRIMARY KEY, name text, amount numeric(12, 2))")
        session.execute("ALTER TABLE customers REPLICA IDENTITY FULL")
    with SmallConnector(server, kafka) as connector:
        with server.connect(autocommit=True) as session:
            for first in range(0, 200, 20):
                session.execute(
                    "INSERT INTO customers SELECT n, 'n' || n, n + 0.5 FROM generate_series(%s::int, %s) n",
                    [first, first + 19],
                )
        yield Lake(str(tmp_path / "lake")), kafka, connector


class Writers(Beside):
    """Sessions that write at random, some in long transactions, until they are stopped."""

    def __init__(self, server, count: int = 3, pauses: tuple[float, ...] = (0, 0, 0.002, 0.1)) -> None:
        super().__init__(*(partial(self._write, server, seed) for seed in range(count)))
        self.commits, self._pauses = 0, pauses

    def _write(self, server, seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311
        with server.connect() as session:
            while not self.over.is_set():
                try:
                    for _ in range(rng.choice((1, 1, 5))):
                        self._change(session, rng)
                        self.over.wait(rng.choice(self._pauses))
                    session.rollback() if rng.random() < 0.1 else session.commit()
                    self.commits += 1
                except psycopg.errors.DeadlockDetected:
                    session.rollback()

    def _change(self, session, rng) -> None:
        key = rng.randrange(260)
        if rng.random() < 0.2:
            session.execute("DELETE FROM customers WHERE id = %s", [key])
            return
        session.execute(
            "INSERT INTO customers VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET "
            "name = excluded.name, amount = excluded.amount",
            [key, f"w{rng.random()}", rng.randrange(10**6) / 100],
        )


class Sessions(Beside):
    """Counts our sessions that ask a database at the same time, until it is stopped."""

    def __init__(self, server) -> None:
        super().__init__(partial(self._count, server))
        self.most = 0

    def _count(self, server) -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state = 'active'"
        with server.connect(autocommit=True) as session:
            while not self.over.is_set():
                self.most = max(self.most, session.execute(query, [MARK]).fetchone()[0])


def run(lake, kafka, stream, **asked):
    return reconcile(lake, stream, Asked(**asked), run_id="run", kafka=kafka, say=lambda _: None)


@pytest.mark.parametrize("history", [False, True])
def test_live_writes_change_nothing_in_the_verdict(live, server, history):
    lake, kafka, _ = live
    stream = contract(history=history)
    hidden = 0
    with Writers(server) as writers:
        for _ in range(2):
            before = writers.commits
            verdict = run(lake, kafka, stream).verdict
            hidden += writers.commits - before
            assert verdict.compared.equal, verdict.compared.rows
            assert verdict.compared.source_rows > 100
    assert hidden > 10, "others wrote meanwhile"
    verdict = run(lake, kafka, stream).verdict
    assert verdict.compared.equal
    assert verdict.compared.lake_rows == verdict.compared.source_rows
    prove(lake, stream)


@pytest.mark.parametrize("history", [False, True])
def test_what_is_wrong_in_the_lake_is_found_while_others_write(live, server, history):
    lake, kafka, _ = live
    stream = contract(history=history)
    assert run(lake, kafka, stream).verdict.compared.equal
    table = tables.dimension(stream)
    handle = lake.ensure(table)
    rows = lake.scan(handle).collect()
    with server.connect(autocommit=True) as session:
        session.execute(
            "INSERT INTO customers VALUES (1001, 'still', 1), (1002, 'still', 1), (1003, 'still', 1)"
        )
    assert run(lake, kafka, stream).verdict.compared.equal
    handle = lake.ensure(table)
    rows = lake.scan(handle).collect()
    name = pl.when(pl.col("id") == 1002).then(pl.lit("tampered")).otherwise("name").alias("name")
    wrong = rows.filter(pl.col("id") != 1001).with_columns(name)
    lake.commit(handle, wrong.select(list(table.columns)), mode="overwrite", predicate="id > -1")
    with Writers(server):
        done = run(lake, kafka, stream)
    told = {
        (kind, key, *columns) for kind, key, columns in done.told.select("kind", "key", "columns").iter_rows()
    }
    assert ("missing", '{"id": 1001}') in told
    assert ("different", '{"id": 1002}', "name") in told


def test_a_connector_that_does_not_deliver_is_named(live, monkeypatch):
    lake, kafka, _ = live
    monkeypatch.setattr("assets.as_of.WAIT", 0.0)
    stream = contract(history=False)
    object.__setattr__(stream, "source", Postgres(table="customers", connection="shop", messages="other"))
    kafka.create("other", 1)
    started = time.monotonic()
    with pytest.raises(MarkerLateError, match="other"):
        run(lake, kafka, stream)
    assert time.monotonic() - started < 60


def test_an_address_that_the_settings_lack_is_named(live, monkeypatch):
    lake, kafka, _ = live
    monkeypatch.setenv("SOURCE_CONNECTIONS", "{}")
    with pytest.raises(SettingsError, match="SOURCE_CONNECTIONS"):
        run(lake, kafka, contract(history=False))


@pytest.mark.parametrize("history", [False, True])
def test_lost_changes_are_repaired_at_their_position_while_others_write(live, server, history):
    lake, kafka, connector = live
    stream = contract(history=history)
    with server.connect(autocommit=True) as session:
        session.execute("INSERT INTO customers SELECT n, 'before', 1 FROM generate_series(1000, 1009) n")
        assert run(lake, kafka, stream).verdict.compared.equal
        connector.loses = True
        session.execute("UPDATE customers SET name = 'lost' WHERE id = 1001")
        session.execute("DELETE FROM customers WHERE id = 1002")
        session.execute("INSERT INTO customers VALUES (1010, 'lost', 2)")
        assert not run(lake, kafka, stream).verdict.compared.equal
        connector.loses = False
    with Writers(server):
        done = run(lake, kafka, stream, repair="yes")
    found = done.repaired.compared
    assert (found.missing, found.extra, found.different) == (1, 1, 1)
    assert done.verdict.compared.equal, done.verdict.compared.rows
    with server.connect(autocommit=True) as session:
        session.execute("UPDATE customers SET name = 'after' WHERE id >= 1000")
    verdict = run(lake, kafka, stream).verdict
    assert verdict.compared.equal, verdict.compared.rows
    prove(lake, stream)


def test_one_that_was_stopped_goes_on_where_it_was(live, server, monkeypatch):
    lake, kafka, _ = live
    stream = contract(history=False)
    with server.connect(autocommit=True) as session:
        session.execute("INSERT INTO customers SELECT n, 'many', 1 FROM generate_series(2000, 2999) n")
    asked = ended_half_way(monkeypatch, PostgresSnapshot)
    with pytest.raises(KeyboardInterrupt):
        run(lake, kafka, stream)
    first = len(asked)
    verdict = run(lake, kafka, stream, resume=True).verdict
    assert verdict.compared.equal
    assert "ranges as of snapshot" in verdict.position
    assert verdict.compared.ranges == 13
    assert 13 - 5 <= len(asked) - first < 13, "what was found equal is not asked for again"
    assert run(lake, kafka, stream, resume=True).verdict.position.count("ranges") == 0


def test_under_heavy_load_it_is_right_and_asks_for_no_more_than_it_may(live, server, monkeypatch):
    """Mongodb-cdc-delta T232: so many rows a second, so many sessions, while others write without a pause."""
    lake, kafka, _ = live
    stream = contract(history=False)
    with server.connect(autocommit=True) as session:
        session.execute("INSERT INTO customers SELECT n, 'many', 1 FROM generate_series(1000, 6999) n")
    monkeypatch.setattr("resources.text_compare.RANGE", 100)
    monkeypatch.setattr("resources.text_compare._AT_ONCE", 2)
    with Writers(server, 4, pauses=(0.001,)) as writers, Sessions(server) as sessions:
        before, began = writers.commits, time.monotonic()
        verdict = run(lake, kafka, stream, rows_per_second=3_000, parallel=2).verdict
        took = time.monotonic() - began
        written = writers.commits - before
    assert verdict.compared.equal, verdict.compared.rows
    assert verdict.compared.source_rows > 6_000
    assert took > 6_000 / 3_000
    assert 0 < sessions.most <= 2
    assert written > 300
