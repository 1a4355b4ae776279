"""Whatever comes, every record of a batch of changes ends in exactly one place, and none stops the batch."""

import json

import polars as pl
from changes import bronze, changes_of, decoded_silver
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import Debezium, Json

COLUMNS = {
    "id": int,
    "v": str,
    "n": pl.Decimal(9, 2),
    "f": float,
    "at": pl.Datetime("us"),
    "day": pl.Date,
    "items": pl.List(pl.Int64),
    "point": pl.Struct({"x": pl.Float64}),
    "raw": pl.Binary,
}
SCALARS = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        "",
        "x",
        "1234",
        "AQ==",
        "NaN",
        "__debezium_unavailable_value",
        "2026-01-01",
    ]
)
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=2)
    | st.dictionaries(st.sampled_from(["x", "scale", "value"]), SCALARS)
)
IMAGES = st.dictionaries(st.sampled_from([*COLUMNS, "other", "\ud800"]), VALUES, max_size=6) | VALUES
NAMES = st.sampled_from(
    [
        "io.debezium.time.Date",
        "org.apache.kafka.connect.data.Decimal",
        "io.debezium.data.Bits",
        "io.debezium.time.Time",
    ]
)
PARAMETERS = st.dictionaries(st.sampled_from(["scale", "length", "connect.decimal.precision"]), SCALARS)
FIELD = {"field": st.sampled_from(list(COLUMNS)), "name": NAMES, "parameters": PARAMETERS | SCALARS}
INNER = st.sampled_from([None, 5, {}, [{}], [1], {"name": 1}])
FIELDS = st.lists(st.fixed_dictionaries(FIELD, optional={"items": INNER, "fields": INNER}), max_size=4)
SOURCES = st.dictionaries(
    st.sampled_from(["connector", "lsn", "sequence", "ts_us", "ts_ms", "snapshot"]),
    st.sampled_from(["postgresql", 5, '["1","2"]', "[]", None, "true", 10**4200, {}]),
)
ENVELOPES = st.fixed_dictionaries(
    {"op": st.sampled_from(["c", "u", "d", "r", "t", "m", "x", None, 1])},
    optional={"before": IMAGES, "after": IMAGES, "source": SOURCES | SCALARS},
)
BLOCKS = st.none() | FIELDS.map(lambda fields: {"fields": [{"field": "after", "fields": fields}]})
WRAPPED = st.fixed_dictionaries({"schema": BLOCKS | SCALARS, "payload": ENVELOPES | SCALARS})
TEXTS = (ENVELOPES | WRAPPED | IMAGES).map(lambda value: json.dumps(value, separators=(",", ":")))
RECORDS = st.lists(
    st.tuples(st.none() | TEXTS | st.binary(max_size=8), st.none() | TEXTS | st.binary(max_size=8)),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(records=RECORDS, debezium=st.booleans())
def test_every_record_is_in_one_place(records, debezium):
    """kafka-medallion 7: nothing is lost or counted twice, whatever the bytes are."""
    headers = [
        [{"key": "__debezium.oldkey", "value": key.encode() if isinstance(key, str) else key}]
        for _, key in records
    ]
    batch = bronze([value for value, _ in records], [key for _, key in records], headers)
    stream = changes_of(COLUMNS, value=Debezium("postgresql") if debezium else Json(), history=True)
    rows = decoded_silver(stream, batch)
    assert rows.filter(pl.col("_op") != "t")["id"].null_count() == 0
    assert rows["_position"].null_count() == 0
    assert rows["_valid_from"].null_count() == 0
