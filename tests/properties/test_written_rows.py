"""What is written as a source's connector would is read back as the same, at the place where it stands.

Property: a repair's records say what the source says (issue 5, section 5).
"""

import math
from datetime import UTC, datetime, timedelta

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import Changes, Daily, Debezium, Document, Json
from sluice.columns import to_storage
from sluice.decode import decode
from sluice.envelopes.positions import block, numbers, of_source, pattern
from sluice.envelopes.written import Place, record
from sluice.tables import BRONZE

AT = datetime(2026, 1, 1, 8, 0, 0, 250_000, tzinfo=UTC)
NUMBERS = {"postgresql": (7, 9), "mysql": (3, 4711, 2), "mongodb": (1_767_254_400_000, 5)}


class Plain(pa.DataFrameModel):
    id: int
    text: str = pa.Field(nullable=True)
    big: pl.UInt64 = pa.Field(nullable=True)
    amount: pl.Decimal(12, 2) = pa.Field(nullable=True)
    ratio: float = pa.Field(nullable=True)
    flag: bool = pa.Field(nullable=True)
    zoned: pl.Datetime("us", "UTC") = pa.Field(nullable=True)
    day: pl.Date = pa.Field(nullable=True)
    data: pl.Binary = pa.Field(nullable=True)
    inside: str = pa.Field(nullable=True, metadata={"path": "outer.inside"})
    items: pl.List(pl.Decimal(12, 2)) = pa.Field(nullable=True)
    struct: pl.Struct({"n": pl.Int64, "at": pl.Date, "l": pl.List(pl.String)}) = pa.Field(nullable=True)


class Clocks(Plain):
    naive: pl.Datetime("us") = pa.Field(nullable=True)
    clock: pl.Time = pa.Field(nullable=True)
    long: pl.Duration("us") = pa.Field(nullable=True)


class Documented(Plain):
    id: int = pa.Field(metadata={"path": "_id"})
    kept: Document = pa.Field(nullable=True)
    rest: Document = pa.Field(nullable=True, metadata={"path": "*"})


def _stream(value, schema) -> Changes:
    return Changes(
        name="rows", topic="t", value=value, schema=schema, key="id", partitions=Daily(start="2026-01-01")
    )


MODES = [
    Debezium("mysql", decimal=decimal, binary=binary)
    for decimal, binary in (
        (None, "base64"),
        ("precise", "hex"),
        ("string", "base64-url-safe"),
        ("double", "hex"),
    )
]
STREAMS = [
    *(_stream(value, Clocks) for value in (Debezium("postgresql"), *MODES)),
    _stream(Debezium("postgresql", unwrapped=True), Clocks),
    _stream(Debezium("mongodb"), Documented),
]
whole = st.integers(-(2**63), 2**63 - 1)
decimals = st.decimals(-(10**10) + 1, 10**10 - 1, places=2, allow_nan=False)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
days = st.dates(datetime(1900, 1, 1).date(), datetime(2100, 1, 1).date())  # noqa: DTZ001
moments = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001
micros = st.integers(0, 86_400 * 10**6 - 1)


def _rows(schema):
    fits = (
        (lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000))
        if schema is Documented
        else (lambda t: t)
    )
    values = {
        "text": texts,
        "big": st.integers(0, 2**64 - 1),
        "amount": decimals,
        "ratio": st.floats(),
        "flag": st.booleans(),
        "zoned": moments.map(lambda t: fits(t).replace(tzinfo=UTC)),
        "day": days,
        "data": st.binary(max_size=9),
        "inside": texts,
        "items": st.lists(st.none() | decimals, max_size=3),
        "struct": st.fixed_dictionaries(
            {"n": st.none() | whole, "at": st.none() | days, "l": st.none() | st.lists(texts, max_size=2)}
        ),
    }
    if schema is Clocks:
        values |= {"naive": moments, "clock": micros, "long": st.integers(-(10**12), 10**12)}
    if schema is Documented:
        values |= {
            "kept": st.sampled_from(['{"$numberInt":"5"}', '[{"$oid":"507f1f77bcf86cd799439011"},"x"]']),
            "rest": st.sampled_from(['{"more":{"$numberLong":"5"}}', "{}"]),
        }
    optional = {name: st.none() | strategy for name, strategy in values.items()}
    return st.fixed_dictionaries({"id": whole, **optional})


