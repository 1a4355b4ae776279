"""Pages that visitors of the shop looked at, with the products shown on each.

Browsers send them when they can: hours late is normal. Who is not signed in has no `customer_id`.
"""

from datetime import timedelta

import pandera.polars as pa
import polars as pl

from sluice import Events, Hourly, Json

SHOWN = pl.Struct({"product_id": pl.String, "position": pl.Int32, "price": pl.Decimal(10, 2)})


class Pageview(pa.DataFrameModel):
    """One page looked at."""

    view_id: str
    session_id: str
    customer_id: str = pa.Field(nullable=True, description="A key of `customers`; null: not signed in.")
    url: str = pa.Field(str_startswith="/")
    device: str = pa.Field(isin=["desktop", "phone", "tablet"])
    ip: str = pa.Field(nullable=True, metadata={"pii": True})
    items: pl.List(SHOWN) = pa.Field(description="The products shown, in the order of the page.")
    viewed_at: pl.Datetime("us", "UTC")


pageviews = Events(
    topic="shop.pageviews",
    value=Json(),
    schema=Pageview,
    key="view_id",
    event_time="viewed_at",
    allowed_lateness=timedelta(hours=6),
    partitions=Hourly(start="2026-01-01"),
    owners=["team:web"],
    tags={"volume": "high"},
)
