"""Decoding a batch of events: every record has one verdict, and it is the right one."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandera.polars as pa
import polars as pl
from decoding import column, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice import Events, Hourly, Json
from sluice.decode_events import decode_events
from sluice.decoded import Decoded

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Reading(pa.DataFrameModel):
    id: str
    level: pl.Int16 = pa.Field(ge=0, le=100)
    at: pl.Datetime("us", "UTC")
    note: str = pa.Field(nullable=True)


STREAM = Events(
    name="readings", topic="t", value=Json(), schema=Reading, key="id", event_time="at",
    partitions=Hourly(start="2026-01-01"), event_time_range=None,
)  # fmt: skip
GOOD: dict[str, Any] = {"id": "a", "level": 5, "at": "2026-01-02T00:00:00Z", "note": None}

bad_parts = st.sampled_from(
    [("id", None, "key"), ("id", 3, "schema"), ("level", None, "schema"), ("level", "x", "schema"),
     ("level", 1.5, "schema"), ("level", 70000, "schema"), ("level", 101, "rule"), ("level", -1, "rule"),
     ("at", None, "schema"), ("at", "noon", "schema"), ("note", 1, "schema")]
)  # fmt: skip
kinds = st.one_of(
    st.just(("good", ())),
    st.just(("tombstone", ())),
    st.just(("garbage", ())),
    st.tuples(st.just("bad"), st.lists(bad_parts, min_size=1, max_size=3, unique_by=lambda part: part[0])),
)
batches = st.lists(kinds, max_size=30)


def value(kind: str, parts: Any) -> bytes | None:
    match kind:
        case "tombstone":
            return None
        case "garbage":
            return b'{"id": "a", \xff'
        case _:
            return json.dumps(GOOD | {name: found for name, found, _ in parts}).encode()


def decode(values: list[bytes | None]) -> Decoded:
    stamp = pl.Series([datetime(2026, 1, 2, tzinfo=UTC)] * len(values), dtype=pl.Datetime("us", "UTC"))
    return decode_events(
        STREAM, pl.DataFrame({"value": pl.Series(values, dtype=pl.Binary), "timestamp": stamp})
    )


@QUICK
@given(batches)
def test_every_record_has_exactly_one_verdict(batch: list[Any]) -> None:
    """kafka-medallion 6, 4; event-streaming 7; kinesis-iceberg 39, 6.

    Schema validation; error resilience; invalid events are filtered and no valid one is; a parse failure
    stops nothing; all events are transformed.
    """
    decoded = decode([value(*kind) for kind in batch])
    places: dict[str, list[int]] = {"good": [], "tombstone": [], "garbage": [], "bad": []}
    for row, (kind, _) in enumerate(batch):
        places[kind].append(row)
    assert decoded.rows["_row"].to_list() == places["good"]
    assert decoded.tombstones.to_list() == places["tombstone"]
    assert sorted(set(decoded.failures["_row"])) == sorted(places["garbage"] + places["bad"])
    assert decoded.ignored.is_empty()


@QUICK
@given(batches)
def test_all_violations_are_detected_with_their_details(batch: list[Any]) -> None:
    """kinesis-iceberg 5, 8, 27, 28, 29; kafka-medallion 8, 9.

    Validation detects all violations, with details: nulls, types, ranges; type conversion errors and NOT
    NULL are failures of their columns, never silent nulls.
    """
    decoded = decode([value(*kind) for kind in batch])
    for row, (kind, parts) in enumerate(batch):
        found = decoded.failures.filter(pl.col("_row") == row)
        if kind == "garbage":
            assert found.select("stage", "column").rows() == [("decode", None)]
        if kind != "bad":
            continue
        typed = {(stage, name) for name, _, stage in parts if stage != "rule"}
        ruled = {(stage, name) for name, _, stage in parts if stage == "rule"}
        assert set(found.select("stage", "column").rows()) == (typed or ruled)
        stages = found["stage"].to_list()
        assert stages == sorted(stages, key=["decode", "key", "schema", "rule"].index)
        for reason, name in found.select("reason", "column").rows():
            given_value = next(part[1] for part in parts if part[0] == name)
            assert ("null" if given_value is None else str(given_value)) in reason


@QUICK
@given(st.lists(st.none() | st.integers(-200, 200)))
def test_ranges_and_nulls_of_numbers(levels: list[int | None]) -> None:
    """kinesis-iceberg 27, 29; kafka-medallion 9: nulls and values out of bounds, and only those."""
    decoded = decode([json.dumps(GOOD | {"level": level}).encode() for level in levels])
    assert decoded.rows["level"].to_list() == [n for n in levels if n is not None and 0 <= n <= 100]
    nulls = decoded.failures.filter(pl.col("stage") == "schema")["_row"].to_list()
    assert nulls == [row for row, level in enumerate(levels) if level is None]


plain = st.text(st.characters(codec="utf-8"), max_size=20)


@QUICK
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "text": plain,
                "whole": st.integers(-(2**63), 2**63 - 1),
                "exact": st.decimals(-(10**9), 10**9, places=4, allow_nan=False, allow_infinity=False),
                "real": st.floats(allow_nan=False, allow_infinity=False),
                "flag": st.booleans(),
                "at": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001  # made zoned below
                "items": st.lists(st.fixed_dictionaries({"n": st.none() | st.integers(0, 255), "t": plain})),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_json_round_trip(rows: list[dict[str, Any]]) -> None:
    """kinesis-iceberg 44: JSON parsing round trip (what is written is what is read, to the last digit)."""
    for row in rows:
        row["at"] = row["at"].replace(tzinfo=UTC)
    dtypes = {
        "text": pl.String(), "whole": pl.Int64(), "exact": pl.Decimal(20, 4), "real": pl.Float64(),
        "flag": pl.Boolean(), "at": pl.Datetime("us", "UTC"),
        "items": pl.List(pl.Struct({"n": pl.UInt8(), "t": pl.String()})),
    }  # fmt: skip
    written = [
        json.dumps(row, default=lambda v: f"{v:f}" if isinstance(v, Decimal) else v.isoformat())
        for row in rows
    ]
    read = same([text.encode() for text in written], [column(t, name) for name, t in dtypes.items()])
    assert read.failures.is_empty()
    assert read.frame.rows(named=True) == rows


@QUICK
@given(st.integers(0, 10**6), st.sampled_from(["s", "ms", "us"]))
def test_epochs_and_texts_of_one_moment_agree(seconds: int, unit: str) -> None:
    """kafka-medallion 8: conversions either hold exactly or fail; two spellings of a moment are equal."""
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    scale = {"s": 1, "ms": 1000, "us": 10**6}[unit]
    number = int(moment.timestamp()) * scale
    values = [f'{{"c":{number}}}'.encode(), f'{{"c":"{moment.isoformat()}"}}'.encode()]
    read = same(values, [column(pl.Datetime("us", "UTC"))], Json(epoch=unit))
    assert read.frame["c"].to_list() == [moment, moment]
