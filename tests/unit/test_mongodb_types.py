"""The table of `docs/mongodb.md`: which BSON value which column takes, and what it becomes there."""

import json
import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of

from sluice import Debezium, Document, Json
from sluice.decode_changes import decode_changes
from sluice.problems import problems

MS, US = pl.Datetime("ms", "UTC"), pl.Datetime("us", "UTC")
OID = "56e1fc72e0c917e9c4714161"
UUID = "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"
UUID_BYTES = {"$binary": {"base64": "c//SZESzTGmQ6OfR38A11A==", "subType": "04"}}
Y10K = {"$date": {"$numberLong": "253402300800000"}}
STAMP = {"$timestamp": {"t": 4294967295, "i": 4294967295}}
REGEX = {"$regularExpression": {"pattern": "a/b", "options": "im"}}
SCOPED = {"$code": "f()", "$scope": {"x": {"$numberInt": "1"}}}
POINTER = {"$dbPointer": {"$ref": "b", "$id": {"$oid": OID}}}
REFUSED = object()


def read(dtype, value):
    """Read one value in a column of a type; `value` is a JSON text, or what JSON would say."""
    text = value if isinstance(value, str) and value.startswith("=") else json.dumps(value)
    after = f'{{"_id": 1, "v": {text.removeprefix("=")}}}'
    schema = type(
        "Row",
        (pa.DataFrameModel,),
        {
            "__annotations__": {"id": int, "v": dtype},
            "id": pa.Field(metadata={"path": "_id"}),
            "v": pa.Field(nullable=True),
        },
    )
    of = changes_of({}, "id", value=Debezium("mongodb"), schema=schema)
    decoded = decode_changes(of, bronze([{"op": "c", "after": after, "source": {}}]))
    if decoded.failures.height:
        assert decoded.failures.select("stage", "column").row(0)[0] == "schema"
        assert decoded.failures["column"][0].startswith("v")
        assert decoded.failures["reason"][0].startswith("found")
        return REFUSED
    return decoded.rows["v"].to_list()[0]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        # double
        (pl.Float64, {"$numberDouble": "-1.2345678921232E+18"}, -1.2345678921232e18),
        (pl.Float64, {"$numberDouble": "-Infinity"}, -math.inf),
        (pl.Float64, "=Infinity", math.inf),
        (pl.Float32, 0.5, 0.5),
        (pl.Float32, 1e300, REFUSED),
        (pl.Int64, 5.0, 5),
        (pl.Int64, 5.5, REFUSED),
        (pl.Int64, {"$numberDouble": "NaN"}, REFUSED),
        (pl.Decimal(5, 2), {"$numberDouble": "1.25"}, Decimal("1.25")),
        (str, 5.0, REFUSED),
        # int32, int64
        (pl.Int8, {"$numberInt": "127"}, 127),
        (pl.Int8, {"$numberInt": "128"}, REFUSED),
        (pl.Int64, {"$numberLong": "-9223372036854775808"}, -(2**63)),
        (pl.UInt64, {"$numberLong": "-1"}, REFUSED),
        (pl.Int64, {"$numberLong": "9223372036854775808"}, REFUSED),
        (bool, 1, REFUSED),
        # decimal128
        (pl.Decimal(38, 4), {"$numberDecimal": "-0345678.5432"}, Decimal("-345678.5432")),
        (pl.Decimal(38, 0), {"$numberDecimal": "1E+3"}, Decimal(1000)),
        (pl.Decimal(38, 0), {"$numberDecimal": "1E+6144"}, REFUSED),
        (pl.Decimal(38, 4), {"$numberDecimal": "NaN"}, REFUSED),
        (str, {"$numberDecimal": "1E+6144"}, "1.000000000000000000000000000000000E+6144"),
        (str, {"$numberDecimal": "-Infinity"}, "-Infinity"),
        (str, {"$numberDecimal": "-0E-6176"}, "-0E-6176"),
        (float, {"$numberDecimal": "Infinity"}, math.inf),
        (pl.Int64, {"$numberDecimal": "7.00"}, 7),
        # text, symbol, code
        (str, "a\u0000b", "a\u0000b"),
        (str, '="\\ud800"', REFUSED),
        (pl.Int64, "12", 12),
        (US, "2020-01-01T00:00:00+01:00", datetime(2019, 12, 31, 23, tzinfo=UTC)),
        (str, {"$symbol": "s"}, "s"),
        (str, {"$code": "f()"}, "f()"),
        (str, SCOPED, REFUSED),
        (pl.Struct({"code": pl.String, "scope": pl.Struct({"x": pl.Int64})}), SCOPED,
         {"code": "f()", "scope": {"x": 1}}),
        (pl.Enum(["s"]), {"$symbol": "s"}, "s"),
        # objectId, binary, UUID
        (str, {"$oid": OID.upper()}, OID),
        (pl.Binary, {"$oid": OID}, bytes.fromhex(OID)),
        (str, {"$oid": OID[1:]}, REFUSED),
        (pl.Binary, {"$binary": {"base64": "//8=", "subType": "80"}}, b"\xff\xff"),
        (pl.Binary, {"$binary": "//8=", "$type": "00"}, b"\xff\xff"),
        (pl.Binary, "//8=", b"\xff\xff"),
        (str, {"$binary": {"base64": "//8=", "subType": "00"}}, REFUSED),
        (str, UUID_BYTES, UUID),
        (str, {"$uuid": UUID}, UUID),
        (pl.Binary, {"$uuid": UUID}, uuid.UUID(UUID).bytes),
        (str, {"$binary": {"base64": "c//SZESzTGmQ6OfR38A11A==", "subType": "03"}}, REFUSED),
        (pl.Struct({"data": pl.Binary, "subtype": pl.Int16}), {"$binary": "//8=", "$type": "80"},
         {"data": b"\xff\xff", "subtype": 128}),
        # date
        (MS, {"$date": {"$numberLong": "-1001"}}, datetime(1969, 12, 31, 23, 59, 58, 999000, tzinfo=UTC)),
        (US, {"$date": "2012-12-24T12:15:30.501Z"}, datetime(2012, 12, 24, 12, 15, 30, 501000, tzinfo=UTC)),
        (MS, {"$date": 0}, datetime(1970, 1, 1, tzinfo=UTC)),
        (MS, Y10K, REFUSED),
        (int, Y10K, 253402300800000),
        (pl.Date, {"$date": 86400000}, date(1970, 1, 2)),
        (pl.Date, {"$date": 86400001}, REFUSED),
        (pl.Datetime("ms"), {"$date": 0}, REFUSED),
        (MS, 0, REFUSED),
        # timestamp
        (pl.Struct({"t": pl.UInt32, "i": pl.UInt32}), STAMP, {"t": 2**32 - 1, "i": 2**32 - 1}),
        (pl.UInt64, STAMP, 2**64 - 1),
        (MS, {"$timestamp": {"t": 1, "i": 0}}, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (MS, {"$timestamp": {"t": 1, "i": 1}}, REFUSED),
        # regex, pointers, keys
        (pl.Struct({"pattern": pl.String, "options": pl.String}), REGEX, {"pattern": "a/b", "options": "im"}),
        (pl.Struct({"pattern": pl.String}), {"$regex": "a", "$options": "i"}, {"pattern": "a"}),
        (str, REGEX, REFUSED),
        (pl.Struct({"ref": pl.String, "id": pl.String}), POINTER, {"ref": "b", "id": OID}),
        (pl.Struct({"$ref": pl.String, "$id": pl.String}), {"$ref": "c", "$id": {"$oid": OID}},
         {"$ref": "c", "$id": OID}),
        (str, {"$minKey": 1}, REFUSED),
        (int, {"$maxKey": 1}, REFUSED),
        # null, undefined, boolean
        (str, None, None),
        (str, {"$undefined": True}, None),
        (pl.Struct({"a": pl.String}), {"$undefined": True}, None),
        (bool, True, True),
        (bool, "true", REFUSED),
        # arrays, objects
        (pl.List(pl.Int64), [1, {"$numberLong": "2"}, None], [1, 2, None]),
        (pl.List(pl.Int64), [1, "x"], REFUSED),
        (pl.List(pl.Int64), {"0": 1}, REFUSED),
        (pl.Array(pl.Int64, 2), [1], REFUSED),
        (pl.Struct({"a": pl.List(US)}), {"a": [{"$date": 0}], "b": 1},
         {"a": [datetime(1970, 1, 1, tzinfo=UTC)]}),
        (pl.Struct({"a": pl.Int64}), {"$numberInt": "1"}, REFUSED),
        (pl.Struct({"a": pl.Int64}), {"a": {"$numberInt": 1}}, REFUSED),
        (str, {"a": 1}, REFUSED),
    ],
)  # fmt: skip
def test_values(dtype, value, expected):
    assert read(dtype, value) == expected


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Y10K, Y10K),
        (STAMP, STAMP),
        ({"$minKey": 1}, {"$minKey": 1}),
        (SCOPED, SCOPED),
        ({"$undefined": True}, {"$undefined": True}),
        (5, {"$numberInt": "5"}),
        (2**31, {"$numberLong": "2147483648"}),
        (2**63, {"$numberDouble": "9.223372036854776E+18"}),
        ("=NaN", {"$numberDouble": "NaN"}),
        ("=-0.0", {"$numberDouble": "-0.0"}),
        ({"a": [None, True, {"$date": 5}]}, {"a": [None, True, {"$date": {"$numberLong": "5"}}]}),
    ],
)
def test_a_document_takes_everything(value, kept):
    assert json.loads(read(Document, value)) == kept


