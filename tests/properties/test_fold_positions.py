"""Positions sort, byte by byte, as the values that they encode."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.envelopes.positions import encode

INT64 = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001  # zoned below where wanted
TYPES = {
    "int64": (pl.Int64(), INT64),
    "uint64": (pl.UInt64(), st.integers(0, 2**64 - 1)),
    "int8": (pl.Int8(), st.integers(-128, 127)),
    "decimal": (pl.Decimal(38, 9), st.decimals(-(10**28), 10**28, places=9)),
    "float": (pl.Float64(), st.floats(allow_nan=True)),
    "text": (pl.String(), st.text(st.characters(codec="utf-8"))),
    "control text": (pl.String(), st.text("\x00\x01\x02 ab")),
    "naive": (pl.Datetime("us"), MOMENTS),
    "zoned": (pl.Datetime("us", "UTC"), MOMENTS.map(lambda at: at.replace(tzinfo=UTC))),
    "date": (pl.Date(), st.dates(date(1, 1, 1))),
    "boolean": (pl.Boolean(), st.booleans()),
    "binary": (pl.Binary(), st.binary(max_size=5)),
}


def order(value):
    """What Python compares: NaN above all numbers, zeros equal."""
    if isinstance(value, float):
        return (math.isnan(value), 0.0 if math.isnan(value) else value)
    return Decimal(value) if isinstance(value, Decimal) else value


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_positions_sort_as_their_values(kind, data):
    """kinesis-iceberg 25: changes are applied in the order of their sequence, whatever its type."""
    dtype, values = TYPES[kind]
    pairs = data.draw(st.lists(st.tuples(values, INT64), min_size=2, max_size=12))
    frame = pl.DataFrame(
        {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}, {"a": dtype, "b": pl.Int64}
    )
    keys = [(order(a), b) for a, b in zip(frame["a"], frame["b"], strict=True)]
    texts = [text.encode() for text in encode(frame, ["a", "b"])]
    for left, text in zip(keys, texts, strict=True):
        for right, other in zip(keys, texts, strict=True):
            assert (left < right) == (text < other)
            assert (left == right) == (text == other)
