"""A collection of MongoDB as of one cluster time: a snapshot that any number of sessions read, by ranges.

Decides which ranges of keys the server is asked for: where all keys are of one type whose order the lake has
too, by the key's index; else all of it in one go. A range only saves reading: which rows are in it is decided
here, by the lake's order. Documents become rows by the code that decodes changes, and texts by the lake's
own, so equal values are equal. A value that its column cannot hold counts as null, so its row differs.
"""

# ruff: noqa: S608  # names and texts are quoted (sluice.compare.comparable)

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import duckdb
import polars as pl
from bson import Timestamp
from pymongo import MongoClient

from resources.lake_texts import key_text, key_values, placed, shares, summed, written
from resources.mongodb_client import BYTEWISE, as_of, bound_of, connected, talking
from resources.source_ranges import SUMS, Pace, in_parts
from sluice.columns import REST, to_storage
from sluice.compare.canonical import Texts
from sluice.compare.comparable import quoted
from sluice.contract import Changes
from sluice.envelopes.debezium_rows import read_debezium
from sluice.envelopes.extended_json import OPTIONS, text_of
from sluice.errors import SourceError
from sluice.json.where import selected, where_columns
from sluice.sources import Mongo
from sluice.tables import RECORD

_BATCH = 2_000  # documents that the server sends at once, at most
_HELD = 256 << 20  # bytes of documents for one repair
_RECORD = {name: RECORD[name] for name in ("value", "key", "headers", "offset", "timestamp")}
_Document = Mapping[str, Any]


