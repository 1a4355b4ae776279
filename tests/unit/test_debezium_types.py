"""The types of PostgreSQL and MySQL in each mode of the connector, with a schema block and without."""

import json

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of

from sluice import Debezium
from sluice.decode_changes import decode_changes
from sluice.problems import problems

TIME, DATA, CONNECT = "io.debezium.time.", "io.debezium.data.", "org.apache.kafka.connect.data."
US, ZONED = pl.Datetime("us"), pl.Datetime("us", "UTC")
REFUSED = object()
SCALE2 = {"parameters": {"scale": "2"}}


def read(dtype, value, block=None, **options):
    """Read one value as a user's stream would; `value` as JSON text gives digits."""
    text = value.removeprefix("=") if isinstance(value, str) and value.startswith("=") else json.dumps(value)
    event = f'{{"op": "c", "after": {{"id": 1, "v": {text}}}, "source": {{}}}}'
    if block is not None:
        fields = [{"field": "id", "type": "int32"}, {"field": "v", **block}]
        schema = {"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": fields}]}
        event = f'{{"schema": {json.dumps(schema)}, "payload": {event}}}'
    of = Debezium(**({"source": "postgresql"} | options))
    decoded = decode_changes(changes_of({"id": int, "v": dtype}, value=of), bronze([event]))
    if decoded.failures.height:
        assert decoded.failures.select("stage", "column").rows() == [("schema", "v")]
        return REFUSED
    return decoded.rows["v"][0]


def described(dtype, **metadata):
    """Make a model of a column with a description of its source's."""
    names = {"__annotations__": {"id": int, "v": dtype}, "v": pa.Field(metadata=metadata)}
    return type("Row", (pa.DataFrameModel,), names)


def exactly(dtype, text):
    return pl.Series([text]).cast(dtype)[0] if isinstance(dtype, pl.Decimal) else text


@pytest.mark.parametrize(
    ("mode", "value", "block"),
    [
        ("precise", "MDk=", {"type": "bytes", "name": CONNECT + "Decimal", **SCALE2}),
        ("string", "123.45", {"type": "string"}),
        ("double", "=123.45", {"type": "double"}),
        ("double", "=1.2345E2", {"type": "double"}),
        ("precise", {"scale": 2, "value": "MDk="}, {"type": "struct", "name": DATA + "VariableScaleDecimal"}),
    ],
)
@pytest.mark.parametrize("told", ["by the schema", "by the contract", "by nobody"])
def test_decimals(mode, value, block, told):
    dtype = pl.Decimal(10, 2)
    of = (
        {"block": block}
        if told == "by the schema"
        else {"decimal": mode}
        if told == "by the contract"
        else {}
    )
    if told == "by nobody" and value == "MDk=":
        assert read(dtype, value) == exactly(dtype, "123.45")  # no digits: it can only be base64
    else:
        assert read(dtype, value, **of) == exactly(dtype, "123.45")


def test_a_text_that_could_be_digits_or_base64_needs_a_word():
    dtype = pl.Decimal(12, 2)
    assert read(dtype, "1234") is REFUSED
    assert read(dtype, "1234", decimal="string") == exactly(dtype, "1234")
    assert read(dtype, "1234", decimal="precise") == exactly(dtype, "-26588.24")
    assert read(dtype, "no", decimal="string") is REFUSED
    assert read(dtype, "12.5", decimal="precise") is REFUSED
    assert read(str, "NaN", {"type": "string"}) == "NaN"
    assert read(float, "NaN", {"type": "double"}) != read(float, "NaN", {"type": "double"})


