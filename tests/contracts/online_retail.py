"""Lines of invoices of an online shop, as the UCI data set has them (local times, missing customers)."""

import pandera.polars as pa
import polars as pl

from sluice import Daily, Events, Json


class Line(pa.DataFrameModel):
    """One line of an invoice; a line of an invoice that begins with C takes goods back."""

    invoice: str = pa.Field(metadata={"path": "InvoiceNo"})
    stock_code: str = pa.Field(metadata={"path": "StockCode"})
    description: str = pa.Field(nullable=True, metadata={"path": "Description"})
    quantity: int = pa.Field(ne=0, metadata={"path": "Quantity"})
    price: pl.Decimal(12, 3) = pa.Field(metadata={"path": "UnitPrice"})
    customer: int = pa.Field(nullable=True, metadata={"path": "CustomerID"})
    country: str = pa.Field(metadata={"path": "Country"})
    at: pl.Datetime("us", "UTC") = pa.Field(metadata={"path": "InvoiceDate"})


lines = Events(
    topic="retail.lines",
    value=Json(timezone="Europe/London"),
    schema=Line,
    key=("invoice", "stock_code", "quantity", "price"),
    event_time="at",
    partitions=Daily(start="2010-12-01", timezone="Europe/London"),
    owners=["team:tests"],
)