@dataclass
class MongoSnapshot:
    """A collection at one cluster time; made by `snapshot_of`.

    Attributes:
        source: what is read.
        stream: the contract, whose `where` leaves documents out.
        texts: the columns, and how they are written.
        client: the server.
        time: the cluster time: all changes up to it are seen.
        bound: gives the value of the collection's keys that a bound stands for; None where orders differ.
        pace: of all sessions.
        parallel: how many sessions.
    """

    source: Mongo
    stream: Changes
    texts: Texts
    client: MongoClient[dict[str, Any]] = field(repr=False)
    time: Timestamp
    bound: Callable[[str], Any] | None
    pace: Pace
    parallel: int = 1

    @property
    def taken(self) -> datetime:
        """When it was taken, by the server's clock."""
        return self.time.as_datetime()

    def sums(self, bounds: Sequence[str], wanted: Sequence[int], at_once: int) -> Iterator[pl.DataFrame]:
        """Count and sum up some ranges of keys, `at_once` of them in a query."""
        size, parallel = (at_once, self.parallel) if self.bound else (len(bounds) + 1, 1)
        yield from in_parts(partial(self.part, bounds), wanted, size, parallel)

    def part(self, bounds: Sequence[str], start: int, stop: int) -> pl.DataFrame:
        """Count and sum up the ranges `[start, stop)`, in one query."""
        with duckdb.connect() as connection:
            found = [
                summed([connection.sql(f"SELECT {shares(self.texts)} FROM documents").pl()], edges)
                for edges, rows in self._ranges(connection, bounds, start, stop)
            ]
        every = pl.concat([pl.DataFrame(schema=SUMS), *found]).with_columns(pl.col("sum").cast(pl.Int128))
        clipped = every.with_columns(pl.col("range").clip(start, stop - 1))  # keys that no column can hold
        added = clipped.group_by("range").agg(pl.col("count", "sum").sum())
        return added.with_columns(pl.col("sum").cast(pl.String))

    def rows(self, bounds: Sequence[str], number: int, most: int | None) -> pl.DataFrame:
        """Read the canonical texts of a range's rows, of more than `most` at least one more than these."""
        found = [pl.DataFrame(schema=dict.fromkeys(self.texts.names, pl.String()))]
        count = 0
        with duckdb.connect() as connection:
            for _, rows in self._ranges(connection, bounds, number, number + 1):
                found.append(connection.sql(f"SELECT {written(self.texts)} FROM documents").pl())
                count += rows.height
                if most is not None and count > most:
                    break
        return pl.concat(found)

    def cuts(self, bounds: Sequence[str], number: int, parts: int) -> list[str]:
        """Give keys that cut a range into parts of about the same size."""
        first = self.texts.keys[0]
        with duckdb.connect() as connection:
            found = [rows[first] for _, rows in self._ranges(connection, bounds, number, number + 1)]
        keys = pl.concat(found).drop_nulls().sort() if found else pl.Series(dtype=pl.String)
        chosen = (keys[len(keys) * n // parts] for n in range(1, parts) if len(keys))
        return list(dict.fromkeys(key_text(key) for key in chosen))

    def _ranges(
        self, connection: duckdb.DuckDBPyConnection, bounds: Sequence[str], start: int, stop: int
    ) -> Iterator[tuple[list[Any], pl.DataFrame]]:
        """Give all bounds as values, and the rows of the ranges `[start, stop)`, some at a time.

        A row whose key its column cannot hold is in the range in which its document was found; where no
        ranges are asked for, in the first one.
        """
        first = self.texts.keys[0]
        edges: list[Any] | None = None
        with talking(self.source):
            for documents in self._documents(self._between(bounds, start, stop)):
                rows = self._typed(documents)
                if edges is None:
                    connection.register("documents", rows.to_arrow())
                    told = connection.sql(
                        f"SELECT typeof(any_value({quoted(first)})) FROM documents"
                    ).fetchall()
                    edges = key_values(connection, bounds, told[0][0])
                place = placed(rows[first], edges)
                lost = rows[first].is_null() & (start == 0 or self.bound is not None)
                mine = rows.filter((place.is_between(start, stop - 1) & rows[first].is_not_null()) | lost)
                connection.register("documents", mine.to_arrow())
                yield edges, mine
                self.pace.wait(len(documents))

    def _between(self, bounds: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Write the condition for the ranges `[start, stop)`; what cannot be said is left open."""
        condition: dict[str, Any] = {}
        ends = (("$gte", start - 1, start > 0), ("$lt", stop - 1, stop <= len(bounds)))
        for sign, place, given in ends:
            if given and self.bound and (value := self.bound(bounds[place])) is not None:
                condition[sign] = value
        return {".".join(self._key): condition} if condition else {}

    @property
    def _key(self) -> tuple[str, ...]:
        return self.stream.column(self.texts.keys[0]).path

    def _documents(self, condition: _Document, *, whole: bool = False) -> Iterator[list[_Document]]:
        """Read the documents of a condition, as many at a time as the server sends, with what is compared."""
        database, _, collection = self.source.collection.partition(".")
        asked = [*self.stream.columns, *where_columns(self.stream.where, self.stream.columns)]
        members = {column.path[0] for column in asked}
        with (
            self.client.start_session(causal_consistency=False) as session,
            self.client[database].cursor_command(
                "find",
                collection,
                filter=condition,
                projection={} if whole or REST in members else dict.fromkeys(["_id", *sorted(members)], 1),
                collation=BYTEWISE,
                batchSize=_BATCH,
                readConcern=as_of(self.time),
                session=session,
                codec_options=OPTIONS,
            ) as cursor,
        ):
            cursor.batch_size(_BATCH)
            batch: list[_Document] = []
            for document in cursor:
                batch.append(document)
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
            if batch:
                yield batch

    def documents(self, rows: pl.DataFrame) -> dict[tuple[Any, ...], str]:
        """Give whole documents by the keys of some rows, canonical Extended JSON, as many as can be held."""
        keys = rows.select(self.texts.keys).drop_nulls().unique()
        found: dict[tuple[Any, ...], str] = {}
        held = 0
        for part in keys.iter_slices(_BATCH if self.bound else max(1, keys.height)):
            wanted = set(part.rows())
            with talking(self.source):
                for documents in self._documents(self._among(part.to_series()), whole=True):
                    read = self._read(documents)
                    for *key, row in read.select(*self.texts.keys, "_row").iter_rows():
                        if tuple(key) in wanted and held < _HELD:
                            found[tuple(key)] = text_of(documents[row])
                            held += len(found[tuple(key)])
                    self.pace.wait(len(documents))
        return found

    def _among(self, keys: pl.Series) -> dict[str, Any]:
        """Write the condition for some keys; where orders differ it is left open."""
        if self.bound is None:
            return {}
        values = (self.bound(key_text(key)) for key in keys)
        return {".".join(self._key): {"$in": [value for value in values if value is not None]}}

    def _typed(self, documents: Sequence[_Document]) -> pl.DataFrame:
        """Give the columns that are compared."""
        return self._read(documents).select(self.texts.names)

    def _read(self, documents: Sequence[_Document]) -> pl.DataFrame:
        """Read documents as the connector's own reads of them, as stored; `_row` is the place of each."""
        database, _, collection = self.source.collection.partition(".")
        source = json.dumps({"connector": "mongodb", "db": database, "collection": collection})
        texts = (f'{{"op":"r","after":{text_of(d)},"source":{source}}}' for d in documents)
        count = len(documents)
        columns = {
            "value": [text.encode(errors="surrogatepass") for text in texts],
            "key": [None] * count,
            "headers": [None] * count,
            "offset": range(count),
            "timestamp": [self.taken] * count,
        }
        told = read_debezium(self.stream, pl.DataFrame(columns, schema=_RECORD))
        of_stream = selected(self.stream.where, self.stream.columns, told.read)
        rows = told.read.frame.select(column.name for column in self.stream.columns)
        rows = rows.with_columns(told.places.alias("_row")).filter(of_stream)
        return to_storage(rows, self.stream.columns)


@contextmanager
def snapshot_of(
    source: Mongo,
    stream: Changes,
    texts: Texts,
    address: str,
    *,
    rows_per_second: int | None = None,
    parallel: int = 1,
) -> Iterator[MongoSnapshot]:
    """Fix a cluster time, as of which a collection is read while the block runs.

    Raises:
        SourceError: the collection is not there, may not be read, or the server gives no snapshots.
        SourceUnreachableError: it does not answer.
    """
    with connected(source, address) as client:
        with talking(source):
            database, _, collection = source.collection.partition(".")
            asked: dict[str, Any] = {
                "limit": 1,
                "readConcern": {"level": "snapshot"},
                "projection": {"_id": 1},
            }
            cursor = client[database].command("find", collection, **asked)["cursor"]
            if not cursor["firstBatch"] and not _exists(client, database, collection):
                raise SourceError(str(source), "there is no such collection", "correct `source`")
            there = MongoSnapshot(
                source=source,
                stream=stream,
                texts=texts,
                client=client,
                time=cursor["atClusterTime"],
                bound=None,
                pace=Pace(rows_per_second),
                parallel=parallel,
            )
            least, greatest = (_last(there, order) for order in (1, -1))
            there.bound = bound_of(least, greatest, stream.column(texts.keys[0]).dtype)
        yield there


def _exists(client: MongoClient[dict[str, Any]], database: str, collection: str) -> bool:
    return bool(client[database].list_collection_names(filter={"name": collection}))


def _last(there: MongoSnapshot, order: int) -> Any:
    """Give the least key (order 1) or the greatest (-1), by the server's order."""
    database, _, collection = there.source.collection.partition(".")
    path = there.stream.column(there.texts.keys[0]).path
    name = ".".join(path)
    found = there.client[database].command(
        "find",
        collection,
        sort={name: order},
        limit=1,
        projection={name: 1},
        collation=BYTEWISE,
        readConcern=as_of(there.time),
        codec_options=OPTIONS,
    )
    value: Any = next(iter(found["cursor"]["firstBatch"]), None)
    for member in path:
        value = value.get(member) if isinstance(value, dict) else None
    return value
