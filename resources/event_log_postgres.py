"""Dagster's event log on PostgreSQL, many events in one transaction; it needs the package dagster-postgres.

Its address must name the driver, `postgresql+psycopg2://`: the statements of dagster-postgres are written for
that one, and SQLAlchemy takes psycopg 3, which is here for reconciliation, for `postgresql://`.
"""

from collections.abc import Mapping
from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

from resources.event_log import ManyAtOnce


class PostgresEventLog(ManyAtOnce, PostgresEventLogStorage):
    """The event log in PostgreSQL, as `dagster.yaml` names it, with the config of dagster-postgres."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Make it as `dagster.yaml` says."""
        given: dict[str, Any] = {
            "inst_data": inst_data,
            "postgres_url": pg_url_from_config(config_value),
            "should_autocreate_tables": config_value.get("should_autocreate_tables", True),
            "token_provider": get_token_provider_from_config(config_value),
        }
        return cls(**given)
