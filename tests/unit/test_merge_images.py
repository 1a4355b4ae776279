"""Versions of a whole data set, one complete image after the other, from the log to the dimension."""

import json
import random
from dataclasses import replace
from operator import itemgetter

import pandera.polars as pa
import polars as pl
import pytest

from assets import linked
from assets.folding import Folding
from assets.merge import merge
from resources.lake import Lake
from sluice import Changes, Debezium, Hourly, Json, tables
from sluice.history.scd2 import fold
from tests.engine import HOURS, both, prove, send
from tests.fake_kafka import FakeKafka
from tests.merging import customers, deliver, merged, silver_rows


class Country(pa.DataFrameModel):
    release: pl.Date
    code: str
    name: str
    population: int = pa.Field(nullable=True)


class Since(pa.DataFrameModel):
    release: pl.Date
    code: str
    since: int
    name: str


COUNTRIES = Changes(
    name="countries",
    topic="t",
    value=Json(),
    schema=Country,
    key="code",
    sequence="release",
    valid_from="release",
    snapshot="release",
    history=True,
    partitions=Hourly(start="2026-01-01"),
    max_quarantined=1.0,
)


def releases(rng: random.Random) -> list[tuple[str, dict[str, tuple]]]:
    """Make twelve monthly releases: names and numbers change, countries go, some come back."""
    image = {f"C{n}": (f"name {n}", n) for n in range(40)}
    found = []
    for month in range(1, 13):
        for code in rng.sample([f"C{n}" for n in range(40)], 6):
            if code in image and rng.random() < 0.4:
                del image[code]
            else:
                image[code] = (f"name {rng.randrange(5)}", rng.choice([None, month]))
        found.append((f"2025-{month:02}-01", dict(image)))
    return found


def expected(found: list[tuple[str, dict[str, tuple]]]) -> list[tuple]:
    """Compare each release with the one before it."""
    versions: list[list] = []
    opened: dict[str, list] = {}
    for day, image in found:
        for code in [c for c, version in opened.items() if image.get(c) != version[1]]:
            opened.pop(code)[3] = day
        for code in image.keys() - opened.keys():
            opened[code] = [code, image[code], day, None]
            versions.append(opened[code])
    return sorted(((c, *row, begin, end) for c, row, begin, end in versions), key=itemgetter(0, 3))


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=["as released", "late"])
def test_releases_of_a_data_set_become_its_history(tmp_path, order):
    """Merged as they come, in other orders too; sent twice, nothing changes."""
    rng = random.Random(7)  # noqa: S311  # a seeded test
    found = releases(rng)
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t", 2)
    rows = [
        {"release": day, "code": code, "name": name, "population": population}
        for day, image in found
        for code, (name, population) in image.items()
    ]
    for place, row in enumerate(rows):
        send(kafka, json.dumps(row).encode(), 180 * place / len(rows), rng.randrange(2))
    for tile in order:
        both(lake, kafka, COUNTRIES, [HOURS[tile]])
        merge(lake, COUNTRIES, say=str)
    prove(lake, COUNTRIES)
    assert told(lake) == expected(found)
    for row in rng.sample(rows, len(rows)):
        send(kafka, json.dumps(row).encode(), 190, rng.randrange(2))
    both(lake, kafka, COUNTRIES, HOURS[3:4])
    merge(lake, COUNTRIES, say=str)
    assert told(lake) == expected(found)


FOLLOWING = {
    "by sequence": {},
    "by offset": {"sequence": None},
    "latest": {"history": False},
    "nulls ignored": {"ignore_null": ("population",)},
    "names tracked": {"track": ("name",)},
}


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize("cut", ["whole", "anyhow"])
def test_a_release_is_merged_without_those_before_it(tmp_path, name, cut, monkeypatch):
    """Images follow from the rows that are open, however they are cut; those that come whole only so."""
    rng = random.Random(11)  # noqa: S311  # a seeded test
    stream = replace(COUNTRIES, **FOLLOWING[name])
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t")
    rows = [
        (hour, {"release": day, "code": code, "name": name, "population": population})
        for hour, (day, image) in enumerate(releases(rng)[:7])
        for code, (name, population) in image.items()
    ]
    for place, (hour, row) in enumerate(rows):
        minutes = 60 * hour if cut == "whole" else 380 * place / len(rows)
        send(kafka, json.dumps(row).encode(), minutes)
    anew: list[int] = []
    whole = Folding.anew
    monkeypatch.setattr(
        Folding, "anew", lambda self, bucket, *files: anew.append(bucket) or whole(self, bucket, *files)
    )
    order = [*stream.keys, "version"] if stream.history else list(stream.keys)
    for hour in range(7):
        both(lake, kafka, stream, [HOURS[hour]])
        merge(lake, stream, say=str)
        wanted = fold(lake.read(tables.silver(stream)).collect(), stream).sort(order)
        assert lake.read(tables.dimension(stream)).collect().select(wanted.columns).sort(order).equals(wanted)
        if cut == "whole" and hour:
            assert not anew
        anew.clear()


