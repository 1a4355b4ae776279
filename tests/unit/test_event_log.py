"""Dagster's event log that takes many events at once: what it tells is what Dagster's own tells."""

import importlib.util
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqlEventLogStorage
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from demo.postgres import Postgres
from resources.event_log import SqliteEventLog

HOURS = dg.HourlyPartitionsDefinition(start_date="2024-01-01-00:00", timezone="UTC")
FIRST, LAST, COUNT = "2024-01-01-00:00", "2024-01-02-00:00", 25
ONE = dg.BackfillPolicy.single_run()


@dg.asset(partitions_def=HOURS, backfill_policy=ONE, tags={"kind": "test"})
def above(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    for number, tile in enumerate(context.partition_keys):
        context.add_asset_metadata({"number": number}, partition_key=tile)
    return dg.MaterializeResult(metadata={"of": "all"})


@dg.asset(partitions_def=HOURS, backfill_policy=ONE, deps=[above])
def below() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult()


@dg.asset_check(asset=above)
def good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@contextmanager
def postgres(folder: Path, ours: bool) -> Iterator[dict[str, Any]]:
    del folder
    if importlib.util.find_spec("dagster_postgres") is None:
        pytest.skip("the package dagster-postgres is not installed")
    own = "dagster_postgres.event_log", "PostgresEventLogStorage"
    module, name = ("resources.event_log_postgres", "PostgresEventLog") if ours else own
    with Postgres() as server:
        url = server.dsn.replace("postgresql:", "postgresql+psycopg2:")
        yield {"event_log_storage": {"module": module, "class": name, "config": {"postgres_url": url}}}


@contextmanager
def sqlite(folder: Path, ours: bool) -> Iterator[dict[str, Any]]:
    config = {"base_dir": str(folder / "events")}
    stored = {"module": "resources.event_log", "class": "SqliteEventLog", "config": config}
    yield {"event_log_storage": stored} if ours else {}


def ran(folder: Path, overrides: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Materialize a range; give what the event log tells of it, and how many statements that took."""
    folder.mkdir()
    statements = 0

    def counted(*_: object) -> None:
        nonlocal statements
        statements += 1

    with dg.DagsterInstance.local_temp(str(folder), overrides) as instance:
        tags = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
        event.listen(Engine, "before_cursor_execute", counted)
        try:
            run = dg.materialize([above, below, good], instance=instance, tags=tags)
        finally:
            event.remove(Engine, "before_cursor_execute", counted)
        log = instance.event_log_storage
        assert isinstance(log, SqlEventLogStorage)
        events = [e.dagster_event for e in instance.all_logs(run.run_id) if e.dagster_event]
        told: dict[str, Any] = {"of the run": Counter(event.event_type for event in events)}
        for key in (above.key, below.key):
            found = [
                (record.partition_key, record.asset_materialization)
                for record in instance.fetch_materializations(key, limit=100).records
            ]
            told[f"{key} is there"] = [(at, sorted(m.metadata.items()), sorted(m.tags)) for at, m in found]
            told[f"{key} planned"] = sorted(
                r.partition_key or "" for r in instance.fetch_planned_materializations(key, limit=100).records
            )
            told[f"{key} whole"] = sorted(instance.get_materialized_partitions(key))
            newest = instance.get_latest_materialization_event(key)
            told[f"{key} newest"] = newest.asset_materialization.partition
            told[f"{key} ran"] = instance.get_asset_records([key])[0].asset_entry.last_run_id == run.run_id
        with log.index_connection() as connection:
            counted_tags = "SELECT key, count(*) FROM asset_event_tags GROUP BY 1 ORDER BY 1"
            told["tags"] = [tuple(row) for row in connection.execute(text(counted_tags))]
        return told, statements


@pytest.mark.parametrize("storage", [sqlite, postgres])
def test_many_events_at_once_tell_the_same(tmp_path, monkeypatch, storage):
    """Event-streaming 16: the events of a backfill, in a few statements instead of several for each."""
    with storage(tmp_path / "plain", ours=False) as overrides:
        expected, slowly = ran(tmp_path / "plain", overrides)
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "10")
    with storage(tmp_path / "ours", ours=True) as overrides:
        found, quickly = ran(tmp_path / "ours", overrides)
    assert found == expected
    assert len(found[f"{above.key} planned"]) == len(found[f"{above.key} whole"]) == COUNT
    assert quickly < slowly / 2


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path, monkeypatch):
    """What fails in the middle leaves nothing, so that Dagster can store each event by itself."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "10")
    tags = SqliteEventLog._store_asset_event_tags
    failures = iter([True])

    def failing(self, connection, events, ids):
        tags(self, connection, events, ids)
        if next(failures, False):
            raise OSError("the disk")

    monkeypatch.setattr(SqliteEventLog, "_store_asset_event_tags", failing)
    with sqlite(tmp_path, ours=True) as overrides:
        found, _ = ran(tmp_path / "home", overrides)
    assert len(found[f"{above.key} planned"]) == COUNT
    assert found["of the run"][dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED] == 2 * COUNT
