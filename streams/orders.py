"""Orders placed in the shop, one event each.

The shop's checkout sends an order once, when it is placed or given up; what a customer pays for it comes in
`payments`. Revenue is the sum of `amount` over the orders that are not cancelled.
"""

from datetime import timedelta

import pandera.polars as pa
import polars as pl

from sluice import Events, Hourly, Json


class Order(pa.DataFrameModel):
    """One order of one product."""

    order_id: str = pa.Field(str_length={"min_value": 1})
    customer_id: str = pa.Field(description="Who ordered: a key of `customers`.")
    product_id: str = pa.Field(description="What was ordered: a key of `products`.")
    quantity: int = pa.Field(ge=1, le=100)
    status: str = pa.Field(isin=["placed", "paid", "shipped", "cancelled"])
    amount: pl.Decimal(12, 2) = pa.Field(ge=0, description="The whole order, taxes included.")
    currency: str = pa.Field(isin=["EUR"], description="The shop sells in euros only.")
    placed_at: pl.Datetime("us", "UTC")
    coupon: str = pa.Field(
        nullable=True, metadata={"pii": True}, description="Personal codes name their owner."
    )


orders = Events(
    topic="shop.orders",
    value=Json(),
    schema=Order,
    key="order_id",
    event_time="placed_at",
    allowed_lateness=timedelta(hours=2),
    partitions=Hourly(start="2026-01-01"),
    owners=["team:shop"],
)
