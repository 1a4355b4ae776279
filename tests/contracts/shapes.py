"""Contracts of awkward shapes: composite keys, nested columns, decimals, aliases, zones, numbers as times."""

from datetime import UTC, datetime, timedelta

import pandera.polars as pa
import polars as pl

from sluice import Changes, Daily, Events, Hourly, Json


class Reading(pa.DataFrameModel):
    """Every kind of column at once."""

    site: str
    sensor: int
    at: pl.Datetime("us", "UTC") = pa.Field(metadata={"path": "meta.at"})
    value: pl.Decimal(38, 10)
    ratio: float = pa.Field(nullable=True)
    small: pl.UInt64 = pa.Field(nullable=True)
    on: bool = pa.Field(nullable=True)
    day: pl.Date = pa.Field(nullable=True)
    clock: pl.Time = pa.Field(nullable=True)
    lasted: pl.Duration("us") = pa.Field(nullable=True)
    raw: pl.Binary = pa.Field(nullable=True)
    state: pl.Enum(["ok", "bad"]) = pa.Field(nullable=True)
    tags: pl.List(pl.String) = pa.Field(nullable=True)
    points: pl.List(
        pl.Struct({"x": pl.Decimal(6, 2), "at": pl.Datetime("us", "UTC"), "more": pl.List(pl.Int64)})
    ) = pa.Field(nullable=True)
    place: pl.Struct({"lat": pl.Float64, "names": pl.List(pl.String)}) = pa.Field(nullable=True)
    pay: float = pa.Field(alias="Salary EUR", nullable=True)


readings = Events(
    topic="shapes.readings",
    value=Json(epoch="ms"),
    schema=Reading,
    key=("site", "sensor"),
    event_time="at",
    partitions=Hourly(start="2026-01-05-03:00"),
    where={"type": "reading", "meta.version": 2},
    dedupe_within=timedelta(0),
    event_time_range=(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)),
    max_quarantined=1.0,
)


class Trip(pa.DataFrameModel):
    """A trip, told in local time."""

    trip: str
    began: pl.Datetime("us", "UTC")
    km: pl.Decimal(8, 1) = pa.Field(ge=0)


trips = Events(
    topic="shapes.trips",
    value=Json(timezone="Europe/Berlin"),
    schema=Trip,
    key="trip",
    event_time="began",
    partitions=Daily(start="2026-03-27", timezone="Europe/Berlin"),
    where=(pl.col("kind") == "car") & (pl.col("km") < 1000),
    dedupe_within=timedelta(days=30),
    event_time_range=None,
    allowed_lateness=timedelta(0),
    max_quarantined=1.0,
)


class Price(pa.DataFrameModel):
    """A price with its day of validity, which may be told late or corrected."""

    shop: str
    article: str
    price: pl.Decimal(8, 2) = pa.Field(nullable=True)
    colour: str = pa.Field(nullable=True)
    day: pl.Date
    number: int
    gone: bool = pa.Field(nullable=True)


PRICES = {
    "value": Json(),
    "schema": Price,
    "key": ("shop", "article"),
    "partitions": Hourly(start="2026-01-05"),
    "max_quarantined": 1.0,
}
history = Changes(
    topic="shapes.prices",
    **PRICES,
    sequence=("day", "number"),
    valid_from="day",
    delete_when=pl.col("gone"),
    track=("price",),
    history=True,
)
latest = Changes(topic="shapes.prices", **PRICES, sequence="number", delete_when=pl.col("gone"))
sparse = Changes(
    topic="shapes.prices",
    **PRICES,
    sequence="number",
    delete_when=pl.col("gone"),
    ignore_null=("price", "colour"),
    history=True,
)
by_place = Changes(topic="shapes.prices", **PRICES, delete_when=pl.col("gone"), history=True)
images = Changes(
    topic="shapes.prices",
    **PRICES,
    sequence=("day", "number"),
    snapshot="day",
    valid_from="day",
    history=True,
)
