"""Debezium's changes are read alike by machine code and in Python: kafka-medallion 7."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import get_args

import polars as pl
import pytest
from changes import bronze, changes_of
from decoding import numbers, quoted, scalars, texts, times
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sluice import Debezium
from sluice.contract import Changes, TimePrecision
from sluice.decode_changes import decode_changes
from sluice.envelopes import debezium_machine
from sluice.json.machine import machine_code

pytestmark = pytest.mark.skipif(machine_code() is None, reason="machine code was not built")

PLACEHOLDER = "__debezium_unavailable_value"
CONNECT, TIME = "org.apache.kafka.connect.data.", "io.debezium.time."
whole = st.integers(-(10**6), 10**6).map(str)
encoded = st.binary(min_size=1, max_size=6).map(lambda data: quoted(b64encode(data).decode()))
stamps = st.integers(0, 4 * 10**15).map(lambda n: datetime.fromtimestamp(n / 10**6, UTC).replace(tzinfo=None))
texts_of_times = stamps.map(lambda at: quoted(f"{at.isoformat()}Z"))


def counted(most: int) -> st.SearchStrategy[str]:
    return (st.integers(0, most) | st.sampled_from([-1, most, most + 1, -719162, -719163])).map(str)


def kind(dtype, field: str | None, usual: st.SearchStrategy[str], **parameters: str):
    """Give a column, its field's schema, and values that mostly fit."""
    schema = {} if field is None else {"name": field} if "." in field else {"type": field}
    return dtype, schema | ({"parameters": parameters} if parameters else {}), usual


