"""What the tests of decoding share: types, values that are nearly right, and comparison of the three ways."""

from collections.abc import Sequence

import polars as pl
from hypothesis import strategies as st

from sluice.columns import Column
from sluice.contract import Json
from sluice.json.columns import read_columns
from sluice.json.machine import machine_code
from sluice.json.rows import Read, read_rows

LINES = pl.List(
    pl.Struct({"sku": pl.String(), "qty": pl.Int16(), "price": pl.Decimal(6, 2), "at": pl.Date()})
)
DTYPES: tuple[pl.DataType, ...] = (
    pl.String(),
    pl.Boolean(),
    pl.Int8(),
    pl.Int64(),
    pl.UInt8(),
    pl.UInt64(),
    pl.Decimal(5, 2),
    pl.Decimal(20, 18),
    pl.Decimal(38, 10),
    pl.Decimal(4, 0),
    pl.Float32(),
    pl.Float64(),
    pl.Datetime("us", "UTC"),
    pl.Datetime("ms", "Europe/Berlin"),
    pl.Datetime("ns", "UTC"),
    pl.Datetime("us"),
    pl.Date(),
    pl.Time(),
    pl.Duration("ms"),
    pl.Binary(),
    pl.Enum(["a", "b"]),
    pl.Categorical(),
    pl.List(pl.Int64()),
    pl.Array(pl.Int32(), 2),
    pl.List(pl.List(pl.Decimal(8, 2))),
    LINES,
    pl.Struct({"id": pl.Int32(), "deep": pl.Struct({"x": pl.Float64(), "y": pl.List(pl.Boolean())})}),
)

PLAIN = Json()

digits = st.text("0123456789", min_size=1, max_size=24)
numbers = st.one_of(
    st.sampled_from(
        [
            "0",
            "-0",
            "1",
            "1.0",
            "1e3",
            "10e-1",
            "-0.0",
            "1.50",
            "127",
            "128",
            "255",
            "256",
            "-129",
            "1e18",
            "1E+2",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "1e400",
            "1e-400",
            "0.1",
            "0e99",
            "1.555",
            "123456.789",
            "7.2003103300101003133e-38",
            "23462934292043567221924237544928837632",
            "1e38",
            "3.4028235677973366e38",
            "1e99999999999999999999",
            "1234567890123456789012345",
            "01",
            "+1",
            ".5",
            "1.",
            "NaN",
            "-Infinity",
            "1_0",
            "1700000000",
            "1700000000.5",
            "253402300800",
        ]
    ),
    st.builds(
        lambda s, w, f, e: f"{s}{w}{f}{e}",
        st.sampled_from(["", "-"]),
        digits.map(lambda d: d.lstrip("0") or "0"),
        st.one_of(st.just(""), digits.map(lambda d: "." + d)),
        st.one_of(st.just(""), st.integers(-70, 70).map(lambda e: f"e{e}")),
    ),
    st.integers(-(2**65), 2**65).map(str),
)
times = st.one_of(
    st.datetimes().map(lambda d: d.isoformat()),
    st.datetimes().map(lambda d: d.isoformat(" ") + "Z"),
    st.builds(
        lambda d, o: d.isoformat() + o, st.datetimes(), st.sampled_from(["+05:30", "-0800", "+01", "+24:00"])
    ),
    st.dates().map(str),
    st.times().map(str),
    st.sampled_from(
        [
            "2026-02-30",
            "0000-01-01",
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:00:00-05:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T23:59:60Z",
            "2026-01-01T10:00Z",
            "2026-01-01T10:00:00.1234567Z",
            "2026-01-01T10:00:00.1234560Z",
            "2026-01-01t10:00:00z",
            "2026-10-25T02:30:00",
            "2026-03-29T02:30:00",
            "20260101T100000Z",
            "2026-01-01T10:00:00,5Z",
            "12:30",
            "12:30:00.0000001",
            "P1DT2H",
            "-PT0.5S",
            "P1M",
            "PT",
            "PT1.0001S",
            "1677-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "\u0661\u0662:30",
        ]
    ),
)
texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["a", "b", "", "YWI=", "YWI", "\u0000", "\n", '"', "\\", "\U0001f600", "NaN", "Info"]),
)


def quoted(text: str) -> str:
    """Write a JSON string by hand, control characters and quotes escaped."""
    return '"' + "".join(f"\\u{ord(c):04x}" if c < " " or c in '"\\' else c for c in text) + '"'


scalars = st.one_of(
    numbers,
    numbers.map(quoted),
    times.map(quoted),
    texts.map(quoted),
    st.sampled_from(["true", "false", "null", '"\\ud800"', '"\\ud83d\\ude00"', "tru", "'a'", "nan"]),
)
names = st.sampled_from(["c", "d", "sku", "qty", "price", "at", "id", "deep", "x", "y", "extra", "\\u0063"])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
        st.lists(st.tuples(names, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f'"{name}":{value}' for name, value in pairs) + "}"
        ),
    ),
    max_leaves=8,
)
objects = st.lists(st.tuples(names, values), max_size=4).map(
    lambda pairs: "{" + ",".join(f'"{name}": {value}' for name, value in pairs) + "}"
)


def column(dtype: pl.DataType, name: str = "c", path: tuple[str, ...] | None = None) -> Column:
    return Column(name, dtype, nullable=True, path=path or (name,))


def both(values: Sequence[bytes | None], columns: Sequence[Column], options: Json) -> tuple[Read, Read]:
    """Read by each fast way, however few the values, which must agree; and row by row."""
    series = pl.Series(values, dtype=pl.Binary)
    fast = read_columns(series, columns, options, few=-1, native=False)
    if machine_code():
        native = read_columns(series, columns, options, few=-1)
        assert_equal(native, fast, values)
    return fast, read_rows(values, columns, options)


def same(values: Sequence[bytes | None], columns: Sequence[Column], options: Json = PLAIN) -> Read:
    """Assert that all ways say the same; give it."""
    fast, strict = both(values, columns, options)
    assert_equal(fast, strict, values)
    return fast


def assert_equal(one: Read, other: Read, values: Sequence[bytes | None]) -> None:
    assert one.frame.schema == other.frame.schema
    assert one.frame.equals(other.frame), (values, one.frame, other.frame)
    assert one.failures.schema == other.failures.schema
    assert one.failures.rows() == other.failures.rows()
    assert one.unknown == other.unknown
