"""Decode the records of a stream, by what its contract is."""

import polars as pl

from sluice.contract import Changes, Events, Stream
from sluice.decode_changes import decode_changes
from sluice.decode_events import decode_events
from sluice.decoded import Decoded


def decode(stream: Stream, records: pl.DataFrame) -> Decoded:
    """Judge each record of a batch (columns of `sluice.tables.BRONZE`) by itself."""
    match stream:
        case Events():
            return decode_events(stream, records)
        case Changes():
            return decode_changes(stream, records)
        case _:
            raise TypeError(f"{stream!r} is neither Events nor Changes")
