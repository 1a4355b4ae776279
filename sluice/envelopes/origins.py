"""Where a change comes from, beside its position: server, table, snapshot, and the source's clock.

A position orders the changes of one server's log. What is told here orders logs (`sluice.history.epochs`) and
says which table a truncate or a complete snapshot speaks of. A source that does not tell gives nulls;
nothing is refused here.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from sluice.json.values import printable

SOURCE = pl.Struct(
    {
        "server": pl.String,  # whose log: MySQL's server, or the origin of its GTIDs; the Kafka log: see LOG
        "table": pl.String,  # database, schema and table, or collection
        "snapshot": pl.String,  # part of a snapshot: true, first, last, …, incremental
        "committed_at": pl.Datetime("us", "UTC"),  # by the source's clock
    }
)
Origin = tuple[str | None, str | None, str | None, datetime | None]
LOG = "kafka"  # the server of changes that tell no position: they are ordered by their place in Kafka
NOWHERE: Origin = (None, None, None, None)
INCREMENTAL = "incremental"
FIRST = ("first", "first_in_data_collection")
LAST = ("last", "last_in_data_collection")

_WHOLE = re.compile(r"-?[0-9]{1,30}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GTID = (
    re.compile(  # MariaDB: domain, server, number; MySQL: server, then intervals, or tags and their intervals
        r"([0-9]+-[0-9]+)-[0-9]+|([^:,]+)(?::[^:,]+)*:[0-9]+(?:-[0-9]+)?"
    )
)


def origin_of(source: Mapping[str, Any]) -> Origin:
    """Tell the origin that the `source` block of a Debezium change names."""
    snapshot = _plain(str(source.get("snapshot") or "false").lower())
    return (
        _server(source),
        table_of(source) or None,
        None if snapshot == "false" else snapshot,
        committed_at(source),
    )


def table_of(source: Mapping[str, Any]) -> str:
    """Name the table with its database; empty where the source does not tell."""
    names = ("db", "schema", "table", "collection")
    return _plain(".".join(str(source[name]) for name in names if source.get(name)))


def committed_at(source: Mapping[str, Any]) -> datetime | None:
    """Give the source's commit time; null where it does not tell, or tells none that can be."""
    for name, unit in (("ts_us", 1), ("ts_ms", 1000)):
        text = str(source.get(name))
        if _WHOLE.fullmatch(text):
            try:
                return _EPOCH + timedelta(microseconds=int(text) * unit)
            except OverflowError:
                return None
    return None


def _server(source: Mapping[str, Any]) -> str | None:
    """Give the origin of the transaction's GTID, else the id of the server; snapshots tell neither (0)."""
    named = _of_gtid(str(source.get("gtid") or ""))
    if named is not None:
        return _plain(named)
    server = str(source.get("server_id") or "0")
    return None if server == "0" else _plain(server)


def _of_gtid(text: str) -> str | None:
    """Give the server that a GTID names, or a set of them; null where they are of several, or of none."""
    parts = "".join(text.split()).lower().split(",")
    found = {match and (match[1] or match[2]) for match in (_GTID.fullmatch(p) for p in parts if p)}
    return found.pop() if len(found) == 1 else None


def _plain(text: str) -> str:
    """Give a text that a table can hold."""
    return text if text.isascii() else printable(text)


def origins(told: list[Origin]) -> pl.Series:
    """Put origins into a column `_source`."""
    names = [field.name for field in SOURCE.fields]
    columns = zip(*told, strict=True) if told else [()] * len(names)
    frame = pl.DataFrame(
        [pl.Series(f.name, values, f.dtype) for f, values in zip(SOURCE.fields, columns, strict=True)]
    )
    return frame.to_struct("_source")
