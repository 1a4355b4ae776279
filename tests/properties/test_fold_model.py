"""The fold against the plain model, for any history in any order of delivery."""

import random

import pandera.polars as pa
import polars as pl
from changes import model, same, silver_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sluice import Changes, Daily, Json
from sluice.history.scd2 import fold, intervals_broken


class Row(pa.DataFrameModel):
    k: int
    seq: int
    at: int
    a: str = pa.Field(nullable=True)
    b: float = pa.Field(nullable=True)
    note: str = pa.Field(nullable=True)


def contract(**options):
    """A stream whose `note` is not tracked."""
    defaults = {
        "name": "rows",
        "topic": "rows",
        "value": Json(),
        "schema": Row,
        "key": "k",
        "sequence": "seq",
        "valid_from": "at",
        "track": ("a", "b"),
        "history": True,
        "partitions": Daily(start="2026-01-01"),
    }
    return Changes(**(defaults | options))


CHANGE = st.fixed_dictionaries(
    {
        "k": st.integers(0, 2),
        "seq": st.integers(0, 12),
        "at": st.integers(0, 6),
        "a": st.sampled_from(["x", "y", "", None]),
        "b": st.sampled_from([0.0, 1.5, float("nan"), None]),
        "note": st.sampled_from(["n", "m", None]),
        "_op": st.sampled_from(["c", "u", "u", "u", "d", "t", "r"]),
        "_unavailable": st.sampled_from([None, None, None, ["a"], ["a", "note"]]),
    }
)
HISTORY = st.lists(CHANGE, max_size=25)


def completed(history, stream):
    """Make silver of a history: truncates have no key, unavailable values are null."""
    rows = []
    for number, change in enumerate(history):
        row = dict(change, _offset=number, _valid_from=change["at"])
        if row["_op"] == "t":
            row.update(k=None, a=None, b=None, note=None, _unavailable=None)
        rows.append(row | dict.fromkeys(row["_unavailable"] or []))
    return (
        silver_rows(stream, rows)
        if rows
        else silver_rows(stream, [dict.fromkeys(Row.to_schema().columns)]).clear()
    )


@settings(max_examples=150, deadline=None)
@given(history=HISTORY, ignore_null=st.booleans(), shuffle=st.randoms(use_true_random=False))
def test_fold_equals_the_model_in_any_order(history, ignore_null, shuffle: random.Random):
    """kafka-medallion 12 and 7, kinesis-iceberg 25: SCD2 versions, whatever the order and the doubles."""
    stream = contract(ignore_null=ignore_null)
    rows = completed(history, stream)
    values = ("a", "b", "note")
    expected = model(rows.to_dicts(), stream, ("a", "b"), values)
    folded = fold(rows, stream)
    got = folded.to_dicts()
    assert len(got) == len(expected)
    for row, wanted in zip(got, expected, strict=True):
        assert (row["k"],) == wanted["key"]
        assert same(row, wanted, ("valid_from", "valid_to", "version", *values))
    doubled = pl.concat([rows, rows.sample(fraction=0.5, seed=shuffle.randrange(99))])
    for _ in range(3):
        again = fold(doubled.sample(fraction=1.0, shuffle=True, seed=shuffle.randrange(10**6)), stream)
        assert_frame_equal(again, folded)
    assert intervals_broken(folded, stream.keys, history=True, track=stream.track).is_empty()


@settings(max_examples=150, deadline=None)
@given(history=HISTORY)
def test_the_image_is_the_open_versions(history):
    """kafka-medallion 12: the latest image equals what the history says is current."""
    rows = completed(history, contract())
    versions, image = fold(rows, contract()), fold(rows, contract(history=False))
    assert_frame_equal(versions.filter("is_current").select(image.columns), image, check_row_order=False)
    assert intervals_broken(image, ("k",), history=False).is_empty()


@settings(max_examples=150, deadline=None)
@given(history=HISTORY)
def test_keys_fold_apart(history):
    """kinesis-iceberg 25: folding each key alone (with all truncates) gives what folding all gives."""
    stream = contract()
    rows = completed(history, stream)
    parts = [rows.filter((pl.col("k") == k) | (pl.col("_op") == "t")) for k in range(3)]
    assert_frame_equal(pl.concat([fold(part, stream) for part in parts]), fold(rows, stream))


@settings(max_examples=100, deadline=None)
@given(history=HISTORY)
def test_the_fold_is_idempotent(history):
    """kafka-medallion 12: versions told as changes once more give the same versions."""
    stream = contract()
    folded = fold(completed(history, stream), stream)
    told = folded.select(*Row.to_schema().columns, "valid_from", "valid_to").to_dicts()
    again = []
    for row in told:
        opens, closes = row.pop("valid_from"), row.pop("valid_to")
        again.append(row | {"_valid_from": opens, "_op": "u", "_position": f"{opens} 1"})
        if closes is not None:
            again.append(row | {"_valid_from": closes, "_op": "d", "_position": f"{closes} 0"})
    if not again:
        assert folded.is_empty()
        return
    columns = [*Row.to_schema().columns, "valid_from", "valid_to", "is_current", "version"]
    assert_frame_equal(fold(silver_rows(stream, again), stream).select(columns), folded.select(columns))
