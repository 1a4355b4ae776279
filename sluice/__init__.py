"""Sluice: a typed streaming lakehouse. These are the words that a contract in `streams/` uses."""

from sluice.columns import Document
from sluice.contract import Changes, Debezium, Events, Json
from sluice.partitions import Daily, Hourly
from sluice.sources import Delta, Mongo, Parquet, Postgres

__all__ = [
    "Changes",
    "Daily",
    "Debezium",
    "Delta",
    "Document",
    "Events",
    "Hourly",
    "Json",
    "Mongo",
    "Parquet",
    "Postgres",
]
