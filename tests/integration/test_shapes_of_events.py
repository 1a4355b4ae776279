"""Events of awkward shapes through a real Kafka and Dagster, against plain Python and in other orders."""

import base64
import json
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from tests.running import Project, Record, assert_same, fill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
START = datetime(2026, 1, 5, 3, tzinfo=UTC)
HOURS = [f"2026-01-05-{hour:02}:00" for hour in range(3, 8)]
BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 3, 27, 0, 30)  # noqa: DTZ001  # local time, as it is told


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def reading(number: int, **changes: object) -> dict:
    at = START + timedelta(minutes=number)
    members = {
        "type": "reading",
        "meta": {"at": ms(at), "version": 2},
        "site": f"s{number % 3}",
        "sensor": number % 7,
        "value": Decimal(f"{12345678901234567890 + number}.0123456789"),
        "ratio": number / 3,
        "small": 2**64 - 1 - number,
        "on": number % 2 == 0,
        "day": "2026-02-28",
        "clock": "23:59:59.999999",
        "lasted": "PT1H0.5S",
        "raw": base64.b64encode(bytes([number % 256, 255])).decode(),
        "state": "ok",
        "tags": ["a", None, "ä\U0001f600"],
        "points": [{"x": 1.25, "at": ms(at), "more": [1, 2]}, None],
        "place": {"lat": -0.5, "names": []},
        "Salary EUR": number + 0.5,
        "unknown": {"kept": "in bronze"},
    }
    return {name: value for name, value in (members | changes).items() if value is not ...}


def encode(members: dict) -> bytes:
    """Write numbers as they are: a decimal digit for digit."""
    text = json.dumps(members, default=lambda value: f"__{value}__")
    return text.replace('"__', "").replace('__"', "").encode()


@pytest.fixture(scope="module")
def readings(kafka: str) -> list[dict]:
    """Send readings over five hours; some late, twice, with nulls, of another type, wrong."""
    told = [reading(n) for n in range(280)]
    told += [reading(n) for n in range(0, 280, 9)]  # again, an hour or more later
    told += [reading(n, value=Decimal(1)) for n in range(0, 280, 40)]  # of equal key and time, another value
    optional = list(reading(0))[5:17]
    told += [reading(300 + n, **{name: None}) for n, name in enumerate(optional)]
    told += [reading(320 + n, **{name: ...}) for n, name in enumerate(optional)]
    told += [reading(0, type="other"), reading(0, meta={"at": ms(START), "version": 3}), reading(0, type=...)]
    told += [reading(400 + n, site=None) for n in range(2)]
    told += [reading(410, meta={"at": ms(START - timedelta(days=9)), "version": 2})]  # not believable
    told += [reading(420, small=-1), reading(421, state="maybe"), reading(422, value="1.00000000001")]
    random.Random(3).shuffle(told)  # noqa: S311  # an order, nothing secret
    records = (
        Record(encode(members), ms(START) + n * 50_000, partition=n % 2) for n, members in enumerate(told)
    )
    fill(kafka, "shapes.readings", records, partitions=2)
    return told


