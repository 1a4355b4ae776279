"""The shop's products, as its PostgreSQL database changes them.

Debezium reads the table `public.products` with `decimal.handling.mode=string`. Every change of a product
opens a version: what was ordered is judged by the category and the price of its day.
"""

import pandera.polars as pa
import polars as pl

from sluice import Changes, Debezium, Hourly


class Product(pa.DataFrameModel):
    """One product, as of one change."""

    product_id: str
    name: str
    category: str = pa.Field(isin=["books", "garden", "kitchen", "music", "toys"])
    price: pl.Decimal(10, 2) = pa.Field(gt=0, description="In euros, taxes included.")
    active: bool = pa.Field(description="Whether it can be ordered now.")


products = Changes(
    topic="shop.public.products",
    value=Debezium(source="postgresql"),
    schema=Product,
    key="product_id",
    history=True,
    partitions=Hourly(start="2026-01-01"),
    owners=["team:shop"],
)
