"""The shop's customers, as its PostgreSQL database changes them.

Debezium reads the table `public.customers`. The dimension keeps a version for each country and segment that
a customer was in; a new name or address corrects the version that is open.
"""

import pandera.polars as pa
import polars as pl

from sluice import Changes, Debezium, Hourly


class Customer(pa.DataFrameModel):
    """One customer, as of one change."""

    customer_id: str
    name: str = pa.Field(metadata={"pii": True})
    email: str = pa.Field(nullable=True, metadata={"pii": True})
    country: str = pa.Field(str_matches=r"^[A-Z]{2}$", description="ISO 3166 code of the country lived in.")
    segment: str = pa.Field(isin=["consumer", "business", "wholesale"])
    created_at: pl.Datetime("us", "UTC")


customers = Changes(
    topic="shop.public.customers",
    value=Debezium(source="postgresql"),
    schema=Customer,
    key="customer_id",
    history=True,
    track=("country", "segment"),
    partitions=Hourly(start="2026-01-01"),
    owners=["team:shop"],
)
