"""Plain JSON rows as changes: each is the newest state of its key, or marks a delete or a truncate.

A null value deletes the key that its Kafka key names, where changes are ordered by offset; where a column
orders them it can't be ordered, and is refused. A Kafka key is a JSON object with the key columns, or for a
single key column its bare value, as JSON or as text.
"""

import json
from typing import Any

import polars as pl

from sluice.columns import Column
from sluice.contract import Changes, Json
from sluice.envelopes.origins import SOURCE
from sluice.envelopes.told import UTC_TIME, Told
from sluice.errors import NotJsonError
from sluice.json.columns import read_columns
from sluice.json.rows import READ_FAILURES, Read
from sluice.json.strict import Number, parse
from sluice.json.where import where_columns


def read_plain(stream: Changes, records: pl.DataFrame, options: Json) -> Told:
    """Read a batch of plain rows; see `sluice.decode_changes.decode_changes`."""
    size = records.height
    expressions = (stream.where, stream.delete_when, stream.truncate_when)
    beside = {c.name: c for e in expressions for c in where_columns(e, stream.columns)}
    read = read_columns(records["value"], [*stream.columns, *beside.values()], options)
    dead = records["value"].is_null()
    if dead.any():
        read = _with_tombstones(stream, read, records, dead, options)
    usual = "r" if stream.snapshot else "u"
    op = read.frame.select(
        pl.when(pl.lit(dead)).then(pl.lit("d"))
        .when(_marks(stream.truncate_when)).then(pl.lit("t"))
        .when(_marks(stream.delete_when)).then(pl.lit("d"))
        .otherwise(pl.lit(usual))
    ).to_series()  # fmt: skip
    places = pl.int_range(size, dtype=pl.UInt32, eager=True)
    none = places.clear()
    return Told(
        places=places,
        read=read,
        op=op if len(op) == size else pl.repeat(op.item(), size, eager=True),
        position=pl.repeat(None, size, dtype=pl.String, eager=True),
        since=records["timestamp"].cast(UTC_TIME),
        previous_key=pl.repeat(None, size, dtype=pl.String, eager=True),
        unavailable=pl.repeat(None, size, dtype=pl.List(pl.String), eager=True),
        source=pl.repeat(None, size, dtype=SOURCE, eager=True),
        tombstones=none,
        ignored=none,
    )


def _marks(condition: pl.Expr | None) -> pl.Expr:
    return pl.lit(value=False) if condition is None else condition.fill_null(value=False)


def _with_tombstones(
    stream: Changes, read: Read, records: pl.DataFrame, dead: pl.Series, options: Json
) -> Read:
    """Give tombstones the key columns that their Kafka keys tell, or the reason why not."""
    places = pl.int_range(records.height, dtype=pl.UInt32, eager=True).filter(dead)
    if stream.sequences:
        reason = f"a tombstone has no {', '.join(stream.sequences)}, by which changes are ordered"
        return Read(read.frame, _failed(read, places, reason), read.unknown)
    columns = [stream.column(name) for name in stream.keys]
    keys = [_key(key, columns) for key in records["key"].filter(dead)]
    told = read_columns(pl.Series(keys, dtype=pl.Binary), columns, options)
    failures = told.failures.with_columns(
        _row=places.gather(told.failures["_row"]), stage=pl.lit("key"), column=pl.lit("Kafka key")
    )
    frame = read.frame.with_columns(
        read.frame[c.name].scatter(places, told.frame[c.name]) if len(places) else c.name for c in columns
    )
    return Read(frame, pl.concat([read.failures, failures]), read.unknown)


def _failed(read: Read, places: pl.Series, reason: str) -> pl.DataFrame:
    told = pl.DataFrame({"_row": places}).with_columns(stage=pl.lit("key"), reason=pl.lit(reason))
    missing = [pl.lit(None, t).alias(n) for n, t in READ_FAILURES.items() if n not in told.columns]
    return pl.concat([read.failures, told.with_columns(missing).select(*READ_FAILURES)])


def _key(key: bytes | None, columns: list[Column]) -> bytes:
    """Write a Kafka key as a JSON object; what is none stays as it is, to be refused."""
    if key is None:
        return b"{}"
    column = columns[0]
    try:
        value = parse(key)
    except NotJsonError:
        value = None
    if len(columns) > 1 or isinstance(value, dict):
        return key
    is_text = isinstance(column.dtype, pl.String | pl.Enum | pl.Categorical)
    if value is None or (is_text and (isinstance(value, Number) or not isinstance(value, str))):
        try:
            value = key.decode()
        except UnicodeDecodeError:
            return key
    return json.dumps(_nested(value, column.path)).encode()


def _nested(value: Any, path: tuple[str, ...]) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value
