"""Sluice: a typed streaming lakehouse. These are the words that a contract in `streams/` uses."""

from sluice.contract import Changes, Debezium, Events, Json
from sluice.partitions import Daily, Hourly

__all__ = ["Changes", "Daily", "Debezium", "Events", "Hourly", "Json"]
