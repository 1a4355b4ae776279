"""Which dates of gold a change of a dimension concerns: the facts whose as-of join sees another version."""

import random
from dataclasses import replace
from datetime import date, timedelta

import pandera.polars as pa
import polars as pl
import pytest

from assets import touched
from assets.merge import merge
from resources.data_files import DataFiles
from resources.dbt import AsOfJoin
from resources.lake import Lake
from sensors.touched_dates import dates_owed
from sluice import Changes, Hourly, Json, tables
from tests.engine import HOURS, START, both, decide, ms, orders, value
from tests.fake_kafka import FakeKafka

FACTS = orders()
JOIN = AsOfJoin("fct_orders", "people", "orders", "order_id", "at")
OPEN = START + timedelta(minutes=30)  # the tile is open, and grows
DAYS = [date(2026, 1, 1) + timedelta(days=n) for n in range(10)]


class Person(pa.DataFrameModel):
    id: str
    city: str
    since: pl.Datetime("us", "UTC")


class PersonWithAge(Person):
    age: int = pa.Field(nullable=True)


PEOPLE = Changes(
    topic="people",
    value=Json(),
    schema=Person,
    key="id",
    sequence="since",
    valid_from="since",
    history=True,
    delete_when=pl.col("city") == "gone",
    track=("city",),
    partitions=Hourly(start="2026-01-01"),
    max_quarantined=1.0,
    name="people",
)


@pytest.fixture
def kafka() -> FakeKafka:
    """Give a fact of `a` on each of ten days at noon, and one of `b`."""
    kafka = FakeKafka()
    kafka.create("t")
    kafka.create("people")
    for n in range(10):
        kafka.produce("t", value("a", "1", n * 1440 + 720), stamp_ms=ms(START) + n)
    kafka.produce("t", value("b", "1", 720), stamp_ms=ms(START) + 99)
    return kafka


@pytest.fixture
def lake(tmp_path, kafka) -> Lake:
    lake = Lake(str(tmp_path))
    both(lake, kafka, FACTS, HOURS[:1])
    merge(lake, PEOPLE, say=str)
    return lake


def lives(kafka: FakeKafka, name: str, city: str, day: int) -> None:
    since = (START + timedelta(days=day)).isoformat()
    raw = f'{{"id": "{name}", "city": "{city}", "since": "{since}"}}'.encode()
    kafka.produce("people", raw, stamp_ms=ms(START))


def owed(lake: Lake, kafka: FakeKafka) -> set[date]:
    """Bring what happened into the dimension; give the dates that gold owes for it."""
    since = touched.versions(lake, [FACTS, PEOPLE])
    both(lake, kafka, PEOPLE, HOURS[:1], now=OPEN)
    merge(lake, PEOPLE, say=str)
    return dates_owed(lake, [FACTS, PEOPLE], [JOIN], since, touched.versions(lake, [FACTS, PEOPLE]))


def test_the_first_version_concerns_all_facts_of_its_key(lake, kafka):
    """Facts before it are joined to it as well."""
    lives(kafka, "a", "Bonn", 4)
    assert owed(lake, kafka) == set(DAYS)


def test_a_later_version_concerns_the_facts_from_then_on(lake, kafka):
    lives(kafka, "a", "Bonn", 0)
    owed(lake, kafka)
    lives(kafka, "a", "Rome", 6)
    assert owed(lake, kafka) == set(DAYS[6:])
    lives(kafka, "a", "Oslo", 8)
    assert owed(lake, kafka) == set(DAYS[8:])


def test_a_version_that_came_late_concerns_its_interval(lake, kafka):
    """And the versions after it, which have other numbers now; none before (kinesis 37)."""
    for city, day in (("Bonn", 0), ("Rome", 6), ("Oslo", 9)):
        lives(kafka, "a", city, day)
        owed(lake, kafka)
    lives(kafka, "a", "Kyiv", 7)
    assert owed(lake, kafka) == set(DAYS[7:])


def test_a_version_that_begins_earlier_concerns_the_time_between(lake, kafka):
    """The number, and what is seen later, are as before."""
    for city, day in (("Bonn", 0), ("Rome", 8)):
        lives(kafka, "a", city, day)
        owed(lake, kafka)
    lives(kafka, "a", "Rome", 3)
    assert owed(lake, kafka) == set(DAYS[3:8])


def test_a_first_version_that_begins_earlier_concerns_what_was_before_it(lake, kafka):
    """How the version was found is another: valid then, no more the first of all."""
    lives(kafka, "a", "Bonn", 8)
    owed(lake, kafka)
    lives(kafka, "a", "Bonn", 3)
    assert owed(lake, kafka) == set(DAYS[3:8])