@pytest.mark.parametrize(
    ("dtype", "value", "block", "expected"),
    [
        # dates: adaptive, connect, ISO
        (pl.Date, 17454, {"type": "int32", "name": TIME + "Date"}, "2017-10-15"),
        (pl.Date, 17454, {"type": "int32", "name": CONNECT + "Date"}, "2017-10-15"),
        (pl.Date, "2017-10-15Z", {"type": "string", "name": TIME + "IsoDate"}, "2017-10-15"),
        (pl.Date, "2017-10-15", None, "2017-10-15"),
        (pl.Date, "2017-10-15Z", None, "2017-10-15"),
        # times: milli-, micro-, nanoseconds, ISO, zoned
        (pl.Time, 1500, {"type": "int32", "name": TIME + "Time"}, "00:00:01.500000"),
        (pl.Time, 1500000, {"type": "int64", "name": TIME + "MicroTime"}, "00:00:01.500000"),
        (pl.Time, 1500000000, {"type": "int64", "name": TIME + "NanoTime"}, "00:00:01.500000"),
        (pl.Time, 1500, {"type": "int32", "name": CONNECT + "Time"}, "00:00:01.500000"),
        (pl.Time, "00:00:01.5Z", {"type": "string", "name": TIME + "IsoTime"}, "00:00:01.500000"),
        (pl.Time, "00:00:01.5Z", {"type": "string", "name": TIME + "ZonedTime"}, "00:00:01.500000"),
        (pl.Time, 43_200_000, None, REFUSED),  # 12:00 in milliseconds, 00:00:43.2 in microseconds
        (pl.Time, 0, None, "00:00:00"),
        (pl.Time, 86_399_999, None, REFUSED),
        (pl.Time, 86_400_000, None, "00:01:26.400000"),  # no milliseconds of a day
        (pl.List(pl.Time), [86_400_000], None, ["00:01:26.400000"]),
        # timestamps: milli-, micro-, nanoseconds, ISO, zoned; before 1970
        (US, -1, {"type": "int64", "name": TIME + "Timestamp"}, "1969-12-31 23:59:59.999000"),
        (US, -1, {"type": "int64", "name": TIME + "MicroTimestamp"}, "1969-12-31 23:59:59.999999"),
        (US, 1500000000, {"type": "int64", "name": TIME + "NanoTimestamp"}, "1970-01-01 00:00:01.500000"),
        (US, 1500, {"type": "int64", "name": CONNECT + "Timestamp"}, "1970-01-01 00:00:01.500000"),
        (US, "2015-01-02T03:04:05.5Z", {"type": "string", "name": TIME + "IsoTimestamp"},
         "2015-01-02 03:04:05.500000"),
        (US, "2015-01-02T03:04:05.5Z", None, "2015-01-02 03:04:05.500000"),
        (US, "2015-01-02T03:04:05.5", None, "2015-01-02 03:04:05.500000"),
        (US, "2015-01-02T03:04:05+02:00", None, REFUSED),
        (ZONED, "2015-01-02T03:04:05+02:00", {"type": "string", "name": TIME + "ZonedTimestamp"},
         "2015-01-02 01:04:05+00:00"),
        (ZONED, 1500, {"type": "int64", "name": CONNECT + "Timestamp"}, "1970-01-01 00:00:01.500000+00:00"),
        (pl.Datetime("ms"), 1500, None, "1970-01-01 00:00:01.500000"),
        (pl.Datetime("ns"), 1500, None, REFUSED),  # no adaptive mode of theirs writes nanoseconds
        # intervals: numeric, string; MySQL's TIME beyond a day
        (pl.Duration("us"), 90_061_000_001, {"type": "int64", "name": TIME + "MicroDuration"},
         "1 day, 1:01:01.000001"),
        (pl.Duration("us"), -90_061_000_000, {"type": "int64", "name": TIME + "MicroTime"},
         "-2 days, 22:58:59"),
        (pl.Duration("us"), "P0Y0M1DT1H1M1.5S", {"type": "string", "name": TIME + "Interval"},
         "1 day, 1:01:01.500000"),
        (str, "P1Y2M3DT4H5M6.78S", {"type": "string", "name": TIME + "Interval"}, "P1Y2M3DT4H5M6.78S"),
        (pl.Duration("us"), "P1M", {"type": "string", "name": TIME + "Interval"}, REFUSED),
          # of no one length
        # integers, unsigned; years; bits and booleans
        (pl.UInt64, 2**63, {"type": "int64"}, 2**63),
        (pl.UInt64, "AP//////////", {"type": "bytes", "name": CONNECT + "Decimal",
         "parameters": {"scale": "0"}}, 2**64 - 1),
        (pl.UInt8, 255, {"type": "int16"}, 255),
        (pl.UInt8, 256, {"type": "int16"}, REFUSED),
        (pl.Int16, 2024, {"type": "int32", "name": TIME + "Year"}, 2024),
        (bool, True, {"type": "boolean"}, True),
        (str, "Aw==", {"type": "bytes", "name": DATA + "Bits", "parameters": {"length": "3"}}, "011"),
        (pl.Int64, "Aw==", {"type": "bytes", "name": DATA + "Bits", "parameters": {"length": "3"}}, 3),
        # texts of all kinds
        (str, "a", {"type": "string", "name": DATA + "Enum"}, "a"),
        (str, "a,b", {"type": "string", "name": DATA + "EnumSet"}, "a,b"),
        (pl.Enum(["a"]), "a", {"type": "string", "name": DATA + "Enum"}, "a"),
        (pl.Enum(["a"]), "b", {"type": "string", "name": DATA + "Enum"}, REFUSED),
        (str, '{"a": [1.10]}', {"type": "string", "name": DATA + "Json"}, '{"a": [1.10]}'),
        (str, "<a/>", {"type": "string", "name": DATA + "Xml"}, "<a/>"),
        (str, "a.b", {"type": "string", "name": DATA + "Ltree"}, "a.b"),
        (str, "[1,5)", None, "[1,5)"),
        # hstore: json, map
        (str, '{"a": null}', {"type": "string", "name": DATA + "Json"}, '{"a": null}'),
        (str, {"a": "1", "b": None}, {"type": "map"}, '{"a": "1", "b": null}'),
        (str, {"a": "1", "b": None}, None, '{"a": "1", "b": null}'),
        (str, {"a": 1}, None, REFUSED),
        # geometry
        (pl.Binary, {"wkb": "AQE=", "srid": None}, {"type": "struct", "name": DATA + "geometry.Geometry"},
         b"\x01\x01"),
        (pl.Struct({"wkb": pl.Binary, "srid": pl.Int32}), {"wkb": "AQE=", "srid": 4326}, None,
         {"wkb": b"\x01\x01", "srid": 4326}),
        (pl.Struct({"x": pl.Float64, "y": pl.Float64}), {"x": 1.5, "y": 2, "wkb": "AQE="}, None, {"x": 1.5,
         "y": 2.0}),
        # arrays
        (pl.List(pl.Int32), [1, None], {"type": "array", "items": {"type": "int32"}}, [1, None]),
        (pl.List(pl.Date), [17454], {"type": "array", "items": {"type": "int32", "name": TIME + "Date"}},
         ["2017-10-15"]),
        (pl.List(pl.Decimal(6, 2)), ["MDk="],
         {"type": "array", "items": {"type": "bytes", "name": CONNECT + "Decimal", **SCALE2}}, ["123.45"]),
        (pl.List(pl.Float64), [1.5], {"type": "array", "name": DATA + "DoubleVector",
         "items": {"type": "double"}}, [1.5]),
    ],
)  # fmt: skip
def test_values(dtype, value, block, expected):
    found = read(dtype, value, block)
    if isinstance(found, pl.Series):
        found = [item if item is None or isinstance(item, int | float) else str(item) for item in found]
    known = (bool, int, bytes, dict, list, str)
    assert (found if found is REFUSED or isinstance(found, known) else str(found)) == expected