def _records(pairs) -> pl.DataFrame:
    count = len(pairs)
    columns = {
        "topic": ["t"] * count,
        "epoch": [1] * count,
        "partition": [0] * count,
        "offset": list(range(count)),
        "timestamp": [AT] * count,
        "key": [key for key, _ in pairs],
        "value": [value for _, value in pairs],
    }
    told = {name: columns.get(name, [None] * count) for name in BRONZE}
    return pl.DataFrame(told, schema=BRONZE)


def _same(one, other) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other


@pytest.mark.parametrize(
    "stream", STREAMS, ids=lambda s: f"{s.value.source} {s.value.decimal} {s.value.unwrapped}"
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_are_read_back_as_they_were(stream, data):
    row = data.draw(_rows(stream.schema))
    frame = pl.DataFrame([row], schema={c.name: c.storage for c in stream.columns}, strict=False)
    stored = frame.row(0, named=True)
    place = Place(AT, None if stream.value.unwrapped else NUMBERS[stream.value.source], "db.rows", "7")
    key = {"id": row["id"]}
    pairs = [record(stream, place, key, stored), record(stream, place, key, None)]
    told = decode(stream, _records(pairs))
    assert told.failures.is_empty(), (pairs, told.failures.rows())
    assert told.rows["_op"].to_list() == (["u", "d"] if stream.value.unwrapped else ["r", "d"])
    assert told.rows["id"].to_list() == [row["id"]] * 2
    read = to_storage(told.rows, stream.columns).select(frame.columns).row(0, named=True)
    if "rest" in read:  # columns of which a column names a part stand in the rest, too
        read["rest"] = stored["rest"] = None
    assert all(_same(stored[name], read[name]) for name in read), (stored, read)
    if not stream.value.unwrapped:
        places = told.rows["_position"]
        assert places[0] == places[1]
        assert numbers(stream.value.source, places[0]) == place.numbers
        assert told.rows["_source"].struct.field("snapshot").to_list() == ["incremental"] * 2


def test_plain_rows_are_read_back_as_they_were():
    stream = _stream(Json(), Plain)
    row = dict.fromkeys(c.name for c in stream.columns) | {"id": 3, "inside": "x"}
    pairs = [record(stream, Place(AT), {"id": 3}, row), record(stream, Place(AT), {"id": 3}, None)]
    told = decode(stream, _records(pairs))
    assert told.failures.is_empty()
    assert told.rows["inside"].to_list() == ["x", None]
    assert told.rows["_op"].to_list()[1] == "d"


count = st.integers(0, 10**20 - 1)


@pytest.mark.parametrize("connector", NUMBERS)
@given(data=st.data())
def test_a_place_that_is_written_comes_after_what_stands_there_and_before_all_later(connector, data):
    size = len(NUMBERS[connector])
    one, other = (tuple(data.draw(st.lists(count, min_size=size, max_size=size))) for _ in range(2))

    def position(place, snapshot, within=0):
        source = {"connector": connector, "snapshot": snapshot} | block(connector, place)
        return of_source(source, "u", within)

    again = position(one, "incremental")
    assert numbers(connector, again) == one
    assert (position(other, "false", 3) < again) == (other <= one)
    assert numbers(connector, "") == (0,) * size
    assert pl.Series([again]).str.contains(pattern(connector)).all()


def test_moments_of_mysql_are_whole_seconds_so_that_no_later_change_seems_older():
    stream = STREAMS[1]
    _, value = record(stream, Place(AT, (3, 4, 0)), {"id": 1}, None)
    told = decode(stream, _records([(None, value)])).rows["_source"][0]["committed_at"]
    assert told == AT - timedelta(milliseconds=250)
