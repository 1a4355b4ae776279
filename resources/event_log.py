"""Dagster's event log, which takes the events of many tiles in one transaction.

A run over a range plans one event for each tile and asset before it starts, and tells one when it is done.
Dagster's own storages write plans one by one (18 ms each, in two new connections, on PostgreSQL) and SQLite
writes all so (20 ms each): of ten thousand tiles that is an hour. `dagster.yaml` names the classes here
instead; how many events come at once says DAGSTER_EVENT_BATCH_SIZE, in the environment of all of Dagster's
processes. What is stored is the same, in the same tables. Events that are no asset's stay Dagster's own.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Self

from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData


class ManyAtOnce(SqlEventLogStorage):
    """Stores the events of assets that come in a batch all or none."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one run in their order."""
        for of_assets, group in groupby(events, lambda event: event.dagster_event_type in ASSET_EVENTS):
            if of_assets:
                self._store_asset_events(list(group))
            else:
                super().store_event_batch(list(group))

    def _store_asset_events(self, events: Sequence[EventLogEntry]) -> None:
        table = SqlEventLogStorageTable
        rows = [self._event_to_row(event) for event in events]
        with self.index_transaction() as connection:
            inserted = connection.execute(
                table.insert().returning(table.c.id, sort_by_parameter_order=True), rows
            )
            ids = [int(row[0]) for row in inserted]
            self._store_asset_event_tags(connection, events, ids)
            pairs = zip(events, ids, strict=True)
            newest = {event.get_dagster_event().asset_key: (event, at) for event, at in pairs}
            for event, at in newest.values():
                self._store_asset_event(connection, event, at)


class SqliteEventLog(ManyAtOnce, SqliteEventLogStorage):
    """The event log in SQLite's files, as `dagster.yaml` names it: `base_dir` is their folder."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Make it as `dagster.yaml` says."""
        return cls(inst_data=inst_data, **config_value)

    def _store_asset_events(self, events: Sequence[EventLogEntry]) -> None:
        """Store them in the file of all runs, which may refuse them, then in the run's own."""
        super()._store_asset_events(events)
        rows = [self._event_to_row(event) for event in events]
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
