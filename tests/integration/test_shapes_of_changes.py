"""Changes of awkward shapes through a real Kafka and Dagster, against plain Python and in other orders."""

import json
import random
import zlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.running import Project, Record, assert_same, fill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
NAMES = ("history", "latest", "sparse", "by_place", "images")
HOURS = [f"2026-01-05-{hour:02}:00" for hour in range(5)]
LAYERS = " or ".join(f'key:"{layer}/{name}"' for name in NAMES for layer in ("bronze", "silver"))


@pytest.fixture(scope="module")
def prices(kafka: str) -> list[dict]:
    """Send prices of two shops in wrong order over five hours and two partitions, deletes among them."""
    rng = random.Random(17)  # noqa: S311  # made-up data
    told = [
        {
            "shop": f"s{number % 2}",
            "article": f"a{rng.randrange(8)}",
            "price": rng.choice([None, "1.00", 2, 2.5]),
            "colour": rng.choice([None, "red", "blue"]),
            "day": (date(2026, 1, 1) + timedelta(days=number // 12)).isoformat(),
            "number": number,
            "gone": True if rng.random() < 0.1 else None,
        }
        for number in range(300)
    ]
    rng.shuffle(told)
    told += told[:20]  # again
    start = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
    stamps = [start + n * 55_000 for n in range(len(told))]
    records = [
        Record(json.dumps(m).encode(), s, partition=zlib.crc32(f"{m['shop']}{m['article']}".encode()) % 2)
        for m, s in zip(told, stamps, strict=True)
    ]
    fill(kafka, "shapes.prices", records, partitions=2)
    return told


@pytest.fixture(scope="module")
def folded(kafka: str, prices: list[dict], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Fold all prices by every contract, in one run each."""
    made = Project(tmp_path_factory.mktemp("prices"), kafka).declare("shapes")
    made.run("group:dimensions").good()
    for name in NAMES:  # they exist from the first run on
        assert made.dimension(name).is_empty()
    made.run(LAYERS, (HOURS[0], HOURS[-1])).good()
    made.run("group:dimensions").good()
    made.prove(*NAMES)
    return made


def model(prices: list[dict], *, order, begin, track, unsent=()) -> dict[tuple, list[tuple]]:
    """Fold by hand: `valid_from, valid_to, values of track`, a list a key."""
    every = sorted({order(m): m for m in prices}.items(), key=lambda pair: pair[0])
    found = {}
    for key in {(m["shop"], m["article"]) for m in prices}:
        states: dict[object, dict | None] = {}
        image, clock = None, None
        for _, change in every:
            if (change["shop"], change["article"]) != key:
                continue
            clock = max(clock, begin(change)) if clock is not None else begin(change)
            if change["gone"]:
                image = None
            else:
                old = image or {}
                image = {n: old.get(n) if change[n] is None and n in unsent else change[n] for n in track}
            states[clock] = image
        versions: list[tuple] = []
        before = None
        for at, now in states.items():
            values = None if now is None else tuple(now[n] for n in track)
            if values == before:
                continue
            if before is not None:
                versions[-1] = (versions[-1][0], at, versions[-1][2])
            if values is not None:
                versions.append((at, None, values))
            before = values
        found[key] = versions
    return {key: versions for key, versions in found.items() if versions}


def typed(value: object) -> object:
    return None if value is None else Decimal(str(value))


def held(made: Project, name: str, track: tuple[str, ...]) -> dict[tuple, list[tuple]]:
    found: dict[tuple, list[tuple]] = {}
    for row in made.dimension(name).iter_rows(named=True):
        of = found.setdefault((row["shop"], row["article"]), [])
        of.append((row["valid_from"], row["valid_to"], tuple(row[n] for n in track)))
        assert row["version"] == len(of)
        assert row["is_current"] is (row["valid_to"] is None)
    return found


def test_versions_begin_on_the_days_told(folded: Project, prices: list[dict]):
    own = [m | {"price": typed(m["price"])} for m in prices]
    must = model(
        own,
        order=lambda m: (m["day"], m["number"]),
        begin=lambda m: date.fromisoformat(m["day"]),
        track=("price",),
    )
    assert held(folded, "history", ("price",)) == must


def test_the_latest_image_has_no_deleted_keys(folded: Project, prices: list[dict]):
    last: dict[tuple, dict] = {}
    for m in sorted(prices, key=lambda m: m["number"]):
        last[m["shop"], m["article"]] = m
    must = {k: (typed(m["price"]), m["colour"], m["number"]) for k, m in last.items() if not m["gone"]}
    rows = folded.dimension("latest")
    assert "valid_from" not in rows.columns
    is_ = {row[:2]: row[2:] for row in rows.select("shop", "article", "price", "colour", "number").rows()}
    assert is_ == must


def test_nulls_that_were_not_sent_keep_the_old_value(folded: Project, prices: list[dict]):
    sent: dict[int, datetime] = {}
    for row in folded.table("silver/sparse").select("number", "_timestamp").iter_rows():
        sent[row[0]] = row[1]
    own = [m | {"price": typed(m["price"])} for m in prices]
    track = ("price", "colour", "day")
    must = model(
        own,
        order=lambda m: m["number"],
        begin=lambda m: sent[m["number"]],
        track=("price", "colour"),
        unsent=("price", "colour"),
    )
    is_ = {
        key: merged([(b, e, v[:2]) for b, e, v in versions])
        for key, versions in held(folded, "sparse", track).items()
    }
    assert is_ == must


def merged(versions: list[tuple]) -> list[tuple]:
    """Join neighbours of equal values: the contract also tracks columns that the model leaves out."""
    joined: list[tuple] = []
    for begin, end, values in versions:
        if joined and joined[-1][1] == begin and joined[-1][2] == values:
            joined[-1] = (joined[-1][0], end, values)
        else:
            joined.append((begin, end, values))
    return joined


def test_hours_in_any_order_with_folds_between_give_the_same_dimensions(
    folded: Project, kafka: str, tmp_path: Path
):
    made = Project(tmp_path, kafka).declare("shapes")
    for hour in (2, 4, 0, 3, 1):
        made.run(LAYERS, HOURS[hour]).good()
        made.run("group:dimensions").good()
    for name in NAMES:
        assert_same(made.state(name), folded.state(name))
        assert made.dimension(name).equals(folded.dimension(name)), name
    made.prove(*NAMES)


def test_what_an_image_lacks_is_deleted(folded: Project, prices: list[dict]):
    rows = folded.dimension("images")
    days = sorted({m["day"] for m in prices})
    newest = {(m["shop"], m["article"]) for m in prices if m["day"] == days[-1]}
    current = rows.filter("is_current").select("shop", "article").rows()
    assert sorted(current) == sorted(newest)
    for day in (days[3], days[11]):
        at = date.fromisoformat(day)
        open_then = rows.filter(
            (pl.col("valid_from") <= at) & (pl.col("valid_to").is_null() | (pl.col("valid_to") > at))
        )
        there = {(m["shop"], m["article"]) for m in prices if m["day"] == day}
        assert set(open_then.select("shop", "article").rows()) == there
