"""Readings of meters, hour by hour, with corrections; and the meters' own changes."""

from datetime import timedelta

import pandera.polars as pa
import polars as pl

from sluice import Changes, Events, Hourly, Json


class Reading(pa.DataFrameModel):
    """One reading of one meter."""

    meter: int
    at: pl.Datetime("us", "UTC")
    kwh: pl.Decimal(10, 3) = pa.Field(ge=0)


class Meter(pa.DataFrameModel):
    """A meter as it was after one of its changes."""

    meter: int
    number: int
    place: str = pa.Field(nullable=True)
    gone: bool = pa.Field(nullable=True)


meter_readings = Events(
    topic="meters.readings",
    value=Json(),
    schema=Reading,
    key="meter",
    event_time="at",
    partitions=Hourly(start="2026-01-05"),
    dedupe_within=timedelta(minutes=10),
    max_quarantined=0.5,
)
meters = Changes(
    topic="meters.changes",
    value=Json(),
    schema=Meter,
    key="meter",
    sequence="number",
    delete_when=pl.col("gone"),
    history=True,
    partitions=Hourly(start="2026-01-05"),
)
