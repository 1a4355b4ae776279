"""Edits of Wikipedia on one day of 2015, of which 45 tell a wrong day."""

import pandera.polars as pa
import polars as pl

from sluice import Daily, Events, Json


class Edit(pa.DataFrameModel):
    """One edit of one page."""

    time: pl.Datetime("us", "UTC")
    channel: str
    page: str
    user: str
    namespace: str
    comment: str
    is_robot: bool = pa.Field(metadata={"path": "isRobot"})
    is_anonymous: bool = pa.Field(metadata={"path": "isAnonymous"})
    country: str = pa.Field(nullable=True, metadata={"path": "countryIsoCode"})
    delta: int
    added: int = pa.Field(ge=0)
    deleted: int = pa.Field(ge=0)


edits = Events(
    topic="wikipedia.edits",
    value=Json(),
    schema=Edit,
    key=("channel", "page", "user", "time"),
    event_time="time",
    partitions=Daily(start="2015-09-01"),
    event_time_range=None,
)
