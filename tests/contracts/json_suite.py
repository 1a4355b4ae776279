"""Values of the JSON test suite: each as the member `m` of an object, and each as the whole value."""

import pandera.polars as pa
import polars as pl

from sluice import Daily, Events, Json


class Case(pa.DataFrameModel):
    """A case; what `m` holds is of no interest, only whether the object is JSON."""

    id: int
    at: pl.Datetime("us", "UTC")


class Whole(pa.DataFrameModel):
    """A value that may be anything: every column may be missing, but for the key."""

    id: str
    at: pl.Datetime("us", "UTC")


COMMON = {"value": Json(), "key": "id", "event_time": "at", "partitions": Daily(start="2026-01-01")}
members = Events(topic="json.members", schema=Case, max_quarantined=1.0, **COMMON)
wholes = Events(topic="json.wholes", schema=Whole, max_quarantined=1.0, **COMMON)
