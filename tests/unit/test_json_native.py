"""What machine code leaves in doubt, how it names what nobody takes, and whose memory its columns are."""

import gc
from datetime import UTC, datetime

import polars as pl
import pytest
from decoding import PLAIN, column, same

from sluice.contract import Json
from sluice.json.columns import read_columns
from sluice.json.machine import machine_code, read_native
from sluice.json.plan import DEEPEST, plan
from sluice.json.times import offsets

needs_code = pytest.mark.skipif(machine_code() is None, reason="no machine code was built for JSON")
ID = column(pl.Int64(), "id")


@needs_code
def test_common_forms_are_read_without_the_strict_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    forms: list[tuple[pl.DataType, str]] = [
        (pl.Int32(), "1.0"), (pl.Int64(), '"-12"'), (pl.UInt8(), "1e2"), (pl.Decimal(12, 2), "1.500"),
        (pl.Decimal(38, 10), '"1234567890123456789012345678.0123456789"'), (pl.Float32(), '"1e-3"'),
        (pl.Float64(), "0.30000000000000004"), (pl.String(), '"\\ud83d\\ude00"'), (pl.Boolean(), "false"),
        (pl.Datetime("us", "UTC"), '"2026-01-01 10:00+05:30"'), (pl.Datetime("ms", "UTC"), "1.5e9"),
        (pl.Datetime("ns"), '"2026-01-01T10:00:00.5"'), (pl.Date(), '"2024-02-29"'), (pl.Time(), '"12:30"'),
        (pl.Duration("us"), '"-P1DT0.5S"'), (pl.Enum(["a"]), '"a"'), (pl.Binary(), '"YWI="'),
        (pl.List(pl.Array(pl.Int8(), 2)), "[[1, 2]]"),
    ]  # fmt: skip
    columns = [column(dtype, f"c{n}") for n, (dtype, _) in enumerate(forms)]
    text = "{" + ",".join(f'"c{n}":{form}' for n, (_, form) in enumerate(forms)) + "}"
    expected = same([text.encode()], columns, Json(epoch="ms"))

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("sluice.json.machine.reader", lambda *_: never)
    monkeypatch.setattr("sluice.json.rows._object", never)
    read = read_columns(pl.Series([text.encode()]), columns, Json(epoch="ms"), few=0)
    assert read.frame.equals(expected.frame)
    assert read.failures.is_empty()


def test_columns_may_share_a_member() -> None:
    columns = [
        column(pl.String(), "text", ("user", "id")),
        column(pl.Int16(), "number", ("user", "id")),
        column(pl.Struct({"id": pl.Int64(), "name": pl.String()}), "user"),
        column(pl.String(), "other", ("user",)),
        column(pl.Binary(), "raw", ("user", "id")),
    ]
    values = [
        b'{"user":{"id":"12","name":"x"}}',
        b'{"user":null}',
        b'{"user":{"id":1}}',
        b'{"user":"YWI="}',
        b"{}",
    ]
    read = same(values * 2, columns)
    assert read.frame["text"].to_list() == ["12", None, None, None, None] * 2
    assert read.frame["number"].to_list() == [12, None, 1, None, None] * 2


def test_the_order_of_members_is_free_and_the_last_of_equal_ones_counts() -> None:
    columns = [column(pl.Int64(), name) for name in "abcd"]
    texts = [
        b'{"d":4,"b":2,"a":1}',
        b'{"c":3,"x":{"a":9},"d":4}',
        b'{"a":1,"b":2,"a":3}',
        b'{"\\u0061":7,"a":8}',
    ]
    read = same(texts, columns)
    assert read.frame["a"].to_list() == [1, None, 3, 8]


def test_members_that_no_column_takes_are_counted_in_rows_that_are_read() -> None:
    names = [f"n{n}" for n in range(500)]
    texts = [b'{"id":1,"%s":[],"%s":0}' % (name.encode(), name.encode()) for name in names]
    texts += [b'{"id":1,"n7":1,"broken":', b'{"id":"x","n7":{"n8":1}}', '{"é\U0001f600":1,"":2}'.encode()]
    read = same(texts, [ID])
    assert read.unknown == dict.fromkeys(names, 1) | {"n7": 2, "é\U0001f600": 1, "": 1}