@pytest.mark.parametrize(
    ("mode", "text"),
    [("base64", "+/8="), ("base64-url-safe", "-_8="), ("base64-url-safe", "-_8"), ("hex", "fbff")],
)
@pytest.mark.parametrize("block", [None, {"type": "string"}])
def test_bytes_in_each_mode(mode, text, block):
    assert read(pl.Binary, text, block, binary=mode) == b"\xfb\xff"
    assert read(str, text, block, binary=mode) == text
    assert read(pl.Binary, "%", block, binary=mode) is REFUSED


def test_bytes_by_their_schema_are_base64_whatever_the_mode():
    assert read(pl.Binary, "+/8=", {"type": "bytes"}, binary="hex") == b"\xfb\xff"


MODES = [  # 12:00 as each mode writes it, and 1970-01-01 12:00
    ({"time": "connect"}, 43_200_000, 43_200_000),
    ({"time": "microseconds"}, 43_200_000_000, 43_200_000_000),
    ({"time": "nanoseconds"}, 43_200_000_000_000, 43_200_000_000_000),
    ({"time": "isostring"}, "12:00:00Z", "1970-01-01T12:00:00Z"),
    ({"time": "adaptive_time_microseconds"}, 43_200_000_000, 43_200_000_000),
    ({"source": "mysql"}, 43_200_000_000, 43_200_000_000),
    ({"source": "mysql", "time": "connect"}, 43_200_000, 43_200_000),
]


@pytest.mark.parametrize(("options", "clock", "stamp"), MODES)
def test_times_without_a_schema_are_read_in_the_connectors_mode(options, clock, stamp):
    assert str(read(pl.Time, clock, **options)) == "12:00:00"
    assert str(read(US, stamp, **options)) == "1970-01-01 12:00:00"
    assert [str(at) for at in read(pl.List(pl.Time), [clock], **options)] == ["12:00:00"]
    if options.get("source") == "mysql":
        assert str(read(pl.Duration("us"), clock, **options)) == "12:00:00"