def test_the_end_of_a_key_concerns_the_time_after_it(lake, kafka):
    """And what comes back after it only the time from then on."""
    lives(kafka, "a", "Bonn", 0)
    owed(lake, kafka)
    lives(kafka, "a", "gone", 4)
    assert owed(lake, kafka) == set(DAYS[4:])
    lives(kafka, "a", "Bonn", 7)
    assert owed(lake, kafka) == set(DAYS[7:])


def test_other_keys_and_silence_concern_nothing(lake, kafka):
    lives(kafka, "stranger", "Bonn", 0)
    assert owed(lake, kafka) == set()
    lives(kafka, "b", "Bonn", 0)
    assert owed(lake, kafka) == {DAYS[0]}
    lives(kafka, "b", "Bonn", 3)  # no new version, but another `since`, which is not tracked
    assert owed(lake, kafka) == {DAYS[0]}


def test_a_new_column_of_a_dimension_does_not_stop_gold(lake, kafka):
    """Versions before it have no such column; what is asked for is at least what changed."""
    lives(kafka, "a", "Bonn", 0)
    owed(lake, kafka)
    since = touched.versions(lake, [FACTS, PEOPLE])
    older = replace(PEOPLE, schema=PersonWithAge)
    kafka.produce(
        "people",
        b'{"id": "a", "city": "Rome", "since": "2026-01-08T00:00:00Z", "age": 7}',
        stamp_ms=ms(START),
    )
    both(lake, kafka, older, HOURS[:1], now=OPEN)
    merge(lake, older, say=str)
    found = dates_owed(lake, [FACTS, older], [JOIN], since, touched.versions(lake, [FACTS, older]))
    assert found == set(DAYS[7:])


def test_many_keys_are_looked_at_a_bucket_at_a_time(tmp_path, kafka, monkeypatch):
    """And what is asked for is what a look at all facts and versions finds."""
    rng = random.Random(7)  # noqa: S311
    keys = [f"k{n}" for n in range(40)]
    for n, key in enumerate(keys):
        kafka.produce("t", value(key, "1", rng.randrange(10) * 1440 + 720), stamp_ms=ms(START) + 200 + n)
    lake = Lake(str(tmp_path))
    both(lake, kafka, FACTS, HOURS[:1])
    merge(lake, PEOPLE, say=str)
    read = DataFiles.read

    def of_one_bucket(self, paths):
        assert len({path.partition("/")[0] for path in paths}) <= 1
        return read(self, paths)

    for some in (keys, keys[:15], [*keys[30:], "a"]):
        before = seen_by_all(lake)
        for key in some:
            lives(kafka, key, rng.choice(("Bonn", "Rome", "gone")), rng.randrange(10))
        with monkeypatch.context() as patched:
            patched.setattr("assets.touched.DataFiles.read", of_one_bucket)
            found = owed(lake, kafka)
        now = seen_by_all(lake)
        assert 0 < len(found) <= len(DAYS)
        assert found == {fact[1].date() for fact in now if now[fact] != before[fact]}


def seen_by_all(lake) -> dict:
    """Give what each fact sees: the version that holds its time, else the first one."""
    facts = lake.read(tables.silver(FACTS)).select("order_id", "at").collect().rows()
    versions = lake.read(tables.dimension(PEOPLE)).sort("id", "version").collect().to_dicts()
    found = {}
    for key, at in facts:
        mine = [v for v in versions if v["id"] == key]
        held = [v for v in mine if v["valid_from"] <= at and (v["valid_to"] is None or at < v["valid_to"])]
        first = mine[:1] if mine and at < mine[0]["valid_from"] else []
        found[key, at] = [(v["version"], v["city"], v["since"], bool(held)) for v in (held or first)]
    return found


def test_rows_that_are_decided_anew_touch_their_dates(lake):
    """(kinesis 37)."""
    since = lake.open(tables.silver(FACTS).name).version()
    decide(lake, FACTS, HOURS[:1], replace=True)
    upto = lake.open(tables.silver(FACTS).name).version()
    assert touched.by_rows(lake, FACTS, since, upto) == set(DAYS)
    assert touched.by_rows(lake, FACTS, upto, upto) == set()


def test_a_table_that_is_not_there_has_no_version(tmp_path):
    assert touched.versions(Lake(str(tmp_path)), [FACTS, PEOPLE]) == {}