PRECISE = {"scale": "2", "connect.decimal.precision": "7"}
ZONED, NAIVE = pl.Datetime("us", "UTC"), pl.Datetime("us")
KINDS = [
    kind(pl.Int64(), "int64", whole),
    kind(pl.Int16(), "int32", whole | whole.map(quoted)),
    kind(pl.Int64(), TIME + "MicroTimestamp", whole),
    kind(pl.String(), "string", texts.map(quoted)),
    kind(pl.String(), "io.debezium.data.Json", st.just(quoted('{"a": [1]}')) | st.just('{"a":"b"}')),
    kind(pl.Int64(), "string", encoded | whole.map(quoted)),
    kind(pl.Float32(), "string", encoded | numbers.map(quoted)),
    kind(pl.Boolean(), "boolean", st.sampled_from(["true", "false"])),
    kind(pl.Float64(), "double", numbers | st.just('"NaN"')),
    kind(pl.Enum(["a", "b"]), "string", st.sampled_from(['"a"', '"b"', '"c"'])),
    kind(pl.Decimal(7, 2), CONNECT + "Decimal", encoded | numbers, **PRECISE),
    kind(pl.Decimal(9, 2), CONNECT + "Decimal", encoded, **PRECISE),
    kind(
        pl.Decimal(38, 2),
        CONNECT + "Decimal",
        st.binary(max_size=18).map(lambda b: quoted(b64encode(b).decode())),
        scale="2",
    ),
    kind(pl.Decimal(9, 4), CONNECT + "Decimal", encoded, **PRECISE),
    kind(pl.String(), CONNECT + "Decimal", encoded, **PRECISE),
    kind(pl.Decimal(9, 2), "string", st.sampled_from(['"1.50"', '"1234"', '"-7"', "1.5", '"1.555"'])),
    kind(pl.Decimal(9, 2), "io.debezium.data.VariableScaleDecimal", st.just('{"scale":1,"value":"AQ=="}')),
    kind(pl.Date(), TIME + "Date", counted(2_932_896) | st.just('"2026-01-01"')),
    kind(pl.Date(), "string", st.dates().map(lambda day: quoted(str(day)))),
    kind(NAIVE, TIME + "Timestamp", counted(253_402_300_799_999)),
    kind(NAIVE, TIME + "MicroTimestamp", counted(253_402_300_799_999_999)),
    kind(NAIVE, TIME + "NanoTimestamp", counted(2**63).map(lambda n: n + "000")),
    kind(NAIVE, "string", texts_of_times | stamps.map(lambda at: quoted(at.isoformat()))),
    kind(ZONED, TIME + "ZonedTimestamp", texts_of_times),
    kind(ZONED, CONNECT + "Timestamp", counted(253_402_300_799_999)),
    kind(pl.Datetime("ns", "UTC"), TIME + "NanoTimestamp", counted(2**60)),
    kind(pl.Time(), TIME + "Time", counted(86_399_999)),
    kind(pl.Time(), TIME + "MicroTime", counted(86_399_999_999) | st.just('"10:00:00"')),
    kind(pl.Time(), TIME + "NanoTime", counted(86_399_999_999).map(lambda n: n + "000")),
    kind(pl.Duration("us"), TIME + "MicroDuration", whole),
    kind(pl.Binary(), "bytes", encoded),
    kind(pl.Binary(), "string", encoded | st.just('"00ff"')),
    kind(pl.String(), "io.debezium.data.Bits", encoded, length="8"),
    kind(pl.List(pl.Int64()), "array", st.sampled_from(["[1,2]", "[]", "[null]", '["x"]'])),
]
odd = st.one_of(
    scalars,
    encoded,
    times.map(quoted),
    st.sampled_from(["-0", '"-0"', "1e3", "1.0", quoted(PLACEHOLDER), "[]", "{}", '"1234"', "null"]),
    st.just(quoted(b64encode(PLACEHOLDER.encode()).decode())),
)
SOURCES = [
    {"connector": '"postgresql"', "lsn": "20", "sequence": r'"[\"1\",\"2\"]"', "ts_ms": "1700000000000"},
    {"connector": '"mysql"', "file": '"binlog.000003"', "pos": "4", "row": "0", "server_id": "7"},
]
TWISTS = {
    "connector": ['"mongodb"', '"mariadb"', "5", "null"],
    "lsn": ["0", "-0", "-1", "null", '"5"', "1e2", "9" * 19, "9" * 20, "9" * 21],
    "sequence": [r'"[null,\"2\"]"', "null", '"["', r'"[\"007\",null]"', '""', r'"[\"1\"]"', r'"[\"1\",5]"'],
    "snapshot": ['"false"', '"true"', '"first"', '"LAST"', '"incremental"', "true", "null", '""', '"x"'],
    "ts_ms": ["null", "-62135596800001", "253402300800000", "9" * 18, '"5"', "5.0"],
    "ts_us": ["1700000000000001", "null", '"17"', "-62135596800000000", "-62135596800000001"],
    "file": ['"3"', '"binlog"', '""', "null", r'"a\n.4"', '"a.4\\n"'],
    "pos": ["-1", "null", '"5"', "-0"],
    "row": ["1.0", "3"],
    "gtid": [
        '"a:b:1-7"',
        '"A:1"',
        '"a:1-5:7"',
        '"0-1-42"',
        '"a:1,b:2"',
        '" a:7 "',
        '"a"',
        "null",
        r'"a\nb:1"',
        '""',
        '"\u00e9:1"',
    ],
    "server_id": ["0", "-1", "null", '"x"'],
    "db": ['"shop"', '""', "null", "5"],
    "schema": ['"public"', '"\\u00e9"'],
    "table": ['"t"', "null", '"\\ud800"'],
    "collection": ['"c"', "null"],
    "xmin": ["null", "{}"],
}


def members(given: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in given.items()) + "}"


def one_in(draw, many: int) -> bool:
    return draw(st.integers(1, many)) == many