def test_nan_and_minus_zero_arrive():
    assert math.isnan(read(float, {"$numberDouble": "NaN"}))
    assert math.isnan(read(float, {"$numberDecimal": "NaN"}))
    assert math.copysign(1, read(float, {"$numberDouble": "-0.0"})) == -1


def test_a_document_nested_too_deeply_is_refused_not_fatal():
    deep = "[" * 400 + "]" * 400
    assert read(Document, f"={deep}") is REFUSED
    assert read(Document, "=" + "[" * 90 + "]" * 90) == "[" * 90 + "]" * 90


def test_a_document_of_16_mb_is_kept_whole():
    big = {"text": "x" * 15_000_000, "list": [{"$numberInt": "1"}] * 50_000}
    assert json.loads(read(Document, big)) == big


def test_documents_are_for_mongodb_only():
    columns = {"id": int, "rest": Document}

    def wrong(**options):
        return [(p.argument, p.found) for p in problems(changes_of(columns, **options), "f")]

    assert wrong(value=Debezium("mongodb")) == []
    assert wrong(value=Debezium("postgresql")) == [("schema.rest", "Document")]
    assert wrong(value=Json()) == [("schema.rest", "Document")]


def test_all_other_members_need_a_document():
    class Row(pa.DataFrameModel):
        id: int
        rest: str = pa.Field(metadata={"path": "*"})

    (problem,) = problems(changes_of({}, value=Debezium("mongodb"), schema=Row), "f")
    assert problem.argument == "schema.rest"