def test_a_mode_that_writes_texts_writes_no_numbers():
    for dtype in (pl.Time, US):
        assert read(dtype, 43_200_000, time="isostring") is REFUSED


@pytest.mark.parametrize(
    ("dtype", "told", "precision", "options", "expected"),
    [
        (pl.Time, 43_200_000, 3, {}, "12:00:00"),
        (pl.Time, 43_200_000, 6, {}, "00:00:43.200000"),
        (pl.Time, 43_200_000, 0, {"time": "adaptive_time_microseconds"}, "00:00:43.200000"),
        (pl.Time, 43_200_000, 3, {"time": "microseconds"}, "00:00:43.200000"),
        (US, 43_200_000, 3, {}, "1970-01-01 12:00:00"),
        (US, 43_200_000, 3, {"source": "mysql"}, "1970-01-01 12:00:00"),
        (US, 43_200_000, 6, {}, "1970-01-01 00:00:43.200000"),
        (US, 43_200_000, None, {}, "1970-01-01 00:00:43.200000"),
    ],
)
def test_a_columns_precision_tells_what_an_adaptive_mode_writes(dtype, told, precision, options, expected):
    schema = described(dtype, precision=precision)
    stream = changes_of({}, schema=schema, value=Debezium(**({"source": "postgresql"} | options)))
    events = bronze([{"op": "c", "after": {"id": n, "v": told}, "source": {}} for n in range(60)])
    for native in (True, False):
        assert set(map(str, decode_changes(stream, events, native=native).rows["v"])) == {expected}


def test_a_precision_is_one_that_the_source_has():
    for dtype, precision in ((pl.Time, 7), (US, "3"), (int, 3)):
        schema = described(dtype, precision=precision)
        (problem,) = problems(changes_of({}, schema=schema, value=Debezium("postgresql")), "f")
        assert problem.argument == "schema.v"


def test_the_envelopes_own_times_follow_no_mode():
    schema = described(pl.Datetime("ms"), path="source.ts_ms")
    stream = changes_of({}, schema=schema, value=Debezium("postgresql", time="nanoseconds"))
    event = {"op": "c", "after": {"id": 1}, "source": {"ts_ms": 43_200_000}}
    assert str(decode_changes(stream, bronze([event])).rows["v"][0]) == "1970-01-01 12:00:00"


def test_a_time_of_no_known_unit_is_refused_with_the_word_that_helps():
    stream = changes_of({"id": int, "v": pl.Time}, value=Debezium("postgresql"))
    events = bronze([{"op": "c", "after": {"id": 1, "v": 43_200_000}, "source": {}}])
    (reason,) = decode_changes(stream, events).failures["reason"]
    assert "43200000" in reason
    assert "time.precision.mode" in reason


def test_whole_numbers_told_as_decimals_are_undone():
    """`numeric(10, 0)` = -2658824 is written so: digits that are none."""
    for dtype in (pl.Int64, pl.UInt32, pl.Int16, float):
        assert read(dtype, "1234") is REFUSED  # digits, or three bytes
        assert read(dtype, "12345") == 12345
        assert read(dtype, 12) == 12
    assert read(pl.Int64, "1234", decimal="precise") == -2_658_824
    assert read(pl.Int64, "12345", decimal="precise") is REFUSED
    assert read(pl.Int64, "1234", decimal="string") == 1234
    assert read(pl.UInt64, "AP//////////", decimal="precise") == 2**64 - 1
    assert read(pl.Int8, "1234", decimal="precise") is REFUSED
    assert read(pl.Int64, {"scale": 0, "value": "Aw=="}) == 3
    assert [*read(pl.List(pl.Int64), ["Aw=="], decimal="precise")] == [3]
    assert read(float, "1234", decimal="precise") is REFUSED  # its scale is not told
    assert read(float, "1.5") == 1.5
    assert read(float, "1234", decimal="string") == 1234


@pytest.mark.parametrize(
    "wrong",
    [
        {"binary": "base32"},
        {"decimal": "float"},
        {"time": "ms"},
        {"unavailable": ""},
        {"unwrapped": 1},
        {"source": "oracle"},
    ],
)
def test_a_wrong_option_is_named_at_load(wrong):
    of = Debezium(**({"source": "mysql"} | wrong))
    (problem,) = problems(changes_of({"id": int}, value=of), "f")
    assert problem.argument == f"value.{next(iter(wrong))}"