@pytest.mark.parametrize("name", ['a"b', "a\\", "é", "\n", "", " ", "a.b", "x" * 300])
def test_odd_names_of_members(name: str) -> None:
    spelled = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    texts = [f'{{"{spelled}":1}}'.encode(), f'{{"{spelled}x":1}}'.encode()]
    columns = [column(pl.Int64(), "c", (name,))]
    strict = read_columns(pl.Series(texts), columns, PLAIN, few=9)
    read = read_columns(pl.Series(texts), columns, PLAIN, few=0)
    assert read.frame.equals(strict.frame)
    assert read.frame["c"].to_list() == [1, None]
    assert read.unknown == strict.unknown


def test_types_and_paths_that_are_too_deep_are_read_row_by_row() -> None:
    path = tuple(f"p{n}" for n in range(DEEPEST))
    value = "".join(f'{{"{name}":' for name in path) + "7" + "}" * len(path)
    assert plan([column(pl.Int64(), "c", path)], PLAIN) is None
    assert same([value.encode()] * 3, [column(pl.Int64(), "c", path)]).frame["c"].to_list() == [7] * 3


def test_slices_chunks_and_nulls_keep_their_rows() -> None:
    values = [None if n % 7 == 0 else b'{"id":%d,"s":"%s"}' % (n, b"x" * (n % 30)) for n in range(1000)]
    columns = [ID, column(pl.String(), "s")]
    whole = pl.Series(values, dtype=pl.Binary)
    parts = pl.concat([whole[3:50], whole[50:51], whole[51:990]])
    for series in (whole[3:990], parts, parts.rechunk()):
        read = read_columns(series, columns, PLAIN)
        assert read.frame["id"].to_list() == [None if n % 7 == 0 else n for n in range(3, 990)]
        assert read.frame["s"].str.len_bytes().to_list() == [
            None if n % 7 == 0 else n % 30 for n in range(3, 990)
        ]


@needs_code
def test_columns_outlive_the_values_and_each_other() -> None:
    kept = []
    for n in range(6):
        text = b'{"id":%d,"s":"a text of more than twelve bytes %d","l":["%d"]}' % (n, n, n)
        columns = [ID, column(pl.String(), "s"), column(pl.List(pl.String()), "l")]
        frame = read_columns(pl.Series([text] * 100), columns, PLAIN).frame
        kept.append(frame[("id", "s", "l")[n % 3]])
        del frame
        gc.collect()
    assert [series.n_unique() for series in kept] == [1] * 6
    assert kept[1][99] == "a text of more than twelve bytes 1"
    assert kept[2][99].to_list() == ["2"]


@needs_code
def test_a_hundred_wrong_values_of_a_row_are_listed_in_the_order_of_columns() -> None:
    columns = [column(pl.Int8(), f"c{n}") for n in range(100)]
    text = "{" + ",".join(f'"c{n}":"x{n}"' for n in reversed(range(100))) + "}"
    read = same([text.encode(), b"{}", text.encode()], columns)
    assert read.failures["name"].to_list() == [f"c{n}" for n in range(100)] * 2


@needs_code
def test_no_rows_and_no_columns() -> None:
    code, planned = machine_code(), plan([ID], PLAIN)
    assert code
    assert planned
    read = read_native(code, planned, pl.Series([], dtype=pl.Binary), [ID], PLAIN)
    assert read.frame.schema == {"id": pl.Int64}
    assert read.frame.is_empty()


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca"]
)
def test_clocks_without_offset_around_their_changes(zone: str) -> None:
    days = [
        f"{year}-{month:02}-{day}"
        for year in (1979, 1996, 2026, 2040)
        for month in range(1, 13)
        for day in (14, 28)
    ]
    changes = [
        "2026-03-29",
        "2026-10-25",
        "2006-04-02",
        "2006-10-29",
        "2026-04-05",
        "2026-10-04",
        "2026-02-15",
    ]
    clocks = [f"{hour:02}:{minute}" for hour in range(4) for minute in ("00:00", "01:00", "30:00.5")]
    texts = [f'{{"at":"{day}T{clock}"}}' for day in days + changes for clock in clocks]
    same([text.encode() for text in texts], [column(pl.Datetime("us", "UTC"), "at")], Json(timezone=zone))


def test_the_stretches_of_a_zone_leave_out_its_changes() -> None:
    stretches = offsets("Europe/Berlin")
    assert {offset for *_, offset in stretches} == {3600, 7200}
    summer = datetime(2026, 3, 29, 2, 30, tzinfo=UTC).timestamp()  # skipped by that clock
    winter = datetime(2026, 10, 25, 2, 30, tzinfo=UTC).timestamp()  # there twice
    assert not any(first <= moment < end for first, end, _ in stretches for moment in (summer, winter))
    assert sum(end - first for first, end, _ in stretches) > 57 * 365 * 86400
