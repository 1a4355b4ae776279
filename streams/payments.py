"""Payments of the shop's orders, one event each.

An order may have several payments, or none. The payment provider repeats what was not acknowledged in
time: a repetition within two days is the same payment.
"""

from datetime import timedelta

import pandera.polars as pa
import polars as pl

from sluice import Events, Hourly, Json


class Payment(pa.DataFrameModel):
    """One attempt to pay, as the provider ended it."""

    payment_id: str
    order_id: str = pa.Field(description="What was paid for: a key of `orders`.")
    method: str = pa.Field(isin=["card", "transfer", "voucher"])
    status: str = pa.Field(isin=["captured", "failed", "refunded"])
    amount: pl.Decimal(12, 2) = pa.Field(ge=0)
    paid_at: pl.Datetime("us", "UTC") = pa.Field(description="When the provider decided, in milliseconds.")


payments = Events(
    topic="shop.payments",
    value=Json(epoch="ms"),
    schema=Payment,
    key="payment_id",
    event_time="paid_at",
    dedupe_within=timedelta(days=2),
    partitions=Hourly(start="2026-01-01"),
    owners=["team:finance"],
)
