"""Incidents of a service desk: every state that each had, as plain rows."""

import pandera.polars as pa
import polars as pl

from sluice import Changes, Daily, Json


class Incident(pa.DataFrameModel):
    """An incident after one of its updates; what was not known is null."""

    number: str
    ident_state: str
    sys_mod_count: int = pa.Field(ge=0)
    sys_updated_at: pl.Datetime("us", "UTC")
    priority: str = pa.Field(nullable=True)
    assignment_group: int = pa.Field(nullable=True)
    assigned_to: int = pa.Field(nullable=True)


COMMON = {
    "topic": "incidents",
    "value": Json(),
    "schema": Incident,
    "key": "number",
    "sequence": "sys_mod_count",
    "valid_from": "sys_updated_at",
    "history": True,
    "partitions": Daily(start="2016-01-01"),
}

by_state = Changes(**COMMON, track=("ident_state",))
by_four = Changes(**COMMON, track=("ident_state", "assignment_group", "assigned_to", "priority"))
