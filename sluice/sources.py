"""Where a stream's rows come from, in a contract's `source`: what its lake is reconciled with.

Names only: an address has its credentials, and those come from the settings, by the name in `connection`.
`columns` says for a column of the contract how the source has it, where that is not by the same name;
`filtered` that all its rows are such as the contract's `where` keeps, so that it is not asked for these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A Delta table by its URI, at its newest version; `columns` gives other names."""

    uri: str
    columns: Mapping[str, str] = field(default_factory=dict)
    filtered: bool = False

    def __str__(self) -> str:
        """Name it in a report."""
        return f"Delta {self.uri}"


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Parquet files by a path, in which `*` may stand; `columns` gives other names."""

    path: str
    columns: Mapping[str, str] = field(default_factory=dict)
    filtered: bool = False

    def __str__(self) -> str:
        """Name it in a report."""
        return f"Parquet {self.path}"


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A table of PostgreSQL.

    `table` is its name with its schema; `connection` the name of its address in `SOURCE_CONNECTIONS`;
    `columns` gives SQL expressions over the table; `messages` is the topic of the connector's logical
    messages (default: the prefix of the stream's topic, then `.message`).
    """

    table: str
    connection: str
    columns: Mapping[str, str] = field(default_factory=dict)
    messages: str | None = None
    filtered: bool = False

    def __str__(self) -> str:
        """Name it in a report."""
        return f"PostgreSQL {self.connection}: {self.table}"


@dataclass(frozen=True, kw_only=True)
class Mongo:
    """A collection of MongoDB, of whose documents the contract's columns name members by their paths.

    `collection` is its name with its database; `connection` the name of its address in `SOURCE_CONNECTIONS`;
    `messages` another topic that shows how far the connector has come, beside the stream's own: its worker's
    offsets, or changes of a collection that is written more often.
    """

    collection: str
    connection: str
    messages: str | None = None

    def __str__(self) -> str:
        """Name it in a report."""
        return f"MongoDB {self.connection}: {self.collection}"


Source = Delta | Parquet | Postgres | Mongo
