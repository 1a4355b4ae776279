"""141,712 states of 24,918 incidents through a real Kafka and Dagster, against a fold in plain Python."""

import csv
import io
import json
import random
import zipfile
import zlib
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.running import CONTRACTS, Project, Record, fill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
TRACKED = {
    "by_state": ("ident_state",),
    "by_four": ("ident_state", "assignment_group", "assigned_to", "priority"),
}
NAMES = ("number", "sys_mod_count", "sys_updated_at", *TRACKED["by_four"])
NUMBERS = ("sys_mod_count", "assignment_group", "assigned_to")
RANGE = ("2016-01-01", "2016-02-14")
BEGIN = datetime(2016, 1, 1, tzinfo=UTC)  # they are sent within six weeks, a tenth of the time they took


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[dict]:
    """Read the log: `?` is null, times are to the minute; in the order of the updates."""
    with zipfile.ZipFile(shared_data / "streams" / "incidents" / "incident_event_log.zip") as archive:
        text = archive.read("incident_event_log/incident_event_log.csv").decode()
    read = []
    for told in csv.DictReader(io.StringIO(text)):
        row = {name: None if told[name] == "?" else told[name] for name in NAMES}
        row |= {name: int(row[name]) for name in NUMBERS if row[name] is not None}
        row["sys_updated_at"] = datetime.strptime(told["sys_updated_at"], "%d/%m/%Y %H:%M").replace(
            tzinfo=UTC
        )
        read.append(row)
    return sorted(read, key=lambda row: row["sys_updated_at"])


def encode(row: dict) -> bytes:
    return json.dumps(row | {"sys_updated_at": row["sys_updated_at"].isoformat()}).encode()


def sent(row: dict) -> int:
    return int((BEGIN + (row["sys_updated_at"] - BEGIN) / 10).timestamp() * 1000)


def own_partition(row: dict) -> int:
    return zlib.crc32(row["number"].encode()) % 3


def folded(delivered: list[tuple[int, dict]], track: tuple[str, ...]) -> dict[str, list[tuple]]:
    """Fold by hand: of equal sequences the last delivered, running maximum, the last of equal beginnings.

    Takes rows with their Kafka partition; gives `valid_from, valid_to, tracked values` of every version.
    """
    places: dict[str, dict[int, tuple]] = defaultdict(dict)
    for number, (partition, row) in enumerate(delivered):
        told = (partition, number, row)
        before = places[row["number"]].get(row["sys_mod_count"])
        if before is None or told[:2] > before[:2]:
            places[row["number"]][row["sys_mod_count"]] = told
    versions = {}
    for key, of in places.items():
        clock, states = datetime.min.replace(tzinfo=UTC), {}
        for place in sorted(of):
            row = of[place][2]
            clock = max(clock, row["sys_updated_at"])
            states[clock] = tuple(row[name] for name in track)
        told = []
        for at, values in states.items():
            if told and told[-1][2] == values:
                continue
            if told:
                told[-1] = (told[-1][0], at, told[-1][2])
            told.append((at, None, values))
        versions[key] = told
    return versions


def held(made: Project, name: str) -> dict[str, list[tuple]]:
    """Read the versions from the lake, in their order."""
    found = defaultdict(list)
    columns = ["number", "version", "is_current", "valid_from", "valid_to", *TRACKED[name]]
    for key, version, current, begin, end, *values in made.dimension(name).select(columns).iter_rows():
        assert version == len(found[key]) + 1
        assert current is (end is None)
        found[key].append((begin, end, tuple(values)))
    return found


@pytest.fixture(scope="module")
def in_order(kafka: str, rows: list[dict], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Send the states as they happened, and fold them."""
    records = (Record(encode(row), sent(row), partition=own_partition(row)) for row in rows)
    fill(kafka, "incidents", records, partitions=3)
    made = Project(tmp_path_factory.mktemp("incidents"), kafka).declare("incidents")
    made.run("group:bronze or group:silver", RANGE).good()
    made.run("group:dimensions").good()
    return made


@pytest.mark.parametrize("name", TRACKED)
def test_versions_are_those_counted_by_hand(in_order: Project, rows: list[dict], name: str):
    placed = [(own_partition(row), row) for row in rows]
    must = folded(placed, TRACKED[name])
    is_ = held(in_order, name)
    differing = [key for key in must if must[key] != is_.get(key)]
    assert not differing, (differing[0], is_.get(differing[0]), must[differing[0]])
    assert len(is_) == len(must) == 24_918
    assert in_order.dimension(name).height == sum(map(len, must.values()))


def test_every_state_is_accounted_for(in_order: Project, rows: list[dict], shared_data: Path):
    facts = json.loads((shared_data / "streams" / "incidents" / "facts.json").read_text())
    for name in TRACKED:
        told = in_order.accounts(name)
        assert told["read"] == len(rows) == facts["rows"]
        assert told["duplicates"] + told["conflicts"] == facts["duplicate_(number,sys_mod_count)"]
        assert told["quarantined"] == 0
        in_order.prove(name)
        final = in_order.dimension(name).filter("is_current")["ident_state"].value_counts()
        assert dict(final.iter_rows()) == facts["final_state_by_max_sys_mod_count"]


def test_shuffled_delivery_gives_the_same_versions(kafka: str, rows: list[dict], tmp_path: Path):
    shuffled = list(rows)
    random.Random(11).shuffle(shuffled)  # noqa: S311  # an order, nothing secret
    placed = [(n % 2, row) for n, row in enumerate(shuffled)]
    stamp = int(BEGIN.timestamp() * 1000)
    records = (Record(encode(row), stamp + n, partition=p) for n, (p, row) in enumerate(placed))
    fill(kafka, "incidents.shuffled", records, partitions=2)
    contract = (CONTRACTS / "incidents.py").read_text().replace('"incidents"', '"incidents.shuffled"')
    made = Project(tmp_path, kafka).write("incidents", contract)
    made.run('key:"bronze/by_state" or key:"silver/by_state"', "2016-01-01").good()
    made.run('key:"dimensions/by_state"').good()
    by_hand = folded(placed, TRACKED["by_state"])
    assert dict(held(made, "by_state")) == by_hand
    assert isinstance(made.dimension("by_state"), pl.DataFrame)
