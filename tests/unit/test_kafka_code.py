"""What the machine code of the reader needs, and what is done where it is missing."""

from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from resources import kafka_code
from resources.kafka_native import native

OPTIONS = {"group.id": "x"}


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    kafka_code.code.cache_clear()
    yield
    kafka_code.code.cache_clear()


def test_without_machine_code_there_is_no_native_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_code, "library", lambda _: None)
    assert native(OPTIONS, "any") is None


def test_code_that_reads_messages_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    if kafka_code.code() is None:
        pytest.skip("the machine code was not built")
    kafka_code.code.cache_clear()
    right = kafka_code.Code.frame

    def wrong(self: kafka_code.Code, chunk: Any) -> pl.DataFrame:
        return right(self, chunk).with_columns(pl.col("offset") + 1)

    monkeypatch.setattr(kafka_code.Code, "frame", wrong)
    assert native(OPTIONS, "any") is None


def test_a_client_without_the_functions_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    if kafka_code.code() is None:
        pytest.skip("the machine code was not built")
    kafka_code.code.cache_clear()
    monkeypatch.setattr(kafka_code, "_FUNCTIONS", ("rd_kafka_no_such",))
    assert native(OPTIONS, "any") is None


def test_names_of_headers_that_are_no_unicode_become_readable() -> None:
    names = pa.array([b"plain", b"\xff\xfe-more-than-twelve", "é".encode()], pa.binary_view())
    text = pa.Array.from_buffers(pa.string_view(), 3, names.buffers())
    values = pa.array([b"1", None, b""], pa.binary_view())
    pairs = pa.StructArray.from_arrays([text, values], fields=list(kafka_code._PAIR))
    headers = pa.LargeListArray.from_arrays(pa.array([0, 1, 1, 3], pa.int64()), pairs)
    read = pl.Series(kafka_code._readable(headers)).to_list()
    assert read == [
        [{"key": "plain", "value": b"1"}],
        [],
        [{"key": "\ufffd\ufffd-more-than-twelve", "value": None}, {"key": "é", "value": b""}],
    ]
