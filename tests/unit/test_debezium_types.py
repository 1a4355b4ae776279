"""The types of PostgreSQL and MySQL in each mode of the connector, with a schema block and without."""

import json

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
        (pl.Time, 1500000, None, "00:00:01.500000"),
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


@pytest.mark.parametrize(
    "wrong",
    [{"binary": "base32"}, {"decimal": "float"}, {"unavailable": ""}, {"unwrapped": 1}, {"source": "oracle"}],
)
def test_a_wrong_option_is_named_at_load(wrong):
    of = Debezium(**({"source": "mysql"} | wrong))
    (problem,) = problems(changes_of({"id": int}, value=of), "f")
    assert problem.argument == f"value.{next(iter(wrong))}"
