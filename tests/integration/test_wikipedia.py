"""39,244 edits of Wikipedia, some with wrong clocks, through a real Kafka and Dagster, against the facts."""

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.running import Project, Record, fill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
TILES = ("2015-09-01", "2015-11-01")
DAY = "2015-09-12"


@pytest.fixture(scope="module")
def edits(shared_data: Path) -> list[dict]:
    """Read the edits in the order of the file."""
    file = shared_data / "streams" / "wikipedia-edits" / "wikiticker-2015-09-12-sampled.json.gz"
    with gzip.open(file) as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def facts(shared_data: Path) -> dict:
    """Read what is known about them."""
    return json.loads((shared_data / "streams" / "wikipedia-edits" / "facts.json").read_text())


@pytest.fixture(scope="module")
def made(kafka: str, edits: list[dict], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Send them in the order of the file, stamped as they say, and bring all days in."""
    records = (
        Record(json.dumps(e).encode(), int(datetime.fromisoformat(e["time"]).timestamp() * 1000))
        for e in edits
    )
    fill(kafka, "wikipedia.edits", records)
    project = Project(tmp_path_factory.mktemp("wikipedia"), kafka).declare("wikipedia")
    project.both("edits", TILES).good()
    return project


def test_every_edit_is_in_silver_and_the_sums_are_those_known(made: Project, edits: list[dict], facts: dict):
    silver = made.table("silver/edits")
    assert silver.height == len(edits) == facts["rows"]
    assert silver["added"].sum() == facts["sum_added"]
    assert silver["deleted"].sum() == facts["sum_deleted"]
    assert silver["is_robot"].sum() == facts["robots"]
    assert silver["country"].null_count() == facts["null_country"]
    told = made.accounts("edits")
    assert (told["read"], told["accepted"]) == (facts["rows"], facts["rows"])
    made.prove("edits")


def test_every_value_is_the_one_sent(made: Project, edits: list[dict]):
    names = {
        "time": "time",
        "page": "page",
        "user": "user",
        "comment": "comment",
        "isAnonymous": "is_anonymous",
        "delta": "delta",
        "namespace": "namespace",
    }
    rows = made.silver("edits").select(list(names.values()))
    sent = [
        tuple(datetime.fromisoformat(e[n]).astimezone(UTC) if n == "time" else e[n] for n in names)
        for e in edits
    ]
    assert rows.rows() == sent


def test_wrong_clocks_move_no_bound(made: Project, edits: list[dict], facts: dict):
    by_tile = dict(made.table("bronze/edits")["tile"].value_counts().iter_rows())
    right = sum(e["time"].startswith(DAY) for e in edits)
    assert right == facts["rows_on_2015-09-12"]
    assert by_tile[DAY] >= right - facts["rows_far_off_(edited by the repository owner)"]
    dates = dict(made.table("silver/edits")["_event_date"].value_counts().iter_rows())
    assert dates == Counter(datetime.fromisoformat(e["time"]).date() for e in edits)


def test_what_came_late_is_counted(made: Project):
    rows = made.table("silver/edits")
    begins = pl.col("_tile").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
    late = rows.filter(pl.col("time") + pl.duration(hours=1) < begins).height
    assert made.accounts("edits")["late"] == late
    assert late > 0