@pytest.fixture(scope="module")
def one_range(kafka: str, readings: list[dict], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Bring all five hours in by one run."""
    made = Project(tmp_path_factory.mktemp("shapes"), kafka).declare("shapes")
    made.both("readings", (HOURS[0], HOURS[-1])).good()
    return made


def test_every_kind_of_column_is_stored_as_sent(one_range: Project):
    rows = {(r["sensor"], r["site"], r["at"]): r for r in one_range.table("silver/readings").to_dicts()}
    number = 8  # sent once
    at = START + timedelta(minutes=number)
    row = rows[number % 7, f"s{number % 3}", at]
    assert row["value"] == Decimal("12345678901234567898.0123456789")
    assert row["ratio"] == number / 3
    assert row["small"] == 2**64 - 1 - number
    assert (row["on"], row["day"], row["state"]) == (True, date(2026, 2, 28), "ok")
    assert row["clock"] == 86_399_999_999
    assert row["lasted"] == 3_600_500_000
    assert row["raw"] == bytes([number, 255])
    assert row["tags"] == ["a", None, "ä\U0001f600"]
    assert row["points"] == [{"x": Decimal("1.25"), "at": at, "more": [1, 2]}, None]
    assert row["place"] == {"lat": -0.5, "names": []}
    assert row["Salary EUR"] == number + 0.5
    assert row["_event_date"] == date(2026, 1, 5)


def test_every_reading_is_in_the_place_that_it_deserves(one_range: Project, readings: list[dict]):
    of_stream = [r for r in readings if r.get("type") == "reading" and r["meta"]["version"] == 2]
    at = [datetime.fromtimestamp(r["meta"]["at"] / 1000, UTC) for r in of_stream]
    wrong = {"site": "key", "small": "schema", "state": "schema", "value": "schema", "meta": "rule"}
    stages = Counter()
    good: dict[tuple, list[dict]] = {}
    for members, when in zip(of_stream, at, strict=True):
        if members["site"] is None:
            stages[wrong["site"]] += 1
        elif (
            members.get("small") == -1 or members.get("state") == "maybe" or isinstance(members["value"], str)
        ):
            stages["schema"] += 1
        elif when < START - timedelta(days=1):
            stages["rule"] += 1
        else:
            good.setdefault((members["site"], members["sensor"], when), []).append(members)
    told = one_range.accounts("readings")
    assert told["read"] == len(readings)
    assert told["ignored"] == len(readings) - len(of_stream) == 3
    assert one_range.table("silver/readings").height == len(good) == told["accepted"]
    assert told["duplicates"] + told["conflicts"] == sum(len(of) - 1 for of in good.values())
    refused = one_range.table("quarantine/readings")
    assert dict(refused["stage"].value_counts().iter_rows()) == stages
    assert set(refused.filter(pl.col("stage") == "schema")["column"]) == {"small", "state", "value"}
    one_range.prove("readings")


def test_hours_in_any_order_give_the_tables_of_the_range(one_range: Project, kafka: str, tmp_path: Path):
    made = Project(tmp_path, kafka).declare("shapes")
    for hour in (3, 0, 4, 2, 1):
        made.both("readings", HOURS[hour]).good()
    assert_same(made.state("readings"), one_range.state("readings"))
    made.prove("readings")


@pytest.fixture(scope="module")
def trips(kafka: str) -> list[dict]:
    """Send trips over the days around the change to summer time, told in local time, some late or again."""
    told = []
    for n in range(120):
        local = FRIDAY + timedelta(minutes=53 * n)
        if local.date() == date(2026, 3, 29) and local.hour == 2:
            continue  # an hour that there was not
        began = local if n % 5 else local - timedelta(days=2)  # some are told two days late
        told.append(
            {
                "trip": f"t{n % 50}",
                "kind": "car" if n % 4 else "bike",
                "began": began.isoformat(),
                "km": "1.0" if n % 11 else 5000,
                "sent": local,
            }
        )
    records = (
        Record(json.dumps(t | {"sent": None}).encode(), ms(t["sent"].replace(tzinfo=BERLIN))) for t in told
    )
    fill(kafka, "shapes.trips", records)
    return told


def test_days_of_a_time_zone_with_a_change_of_clocks(kafka: str, trips: list[dict], tmp_path: Path):
    made = Project(tmp_path, kafka).declare("shapes")
    days = sorted({t["sent"].date().isoformat() for t in trips})
    for day in reversed(days):
        made.both("trips", day).good()
    bronze = made.table("bronze/trips")["tile"].value_counts()
    assert dict(bronze.iter_rows()) == Counter(t["sent"].date().isoformat() for t in trips)
    mine = [t for t in trips if t["kind"] == "car" and float(t["km"]) < 1000]
    assert made.accounts("trips")["ignored"] == len(trips) - len(mine)
    began = [datetime.fromisoformat(t["began"]).replace(tzinfo=BERLIN).astimezone(UTC) for t in mine]
    first: dict[str, datetime] = {}
    for trip, at in sorted(zip((t["trip"] for t in mine), began, strict=True), key=lambda pair: pair[1]):
        first.setdefault(trip, at)
    kept = made.table("silver/trips").select("trip", "began")
    assert dict(kept.iter_rows()) == first
    tile_start = [datetime.combine(t["sent"].date(), datetime.min.time(), BERLIN) for t in mine]
    late = sum(at < start for at, start in zip(began, tile_start, strict=True))
    assert made.accounts("trips")["late"] == late
    made.prove("trips")
    whole = Project(tmp_path / "whole", kafka).declare("shapes")
    whole.both("trips", (days[0], days[-1])).good()
    assert_same(made.state("trips"), whole.state("trips"))
