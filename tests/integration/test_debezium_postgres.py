"""PostgreSQL by way of a real Debezium into dimensions, through crashes, against the database's own history.

One story (`debezium_story`) is lived once. Sluice follows one of its connectors chapter by chapter, while
things happen, and reads what the other told all at once.
`SLUICE_TRANSACTIONS` and `SLUICE_SEED` make the story longer, or another one, than CI has time for.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import polars as pl
import pytest

from demo.postgres import server_programs
from sluice.errors import DemoServerError, DownloadError
from tests.integration.database_history import Blind, Row, States, as_of, as_row, states, versions
from tests.integration.workload import TABLES, Marker
from tests.running import Project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
TRANSACTIONS = int(os.environ.get("SLUICE_TRANSACTIONS", "480"))
SEED = int(os.environ.get("SLUICE_SEED", "5"))
PREFIXES = ("plain", "block")  # without embedded schemas, chapter by chapter; with, and all at once
FOLLOWED = ("_kafka_killed", "_offsets_lost")  # at whose ends Sluice runs
NEVER = datetime.min.replace(tzinfo=UTC)
# Columns that an ALTER TABLE changed without telling the rows that stood.
UNTOLD = {"people": {"due", "due_on", "weight"}}


Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Lived:
    """What is left of the story: the database's own history, and a lake of each connector."""

    projects: dict[str, Project]
    history: dict[tuple[str, str], States]
    markers: list[Marker]
    told: dict[str, list[Event]]
    blind: dict[str, list[Blind]]


@pytest.fixture(scope="module")
def lived(kafka_jars: None, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Live the story once."""
    try:
        server_programs()
        from demo.connect import connect_jars, plugin  # noqa: PLC0415  # its group may not be installed

        connect_jars()
        plugin()
    except (DemoServerError, DownloadError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no PostgreSQL with Debezium on this machine: {error}")
    from tests.integration.debezium_story import Story  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("debezium")
    with Story(folder, TRANSACTIONS, SEED) as story:
        projects = {prefix: story.declare(prefix) for prefix in PREFIXES}
        story.told = lambda chapter: story.materialize(projects["plain"]) if chapter in FOLLOWED else None
        story.live()
        story.connect.stop()
        story.materialize(projects["block"])
        with story.postgres.connect() as session:
            history = {
                (prefix, name): states(session, name, precise=prefix == "block")
                for prefix, name in product(PREFIXES, TABLES)
            }
    told = {prefix: events(project) for prefix, project in projects.items()}
    blind = {prefix: blindness(told[prefix], story.lost or NEVER) for prefix in PREFIXES}
    return Lived(projects, history, story.workload.markers, told, blind)


each = pytest.mark.parametrize(("prefix", "name"), [*product(PREFIXES, TABLES)])


@each
def test_the_latest_image_is_the_table(lived: Lived, prefix: str, name: str):
    rows = lived.projects[prefix].table(f"dimensions/{name}_now").iter_rows(named=True)
    must = as_of(lived.history[prefix, name], datetime.now(UTC)).values()
    keys = tuple(TABLES[name].keys)
    assert shown((like_lake(row, name) for row in rows), keys) == shown(must, keys)


@each
def test_the_history_is_the_databases_own(lived: Lived, prefix: str, name: str):
    rows = lived.projects[prefix].table(f"dimensions/{name}").iter_rows(named=True)
    ours = ("valid_from", "valid_to", "version")
    is_ = [like_lake(row, name) | {n: moment(row[n]) for n in ours} for row in rows]
    must = versions(lived.history[prefix, name], lived.blind[prefix])
    keys = (*TABLES[name].keys, "version")
    assert shown(is_, keys) == shown(must, keys)


@each
def test_as_of_each_marker_the_dimension_is_the_table(lived: Lived, prefix: str, name: str):
    versions = lived.projects[prefix].table(f"dimensions/{name}")
    table, untold = TABLES[name], UNTOLD.get(name, set())
    keys = tuple(table.keys)
    looked = [m for m in lived.markers if not any(b.begin < m.at <= b.end for b in lived.blind[prefix])]
    for marker in looked:
        ended = pl.col("valid_to").is_null() | (pl.col("valid_to") > marker.at)
        rows = versions.filter((pl.col("valid_from") <= marker.at) & ended).iter_rows(named=True)
        is_ = [like_lake(row, name) for row in rows]
        must = [as_row(table, *told, precise=prefix == "block") for told in marker.tables[name]]
        for row in (*is_, *must):
            row.update(dict.fromkeys(untold))
        assert shown(is_, keys) == shown(must, keys), marker.at
    assert len(looked) >= 6


@pytest.mark.parametrize("prefix", PREFIXES)
def test_nothing_is_refused_and_every_equation_holds(lived: Lived, prefix: str):
    names = [stream for name in TABLES for stream in (name, f"{name}_now")]
    for name in names:
        assert lived.projects[prefix].table(f"quarantine/{name}").is_empty()
    lived.projects[prefix].prove(*names)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_connector_told_all_that_the_story_is_for(lived: Lived, prefix: str):
    told = lived.told[prefix]
    ops = {(op, source["snapshot"]) for op, source in told}
    assert {("r", "true"), ("r", "incremental"), *((op, "false") for op in "cudt")} <= ops
    places = [(source["table"], op, source["lsn"]) for op, source in told if source["snapshot"] == "false"]
    assert len(set(places)) < len(places)  # told twice
    pages = lived.projects[prefix].table("silver/pages")
    for column in ("_unavailable", "_previous_key"):
        assert pages[column].drop_nulls().len() > 0


def events(project: Project) -> list[Event]:
    """Read what a connector told: the operation and the source of each change."""
    found = []
    for name in TABLES:
        for value in project.table(f"bronze/{name}")["value"].drop_nulls():
            envelope = json.loads(value)
            envelope = envelope.get("payload", envelope)
            found.append((envelope["op"], envelope["source"]))
    return found


def blindness(told: Sequence[Event], lost: datetime) -> list[Blind]:
    """Tell when a connector did not look: before its first snapshot, and while its offsets were lost."""
    taken = sorted({at(s) for op, s in told if op == "r" and s["snapshot"] != "incremental"})
    assert len(taken) == 2  # snapshots, each of them at one moment
    streamed = min(at(source) for op, source in told if op != "r")  # what was there, nobody streamed
    first = Blind(NEVER, streamed - timedelta(microseconds=1), taken[0])
    return [first, Blind(lost, taken[1], taken[1])]


def at(source: dict[str, Any]) -> datetime:
    """Give the source's clock."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=source["ts_us"])


def like_lake(row: Row, name: str) -> Row:
    """Bring the contract's columns of a row of the lake to the form that the database's have."""
    return {
        column: None if row[column] is None else moment(of.alike(row[column]))
        for column, of in TABLES[name].all.items()
    }


def moment(value: Any) -> Any:
    """Give zoned times in one zone object."""
    if isinstance(value, list):
        return [moment(element) for element in value]
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


def shown(rows: Iterable[Row], keys: Sequence[str]) -> dict[tuple[Any, ...], str]:
    """Give rows by their keys, as text: NaN equals itself then, and 1.0 is not 1."""
    return {tuple(row[key] for key in keys): repr(sorted(row.items())) for row in rows}
