"""Envelopes and encodings by themselves: what is refused, unavailable; what names and dates a change."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from changes import bronze, changes_of

from sluice import Debezium
from sluice.contract import UNAVAILABLE
from sluice.decode_changes import decode_changes
from sluice.envelopes.debezium_values import value_reader
from sluice.json.strict import Number

COLUMNS = {"id": int, "v": str}
LSN = {"connector": "postgresql", "lsn": 7, "sequence": '["5","7"]', "ts_us": 1_500_000, "ts_ms": 1500}


def event(op="c", source=None, **sides):
    side = "before" if op == "d" else "after"
    return {"op": op, "source": LSN if source is None else source, side: {"id": 1, "v": "x"}} | sides


def decode(value, key=None, columns=None, **options):
    stream = changes_of(columns or COLUMNS, value=Debezium("postgresql"), **options)
    return decode_changes(stream, bronze([value], [key]))


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xfe",
        "{",
        "[]",
        "1",
        "{}",
        '{"op": "x", "after": {}}',
        '{"op": "c", "after": null}',
        '{"op": "u", "after": [1]}',
        '{"id": 1, "v": "a plain row"}',
        '{"payload": 5}',
        '{"op": "c", "after": "{"}',
    ],
)
def test_garbage_is_refused_at_decode(value):
    decoded = decode(value)
    assert decoded.failures["stage"].to_list() == ["decode"]
    assert decoded.failures["reason"][0]
    assert decoded.rows.is_empty()


@pytest.mark.parametrize(
    "value",
    [
        {"ts_ms": 1},
        {"schema": None, "payload": {"ts_ms": 1}},
        {"status": "BEGIN", "id": "1:2", "ts_ms": 1, "event_count": None},
        {"source": {}, "ddl": "ALTER", "databaseName": "x"},
        event("m", message={"prefix": "p"}),
    ],
)
def test_what_is_no_row_is_ignored(value):
    decoded = decode(value)
    assert len(decoded.ignored) == 1
    assert decoded.failures.is_empty()


def test_a_tombstone_has_no_effect():
    assert decode(None, {"id": 1}).tombstones.to_list() == [0]


def test_the_source_says_when_a_change_was_committed():
    assert decode(event()).rows["_valid_from"].to_list() == [
        datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    ]
    assert decode(event(source={"ts_ms": 2000})).rows["_valid_from"][0].second == 2
    told = decode_changes(changes_of(COLUMNS, value=Debezium("postgresql")), bronze([event(source={})] * 4))
    assert [at.second for at in told.rows["_valid_from"]] == [0, 1, 2, 3]  # the Kafka timestamps


def test_of_a_delete_only_the_key_must_fit():
    decoded = decode(event("d", before={"id": 1, "v": 5}))
    assert decoded.rows.select("id", "v", "_op").rows() == [(1, None, "d")]
    assert decode(event("d", before=None), {"id": 9}).rows["id"].to_list() == [9]
    assert decode(event("d", before=None), {"schema": {}, "payload": {"id": 9}}).rows["id"].to_list() == [9]
    assert decode(event("d", before=None)).failures.select("stage", "column").rows() == [("key", "id")]
    assert decode(event("d", before=None), "no json").failures["stage"].to_list() == ["key"]


def test_a_truncate_has_no_key():
    decoded = decode({"op": "t", "source": LSN})
    assert decoded.rows.select("id", "_op", "_position").rows() == [(None, "t", f"{5:020} {7:020} 2")]


def test_null_and_missing_keys_are_refused():
    for after in ({"id": None, "v": "x"}, {"v": "x"}):
        assert decode(event(after=after)).failures.select("stage", "column").rows() == [("key", "id")]
    assert decode(event(after={"id": "x"})).failures.select("stage", "column").rows() == [("schema", "id")]


def test_members_without_a_column_are_counted():
    assert decode(event(after={"id": 1, "w": 1, "x": 2})).unknown == {"w": 1, "x": 1}


def test_where_keeps_deletes_that_do_not_say():
    where = {"v": "x"}
    assert decode(event(), where=where).rows.height == 1
    assert len(decode(event(after={"id": 1, "v": "y"}), where=where).ignored) == 1
    assert decode(event("d", before={"id": 1, "v": None}), where=where).rows.height == 1
    assert len(decode(event("d", before={"id": 1, "v": "y"}), where=where).ignored) == 1


@pytest.mark.parametrize("where", [{"source.table": "t", "v": "x"}, {"source.table": "t"}])
def test_where_excludes_deletes_and_truncates_of_other_tables(where):
    of = {"before": None, "after": None}
    for op in ("d", "t"):
        told = {table: event(op, **of | {"source": {"table": table}}) for table in ("t", "u")}
        keys = [b'{"id": 1}' if op == "d" else None]
        stream = changes_of(COLUMNS, value=Debezium("postgresql"), where=where)
        decoded = {table: decode_changes(stream, bronze([one], keys)) for table, one in told.items()}
        assert decoded["t"].rows["_op"].to_list() == [op]
        assert len(decoded["u"].ignored) == 1


def test_what_names_and_orders_rows_of_other_tables_need_not_be_readable():
    """Several tables in one topic: keys of other types, and what their sources say."""
    stream = changes_of(COLUMNS, value=Debezium("postgresql"), where={"source.table": "t"})
    headers = [[{"key": "__debezium.oldkey", "value": b'{"name": "x", "id": "x"}'}], []]
    of = {"connector": "postgresql", "table": "u"}
    told = [event(source=of | {"lsn": 1}), event(source=of | {"lsn": "x"})]
    decoded = decode_changes(stream, bronze(told, headers=headers))
    assert (decoded.failures.height, len(decoded.ignored)) == (0, 2)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (str, UNAVAILABLE),
        (int, UNAVAILABLE),
        (pl.Binary, "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="),
        (pl.List(pl.String), [UNAVAILABLE]),
    ],
)
def test_unavailable_values_are_named_and_null(dtype, value):
    rows = decode(event(after={"id": 1, "v": value}), columns={"id": int, "v": dtype}).rows
    assert rows.select("v", "_unavailable").rows() == [(None, ["v"])]


def test_the_old_key_comes_from_the_header():
    headers = [[{"key": "__debezium.oldkey", "value": b'{"schema": {}, "payload": {"id": 3}}'}]]
    stream = changes_of(COLUMNS, value=Debezium("postgresql"))
    rows = decode_changes(stream, bronze([event()], headers=headers)).rows
    assert json.loads(rows["_previous_key"][0]) == {"id": 3}


def test_an_old_key_with_times_as_connect_writes_them_into_headers():
    """Recorded from a connector with `time.precision.mode=connect`."""
    header = '{"id":"é:2020-01-01,","on":2020-02-29,"at":2020-02-29T10:00:00.500Z,"c":0.00}'.encode()
    columns = {"id": str, "on": pl.Date, "at": pl.Datetime("us"), "c": pl.Decimal(10, 2)}
    stream = changes_of(columns, key=tuple(columns), value=Debezium("postgresql", time="connect"))
    after = {"id": "é", "on": 1, "at": 0, "c": "2.00"}
    records = bronze([event("c", after=after)], headers=[[{"key": "__debezium.oldkey", "value": header}]])
    (told,) = decode_changes(stream, records).rows["_previous_key"]
    on, at = "2020-02-29", "2020-02-29T10:00:00.500000"
    assert json.loads(told) == {"id": "é:2020-01-01,", "on": on, "at": at, "c": "0.00"}


@pytest.mark.parametrize(
    ("told", "where"), [(b"{", "__debezium.oldkey"), (b'{"id": "x"}', "__debezium.oldkey.id")]
)
def test_an_old_key_that_cannot_be_read_is_refused(told, where):
    """Else what the change did not send would be null, and nothing would say why."""
    headers = [[{"key": "__debezium.oldkey", "value": told}]]
    decoded = decode_changes(
        changes_of(COLUMNS, value=Debezium("postgresql")), bronze([event()], headers=headers)
    )
    assert decoded.failures.select("stage", "column").rows() == [("key", where)]
    assert decoded.rows.is_empty()


def read(dtype, schema, value):
    misfits = []
    found = value_reader(dtype, schema)(value, "v", misfits)
    return "refused" if misfits else found


CENTS = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}}
OF = "io.debezium.time."


@pytest.mark.parametrize(
    ("dtype", "schema", "value", "expected"),
    [
        (pl.Decimal(9, 2), None, "AM0U", "525.00"),  # base64, by the column's scale: 0x00cd14 is 52500
        (pl.Decimal(9, 2), None, "5.25", "5.25"),
        (pl.Decimal(9, 2), None, Number("5.25"), "5.25"),
        (pl.Decimal(9, 2), None, "1234", "refused"),  # digits, or base64
        (pl.Decimal(9, 2), None, Number("5.255"), "refused"),
        (pl.Decimal(9, 2), CENTS, "/zg=", "-2.00"),
        (pl.Decimal(9, 2), CENTS, "%%", "refused"),
        (pl.Decimal(4, 1), CENTS, "bg==", "1.10"),
        (pl.Decimal(4, 1), CENTS, "bw==", "refused"),  # 1.11 has more than one decimal
        (pl.String(), CENTS, "bw==", "1.11"),
        (
            pl.String(),
            {"name": "io.debezium.data.VariableScaleDecimal"},
            {"scale": Number("-2"), "value": "AQ=="},
            "100",
        ),
        (pl.String(), {"name": "io.debezium.data.VariableScaleDecimal"}, {"scale": Number("1")}, "refused"),
        (pl.Date(), {"name": OF + "Date"}, Number("-1"), -1),
        (pl.Date(), {"name": OF + "Date"}, Number("2146033979"), "refused"),
        (pl.Date(), {"name": OF + "Date"}, "2020-01-01", "refused"),
        (pl.Datetime("us"), {"name": OF + "MicroTimestamp"}, Number("-1"), -1),
        (pl.Datetime("us", "UTC"), {"name": OF + "Timestamp"}, Number("1500"), 1_500_000),
        (pl.Datetime("us"), {"name": OF + "NanoTimestamp"}, Number("1000"), 1),
        (pl.Datetime("us"), {"name": OF + "NanoTimestamp"}, Number("1001"), "refused"),
        (
            pl.Datetime("ns"),
            {"name": OF + "NanoTimestamp"},
            Number("1001"),
            "refused",
        ),  # the lake keeps microseconds
        (pl.Datetime("us"), {"name": OF + "MicroTimestamp"}, Number("9223372036854775807"), "refused"),
        (pl.Datetime("us", "UTC"), {"name": OF + "ZonedTimestamp"}, "1970-01-01T01:00:00+01:00", 0),
        (pl.Datetime("us", "UTC"), {"name": OF + "ZonedTimestamp"}, "-infinity", "refused"),
        (pl.Int64(), {"name": OF + "MicroTimestamp"}, Number("9223372036854775807"), 2**63 - 1),
        (pl.Time(), {"name": OF + "Time"}, Number("1000"), 10**9),
        (pl.Time(), {"name": OF + "MicroTime"}, Number("86400000000"), "refused"),
        (pl.Time(), {"name": OF + "ZonedTime"}, "00:00:01Z", 10**9),
        (pl.Duration("us"), {"name": OF + "MicroDuration"}, Number("-5"), -5),
        (pl.String(), {"name": OF + "Interval"}, "P1Y", "P1Y"),
        (
            pl.String(),
            {"name": "io.debezium.data.Bits", "parameters": {"length": "10"}},
            "AQI=",
            "1000000001",
        ),
        (pl.Float64(), {"type": "double"}, "-Infinity", float("-inf")),
        (pl.Float64(), {"type": "double"}, "infinite", "refused"),
        (pl.Boolean(), {"type": "int16"}, Number("1"), "refused"),
        (pl.String(), {"type": "int32"}, Number("1"), "refused"),
        (
            pl.List(pl.Date()),
            {"type": "array", "items": {"name": OF + "Date"}},
            [Number("1"), None],
            [1, None],
        ),
        (pl.List(pl.Date()), {"type": "array", "items": {"name": OF + "Date"}}, Number("1"), "refused"),
    ],
)
def test_encodings(dtype, schema, value, expected):
    found = read(dtype, schema, value)
    if isinstance(dtype, pl.Decimal) and expected != "refused":
        assert found == pl.Series([expected]).cast(dtype)[0]
    else:
        assert found == expected


def test_a_schema_that_changes_between_records_counts_from_there():
    def told(name, value):
        field = {"field": "v", "name": name}
        return {
            "schema": {"fields": [{"field": "after", "fields": [field]}]},
            "payload": event(after={"id": 1, "v": value}),
        }

    values = [told(OF + "Timestamp", 1000), told(OF + "MicroTimestamp", 1000), told(OF + "Timestamp", 1000)]
    stream = changes_of({"id": int, "v": pl.Datetime("us")}, value=Debezium("postgresql"))
    texts = [json.dumps(value, separators=(",", ":")) for value in values]
    rows = decode_changes(stream, bronze(texts)).rows
    assert rows["v"].to_physical().to_list() == [1_000_000, 1000, 1_000_000]
