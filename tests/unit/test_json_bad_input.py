"""What is JSON at all: the JSON test suite, and the bad inputs that streams really bring."""

import os
from pathlib import Path

import polars as pl
import pytest
from decoding import both, column, same

from sluice.contract import Json
from sluice.json.columns import read_columns
from sluice.json.strict import MAX_DEPTH, Number, parse

SUITE = Path(__file__).resolve().parents[3] / "shared" / "data" / "json-testsuite" / "test_parsing"
CASES = sorted(SUITE.glob("*.json")) if SUITE.is_dir() else []
COLUMNS = [column(pl.Int64(), "id")]


@pytest.mark.skipif(not CASES, reason="the JSON test suite is not beside the repository")
def test_the_json_test_suite_as_a_member() -> None:
    values = [b'{"id":1,"m":' + case.read_bytes() + b"}" for case in CASES]
    read = same(values, COLUMNS)
    refused = set(read.failures.filter(pl.col("stage") == "decode")["_row"])
    for row, case in enumerate(CASES):
        if case.name.startswith("y_"):
            assert row not in refused, case.name
        elif case.name.startswith("n_"):
            assert row in refused, case.name
        assert (read.frame["id"][row] == 1) == (row not in refused)


@pytest.mark.skipif(not CASES, reason="the JSON test suite is not beside the repository")
def test_the_json_test_suite_as_whole_values() -> None:
    values = [case.read_bytes() for case in CASES]
    read = same(values, COLUMNS)
    refused = set(read.failures.filter(pl.col("stage") == "decode")["_row"])
    for row, case in enumerate(CASES):
        is_object = values[row].lstrip().startswith(b"{")
        if case.name.startswith("n_") or not is_object:
            assert row in refused, case.name
        elif case.name.startswith("y_"):
            assert row not in refused, case.name


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"id":1', "invalid JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"id":NaN}', "NaN"),
        (b"{}{}", "Extra data"),
        (b'{"id":1,}', "invalid JSON"),
        (b"[1]", "an array of 1"),
        (b'"text"', "the text 'text'"),
        (b"null", "null"),
        (b"\0\0", "invalid JSON"),
        (b'{"m":' + b"[" * 600 + b"]" * 600 + b"}", "512"),
        (b"[" * 100_000, "512"),
        (os.urandom(4096) + b"\xff", "UTF-8"),
    ],
)
def test_what_is_no_json_object_says_so(value: bytes, words: str) -> None:
    good = b'{"id":7}'
    read = same([good, value, good], COLUMNS)
    (failure,) = read.failures.rows(named=True)
    assert (failure["_row"], failure["stage"], failure["column"]) == (1, "decode", None)
    assert words in failure["reason"]
    assert read.frame["id"].to_list() == [7, None, 7]


def test_deep_but_not_too_deep() -> None:
    values = [b'{"id":1,"m":' + b"[" * n + b"]" * n + b"}" for n in (100, MAX_DEPTH - 1, MAX_DEPTH)]
    read = same(values, COLUMNS)
    assert read.failures["_row"].to_list() == [2]


def test_brackets_in_strings_are_not_depth() -> None:
    value = b'{"id":1,"m":"' + b'[{\\"' * 2000 + b'"}'
    assert same([value], COLUMNS).frame["id"].to_list() == [1]


def test_values_of_ten_megabytes() -> None:
    text = b"x" * 10_000_000
    nested = b'{"id":3,"m":[' + b",".join([b'{"a":[1]}'] * 200_000) + b"]}"
    values = [b'{"id":1,"s":"' + text + b'"}', b'{"id":2}', nested, b'{"id":4,"s":"' + text]
    fast, _ = both(values, [*COLUMNS, column(pl.String(), "s")], Json())
    assert fast.frame["id"].to_list() == [1, 2, 3, None]
    assert fast.frame["s"].str.len_bytes().to_list() == [10_000_000, None, None, None]
    assert fast.failures["_row"].to_list() == [3]


def test_many_chunks_keep_their_order() -> None:
    values = [b'{"id":%d,"s":"%s"}' % (n, b"x" * 200_000) for n in range(400)]
    values[150], values[399] = b"{", None
    read = read_columns(pl.Series(values, dtype=pl.Binary), COLUMNS, Json())
    expected = [n if n not in (150, 399) else None for n in range(400)]
    assert read.frame["id"].to_list() == expected
    assert read.failures["_row"].to_list() == [150]
    assert read.unknown == {"s": 398}


def test_parse_keeps_numbers_as_text() -> None:
    parsed = parse(b'{"a":1.50,"b":12345678901234567890123,"c":"1.50","a2":[1e5]}')
    assert parsed == {"a": "1.50", "b": "12345678901234567890123", "c": "1.50", "a2": ["1e5"]}
    assert isinstance(parsed["a"], Number)
    assert not isinstance(parsed["c"], Number)
