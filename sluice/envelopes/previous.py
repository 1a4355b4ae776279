"""The key that a row had before: written into silver's `_previous_key`, read by who follows changes of key.

It is JSON as a strict decoder takes it (`sluice.json`), whatever the connector's encodings were: dates and
times as ISO 8601, decimals digit for digit, bytes as base64. A key column that was not told is null, and then
no row is found by it; nothing is refused here.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from sluice.columns import Column, to_storage
from sluice.contract import Changes, Json
from sluice.envelopes.written import plain
from sluice.json.columns import read_columns
from sluice.json.rows import series_of

# A text, or a date or time outside of texts, where JSON has none; possessive, so that no input makes it slow.
_BARE = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.]++Z)?|[0-9]{2}:[0-9]{2}:[0-9.]++Z',
    re.DOTALL,
)


def quoted(header: bytes | None) -> bytes | None:
    """Put dates and times into quotes: Kafka Connect writes them into headers as they are."""
    return header and _BARE.sub(lambda m: m[0] if m[0].startswith(b'"') else b'"%s"' % m[0], header)


def written(columns: Sequence[Column], keys: Sequence[Sequence[Any] | None]) -> pl.Series:
    """Write keys as texts.

    Args:
        columns: the key columns.
        keys: a value for each of them, of its physical type; None: the row had no other key.
    """
    told = [key for key in keys if key is not None]
    if not told:
        return pl.repeat(None, len(keys), dtype=pl.String, eager=True)
    values = zip(*told, strict=True)
    frame = pl.DataFrame([series_of(c, list(mine)) for c, mine in zip(columns, values, strict=True)])
    texts = (
        json.dumps({c.name: plain(row[c.name], c.dtype) for c in columns})
        for row in to_storage(frame, tuple(columns)).iter_rows(named=True)
    )
    return pl.Series([None if key is None else next(texts) for key in keys], dtype=pl.String)


def previous(texts: pl.Series, stream: Changes) -> pl.DataFrame:
    """Read texts that `written` gave: the key columns, as silver stores them."""
    columns = tuple(replace(stream.column(name), path=(name,)) for name in stream.keys)
    return to_storage(read_columns(texts.cast(pl.Binary), columns, Json()).frame, columns)