@st.composite
def envelopes(draw, columns: dict) -> str:
    row = {name: draw(odd if one_in(draw, 12) else usual) for name, (_, _, usual) in columns.items()}
    if one_in(draw, 8):
        row |= draw(st.sampled_from([{"other": "1"}, {"source": "1"}, {"op": "null"}, {"id": "null"}]))
    source = dict(draw(st.sampled_from(SOURCES)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        name = draw(st.sampled_from(list(TWISTS)))
        source[name] = draw(st.sampled_from(TWISTS[name]))
    told = {"before": "null", "after": members(row), "source": members(source)}
    op = draw(st.sampled_from(["c", "u", "r", "u", "d", "d", "d", "t", "m", "x"]))
    if op == "d" or one_in(draw, 10):
        told |= {"before": told["after"], "after": draw(st.sampled_from(["null", told["after"]]))}
    told |= {"op": f'"{op}"', "ts_ms": "5"}
    if one_in(draw, 10):
        told |= draw(st.sampled_from([{"new": "1"}, {"__deleted": '"true"'}, {"ts_ms": "[" * 600}]))
    if one_in(draw, 10):
        told = dict(draw(st.permutations(list(told.items()))))
    text = members(told)
    if one_in(draw, 6):  # a byte more, less, or another; a member again
        at = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from(["", '"', "{", "}", ",", "\\", "\ud800", " ", ',"id":1', "0", "\x00"]))
        text = text[:at] + piece + text[at + draw(st.integers(0, 2)) :]
    return text


def block(columns: dict) -> str:
    row = [{"field": name, **field} for name, (_, field, _) in columns.items()]
    sides = [{"field": side, "fields": row} for side in ("before", "after")]
    return json.dumps({"type": "struct", "fields": sides}, separators=(",", ":"))


@st.composite
def batches(draw) -> tuple[Changes, pl.DataFrame]:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    key = draw(st.sampled_from([KINDS[0], KINDS[3], KINDS[18]]))
    columns = {"id": key} | {f"c{n}": kind for n, kind in enumerate(kinds)}
    options = Debezium(
        draw(st.sampled_from(["postgresql", "mysql"])),
        decimal=draw(st.sampled_from([None, "precise", "string", "double"])),
        binary=draw(st.sampled_from(["base64", "hex"])),
        time=draw(st.sampled_from([None, None, *get_args(TimePrecision)])),
        unavailable=draw(st.sampled_from([PLACEHOLDER, PLACEHOLDER, "1234", "a"])),
    )
    where = draw(st.sampled_from([None, None, {"source.table": "t"}, {"op": "u"}]))
    dtypes = {name: dtype for name, (dtype, _, _) in columns.items()}
    stream = changes_of(dtypes, value=options, where=where, history=draw(st.booleans()))
    swapped = dict(zip(columns, reversed(columns.values()), strict=True))
    forms = draw(st.sampled_from([[None], [block(columns)], [None, block(columns), block(swapped)]]))
    told = []
    for _ in range(draw(st.integers(1, 12))):
        text, form = draw(envelopes(columns)), draw(st.sampled_from(forms))
        text = text if form is None else f'{{"schema":{form},"payload":{text}}}'
        value = text.encode(errors="surrogatepass")
        told.append(draw(st.sampled_from([None, b"\xff", b"{}"])) if one_in(draw, 16) else value)
    moved = [{"key": "__debezium.oldkey", "value": b'{"id":9}'}]
    headers = [draw(st.sampled_from([[], [{"key": "x", "value": b""}], None, moved])) for _ in told]
    return stream, bronze(told, [b'{"id":7}'] * len(told), headers)


def assert_alike(stream: Changes, records: pl.DataFrame) -> None:
    strict = decode_changes(stream, records, native=False)
    native = decode_changes(stream, records)
    assert_frame_equal(native.rows, strict.rows)
    assert native.failures.rows() == strict.failures.rows()
    assert native.tombstones.to_list() == strict.tombstones.to_list()
    assert native.ignored.to_list() == strict.ignored.to_list()
    assert native.unknown == strict.unknown


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    monkeypatch.setattr(debezium_machine, "FEW", -1)


@settings(max_examples=40, deadline=None)
@given(batch=batches())
def test_both_ways_say_the_same(batch):
    assert_alike(*batch)
