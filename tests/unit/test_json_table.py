"""Each line of contract.md's table “JSON to typed columns”: what is accepted, and what is refused."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from decoding import column, same

from sluice.contract import Json
from sluice.errors import ColumnTypeError
from sluice.json.columns import read_columns

BERLIN = Json(timezone="Europe/Berlin")
ZONED = pl.Datetime("us", "UTC")
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LINE = pl.Struct({"sku": pl.String(), "qty": pl.Int8()})

ACCEPTED: list[tuple[pl.DataType, str, Any, Json]] = [
    (pl.Int8(), "127", 127, Json()),
    (pl.Int64(), "1.0", 1, Json()),
    (pl.Int64(), "1e3", 1000, Json()),
    (pl.Int64(), '"12"', 12, Json()),
    (pl.Int64(), "-9223372036854775808", -(2**63), Json()),
    (pl.Int64(), "1e18", 10**18, Json()),
    (pl.UInt64(), "18446744073709551615", 2**64 - 1, Json()),
    (pl.Decimal(12, 2), "1.5", Decimal("1.50"), Json()),
    (pl.Decimal(12, 2), '"1.500"', Decimal("1.50"), Json()),
    (pl.Decimal(12, 2), "1e3", Decimal(1000), Json()),
    (
        pl.Decimal(38, 10),
        "1234567890123456789012345678.0123456789",
        Decimal("1234567890123456789012345678.0123456789"),
        Json(),
    ),
    (pl.Float64(), "1", 1.0, Json()),
    (pl.Float64(), '"2.5"', 2.5, Json()),
    (pl.Float32(), "0.1", pl.Series([0.1], dtype=pl.Float32)[0], Json()),
    (pl.String(), '"\\ud83d\\ude00\\u0000"', "\U0001f600\0", Json()),
    (pl.Boolean(), "true", True, Json()),
    (ZONED, '"2026-07-01T12:00:00Z"', NOON, Json()),
    (ZONED, '"2026-07-01 14:00+02:00"', NOON, Json()),
    (ZONED, '"2026-07-01T14:00:00"', NOON, BERLIN),
    (ZONED, '"2026-07-01T12:00:00"', NOON, Json()),
    (ZONED, '"2026-07-01T12:00:00.000000000Z"', NOON, Json()),
    (ZONED, '"9999-12-31T23:59:59.999999Z"', datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), Json()),
    (ZONED, "1782907200", NOON, Json(epoch="s")),
    (ZONED, "1782907200.000001", NOON + timedelta(microseconds=1), Json(epoch="s")),
    (ZONED, "1782907200000000000", NOON, Json(epoch="ns")),
    (pl.Datetime("ms", "UTC"), "1782907200000", NOON, Json(epoch="ms")),
    (pl.Datetime("us"), '"2026-07-01T12:00:00"', datetime(2026, 7, 1, 12), Json()),  # noqa: DTZ001  # naive
    (pl.Date(), '"2026-02-28"', date(2026, 2, 28), Json()),
    (pl.Time(), '"12:30:00.25"', time(12, 30, 0, 250000), Json()),
    (pl.Duration("ms"), '"P1DT1H0.5S"', timedelta(days=1, hours=1, seconds=0.5), Json()),
    (pl.Duration("us"), '"-P1W"', timedelta(weeks=-1), Json()),
    (pl.Binary(), '"aGk="', b"hi", Json()),
    (pl.List(pl.Int64()), "[1, null, 3]", [1, None, 3], Json()),
    (pl.Array(pl.Int64(), 2), "[1, 2]", [1, 2], Json()),
    (pl.List(LINE), '[{"sku": "a", "qty": "3", "more": 1}, null]', [{"sku": "a", "qty": 3}, None], Json()),
    (pl.Enum(["a", "b"]), '"b"', "b", Json()),
    (pl.Categorical(), '"any"', "any", Json()),
]

REFUSED: list[tuple[pl.DataType, str, Json]] = [
    *(
        (pl.Int64(), text, Json())
        for text in (
            "1.5",
            '"1.5"',
            "true",
            '"one"',
            '" 1"',
            '"+1"',
            '"01"',
            '""',
            "[]",
            "9223372036854775808",
            "1e400",
            "1e99999999999999999999",
        )
    ),
    *((pl.UInt8(), text, Json()) for text in ("-1", "256")),
    *(
        (pl.Decimal(5, 2), text, Json())
        for text in (
            "1.555",
            "1000",
            '"1e3"',
            '"+1"',
            '".5"',
            '"1."',
            "true",
            "1e-400",
            "12345678901234567890123456",
        )
    ),
    *((pl.Float64(), text, Json()) for text in ('"NaN"', '"Infinity"', "1e400", "true", '"1,5"')),
    (pl.Float32(), "1e39", Json()),
    *((pl.String(), text, Json()) for text in ("1", "true", "{}", "[]", '"\\ud800"', '"\\udc00\\ud800"')),
    *((pl.Boolean(), text, Json()) for text in ("1", '"true"', "0")),
    *(
        (ZONED, text, Json())
        for text in (
            "1782907200",
            '"2026-07-01"',
            '"2026-02-30T00:00:00Z"',
            '"today"',
            '"2026-07-01T12:00:00.0000001Z"',
            '"2026-07-01T24:00:00Z"',
            '"2026-07-01T23:59:60Z"',
            '"9999-12-31T23:00:00-05:00"',
            '"0000-01-01T00:00:00Z"',
            "true",
        )
    ),
    *((ZONED, f'"{text}"', BERLIN) for text in ("2026-03-29T02:30:00", "2026-10-25T02:30:00")),
    *((ZONED, text, Json(epoch="ns")) for text in ("1", "1e30", '"1"')),
    (pl.Datetime("ms", "UTC"), '"2026-07-01T12:00:00.0001Z"', Json()),
    (pl.Datetime("us"), '"2026-07-01T12:00:00Z"', Json()),
    *(
        (pl.Date(), text, Json())
        for text in ('"2026-02-29"', '"2026-2-1"', "20260201", '"2026-02-01T00:00:00"')
    ),
    *((pl.Time(), text, Json()) for text in ('"24:00"', '"12:00:00.0000001"', '"12"', '"12:00:00Z"')),
    *(
        (pl.Duration("ms"), text, Json())
        for text in ('"P1M"', '"P1Y"', '"P"', '"PT"', '"PT0.0001S"', '"1 day"', "5")
    ),
    *((pl.Binary(), text, Json()) for text in ('"a"', '"aGk"', '"a-_="', '"\u00e9"', "1")),
    *((pl.Array(pl.Int64(), 2), text, Json()) for text in ("[1]", "[1,2,3]", "{}")),
    (pl.Struct({"a": pl.Int8()}), "[]", Json()),
    *((pl.Enum(["a", "b"]), text, Json()) for text in ('"c"', "1", '""')),
]


def id_of(value: object) -> str:
    return str(value)[:40].replace("\0", "0")


@pytest.mark.parametrize(("dtype", "text", "value", "options"), ACCEPTED, ids=id_of)
def test_what_a_column_accepts(dtype: pl.DataType, text: str, value: object, options: Json) -> None:
    read = same([f'{{"c":{text}}}'.encode()], [column(dtype)], options)
    assert read.failures.is_empty()
    assert read.frame.schema == {"c": dtype}
    found = read.frame["c"].to_list()[0]
    assert found == value


@pytest.mark.parametrize(("dtype", "text", "options"), REFUSED, ids=id_of)
def test_what_a_column_refuses(dtype: pl.DataType, text: str, options: Json) -> None:
    read = same([f'{{"c":{text}}}'.encode()], [column(dtype)], options)
    (failure,) = read.failures.rows(named=True)
    assert (failure["stage"], failure["column"], failure["name"]) == ("schema", "c", "c")
    assert failure["reason"].startswith("found ")
    assert "accepts" in failure["reason"]
    assert read.frame["c"].to_list() == [None]


@pytest.mark.parametrize("dtype", [pl.Int64(), ZONED, pl.List(pl.Int64()), LINE], ids=str)
@pytest.mark.parametrize("text", ['{"c":null}', "{}"])
def test_null_and_missing_members_read_as_null(dtype: pl.DataType, text: str) -> None:
    read = same([text.encode()], [column(dtype)])
    assert (read.frame["c"].to_list(), read.failures.is_empty()) == ([None], True)


def test_the_path_names_the_element_and_every_misfit_is_listed() -> None:
    value = b'{"user":{"lines":[{"qty":1},{"qty":"x"},{"qty":300}]},"n":"y"}'
    read = same([value], [column(pl.List(LINE), "lines", ("user", "lines")), column(pl.Int8(), "n")])
    assert read.failures["column"].to_list() == ["user.lines[1].qty", "user.lines[2].qty", "n"]
    assert read.failures["name"].to_list() == ["lines", "lines", "n"]


def test_a_path_through_something_else_than_objects_is_refused() -> None:
    columns = [column(pl.String(), "id", ("user", "id"))]
    read = same([b'{"user":"x"}', b'{"user":null}', b"{}", b'{"user":{"id":"1"}}'], columns)
    assert read.frame["id"].to_list() == [None, None, None, "1"]
    assert read.failures.select("_row", "column").rows() == [(0, "user")]


def test_the_last_of_two_members_counts() -> None:
    read = same([b'{"c":1,"c":2}', b'{"c":"x","\\u0063":3}', b'{"c":4,"c":null}'], [column(pl.Int64())])
    assert read.frame["c"].to_list() == [2, 3, None]
    assert read.failures.is_empty()


def test_unknown_members_are_counted_once_a_value() -> None:
    values = [b'{"c":1,"a":1,"a":2}', b'{"a":{"b":1}}', b'{"c":"x","b":1}', b"[", b'{"\\u0061":1}']
    read = same(values, [column(pl.Int64())])
    assert read.unknown == {"a": 3, "b": 1}


def test_a_type_without_json_is_an_error_that_names_it() -> None:
    with pytest.raises(ColumnTypeError, match="Object"):
        read_columns(pl.Series([b"{}"]), [column(pl.Object())], Json())