def told(lake: Lake) -> list[tuple]:
    rows = lake.read(tables.dimension(COUNTRIES)).collect()
    begin, end = (pl.col(name).cast(pl.String) for name in ("valid_from", "valid_to"))
    return sorted(rows.select("code", "name", "population", begin, end).rows(), key=itemgetter(0, 3))


class Row(pa.DataFrameModel):
    id: int
    v: str = pa.Field(nullable=True)


def test_a_snapshot_that_a_connector_takes_again_deletes_what_it_lacks(tmp_path):
    """Whatever buckets its markers and the absent keys are in; and until its last row is there, nothing."""
    stream = Changes(
        name="rows",
        topic="t",
        value=Debezium("postgresql"),
        schema=Row,
        key="id",
        history=True,
        partitions=Hourly(start="2026-01-01"),
        max_quarantined=1.0,
    )
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t")

    def read(minutes: float, lsn: int, keys: list[int], *, last: bool = True) -> None:
        for place, key in enumerate(keys):
            mark = "first" if not place else "last" if last and key == keys[-1] else "true"
            source = {"connector": "postgresql", "table": "t", "lsn": lsn, "ts_ms": lsn, "snapshot": mark}
            told = {"op": "r", "before": None, "after": {"id": key, "v": "a"}, "source": source}
            send(kafka, json.dumps(told).encode(), minutes)

    def current(tile: str) -> list[int]:
        both(lake, kafka, stream, [tile])
        merge(lake, stream, say=str)
        prove(lake, stream)
        return sorted(lake.read(tables.dimension(stream)).filter("is_current").collect()["id"])

    read(1, 100, list(range(60)))
    assert current(HOURS[0]) == list(range(60))
    read(61, 200, list(range(0, 60, 3)), last=False)  # the connector died
    assert current(HOURS[1]) == list(range(60))
    read(121, 300, list(range(0, 60, 2)))
    assert current(HOURS[2]) == list(range(0, 60, 2))


@pytest.mark.parametrize("at_once", [True, False])
def test_rows_that_say_themselves_since_when_lose_no_version(tmp_path, at_once):
    """What an image lacks ends when the last of its rows began: `C2` began after `C1` and `C4`."""
    stream = replace(COUNTRIES, valid_from="since", schema=Since, track=("name",))
    kafka, lake = FakeKafka(), Lake(str(tmp_path))
    kafka.create("t", 2)
    images = [{"C1": 1, "C2": 5}, {"C1": 1, "C3": 9, "C4": 3}, {"C3": 9, "C4": 3, "C5": 12}]
    told = [(hour, code, since) for hour, image in enumerate(images) for code, since in image.items()]
    for place, (hour, code, since) in enumerate(told):
        row = {"release": f"2025-0{hour + 1}-01", "code": code, "since": since, "name": code}
        send(kafka, json.dumps(row).encode(), 60 * hour + place, partition=place % 2)
    for tiles in [HOURS[:3]] if at_once else [HOURS[n : n + 1] for n in (0, 1, 2)]:
        both(lake, kafka, stream, tiles)
        merge(lake, stream, say=str)
    rows = lake.read(tables.dimension(stream)).select("code", "valid_from", "valid_to").collect().sort("code")
    assert rows.rows() == [("C1", 1, 12), ("C2", 5, 9), ("C3", 9, None), ("C4", 3, None), ("C5", 12, None)]


def test_small_files_of_images_are_read_together(tmp_path, monkeypatch):
    """A hundred images in as many runs are a thousand files: each by itself costs more than its rows."""
    stream, lake, looked = customers(snapshot="image", sequence=("image", "n")), Lake(str(tmp_path)), []
    first = linked.first_of_images
    monkeypatch.setattr(linked, "first_of_images", lambda rows, image: looked.append(1) or first(rows, image))
    for n in range(3):
        rows = [{"id": key, "city": "x", "image": f"{n}", "n": n} for key in range(40) if key % 3 != n]
        deliver(lake, stream, silver_rows(stream, rows))
    merged(lake, stream)
    assert len(looked) == 1
    versions = lake.read(tables.dimension(stream)).collect()
    assert versions.filter("is_current").height == len([key for key in range(40) if key % 3 != 2])
