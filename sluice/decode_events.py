"""The verdict on each record of a batch of events, before any table is looked at.

In this order: a null value is a tombstone; what is no JSON object fails at stage `decode`; what `where`
excludes is ignored; a key column without a value fails at stage `key`; what does not fit its column at
stage `schema`; and of records that fit, broken rules and unbelievable event times at stage `rule`. All
failures of a record are listed, the first one first. What decodes how is decided in
`sluice.json.columns`, which members make a record one of this stream in `sluice.json.where`.
"""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from sluice.columns import Column
from sluice.contract import Events, Json
from sluice.decoded import FAILURES_SCHEMA, Decoded
from sluice.errors import FormatError
from sluice.json.columns import read_columns
from sluice.json.rows import Read
from sluice.json.where import selected, where_columns
from sluice.rules import broken_rules

DAY = timedelta(days=1)
EVENT_TIME_RANGE = "event_time_range"
_STAGES = pl.Enum(["decode", "key", "schema", "rule"])


def decode_events(stream: Events, records: pl.DataFrame) -> Decoded:
    """Decode a batch.

    Args:
        stream: the contract.
        records: bronze columns, of which `value` (Binary) and `timestamp` (UTC) are used; `_row` in
            the result is the place in this frame.

    Raises:
        ColumnTypeError: a column has a type that no JSON value can become.
        FormatError: the stream's values are not `Json`.
        RuleError: a rule of the model cannot be computed.
    """
    if not isinstance(stream.value, Json):
        raise FormatError(stream.name, repr(stream.value), "Json()")
    places = pl.int_range(len(records), dtype=pl.UInt32, eager=True).alias("_row")
    empty = records["value"].is_null()
    live = places.filter(~empty)
    batch = records.filter(~empty)
    read = read_columns(
        batch["value"], [*stream.columns, *where_columns(stream.where, stream.columns)], stream.value
    )
    undecoded = _among(read.failures.filter(pl.col("stage") == "decode")["_row"], len(live))
    wanted = undecoded | selected(stream.where, stream.columns, read)
    names = [column.name for column in stream.columns]
    misfits = _misfits(read, stream, wanted)
    nulls = null_failures(
        read, stream.columns, wanted & ~undecoded, key=stream.keys, never=(stream.event_time,)
    )
    typed = pl.concat([misfits, nulls])
    fits = wanted & ~_among(typed["_row"], len(live))
    right = read.frame.select(names).filter(fits)
    broken = _broken(stream, right, batch.filter(fits)["timestamp"])
    back = pl.int_range(len(live), dtype=pl.UInt32, eager=True).filter(fits)
    failures = in_order(pl.concat([typed, broken.with_columns(_row=back.gather(broken["_row"]))]))
    rows = right.insert_column(0, live.filter(fits))
    return Decoded(
        rows=rows.filter(~_among(broken["_row"], len(rows))) if len(broken) else rows,
        failures=failures.with_columns(_row=live.gather(failures["_row"])),
        tombstones=places.filter(empty),
        ignored=live.filter(~wanted),  # a failure implies wanted: no record is in two places
        unknown=read.unknown,
    )


def null_failures(
    read: Read, columns: Sequence[Column], judged: pl.Series, *, key: Sequence[str], never: Sequence[str] = ()
) -> pl.DataFrame:
    """List the nulls that a contract forbids (FAILURES_SCHEMA).

    Args:
        read: the columns as read; what did not fit is no null.
        columns: the contract's.
        judged: which values are judged at all.
        key: columns whose null is a failure of stage `key`, whatever the model says.
        never: further columns that must not be null, whatever the model says.
    """
    failures = [pl.DataFrame(schema=FAILURES_SCHEMA)]
    places = pl.int_range(len(judged), dtype=pl.UInt32, eager=True)
    for column in columns:
        is_key = column.name in key
        if column.nullable and not is_key and column.name not in never:
            continue
        null = judged & read.frame[column.name].is_null()
        if not null.any():
            continue
        null &= ~_among(read.failures.filter(pl.col("name") == column.name)["_row"], len(judged))
        what = "a key column needs a value" if is_key else f"{column.dtype} here accepts no null"
        failures.append(
            pl.DataFrame({"_row": places.filter(null)}).with_columns(
                stage=pl.lit("key" if is_key else "schema"),
                column=pl.lit(".".join(column.path)),
                rule=pl.lit(None, pl.String),
                reason=pl.lit(f"found null, or no such member; {what}"),
            )
        )
    return pl.concat(failures)


def in_order(failures: pl.DataFrame) -> pl.DataFrame:
    """Order failures by record, then by stage; within a stage they stay in the order of columns."""
    return failures.sort("_row", pl.col("stage").cast(_STAGES), maintain_order=True)


def _among(rows: pl.Series, size: int) -> pl.Series:
    """Mark the places that are listed."""
    return pl.int_range(size, dtype=pl.UInt32, eager=True).is_in(rows.unique().implode())


def _misfits(read: Read, stream: Events, wanted: pl.Series) -> pl.DataFrame:
    """The failures of reading that count: not those of ignored records, nor of what `where` compares."""
    names = [column.name for column in stream.columns]
    needed = stream.where.meta.root_names() if isinstance(stream.where, pl.Expr) else []
    counts = pl.col("name").is_null() | pl.col("name").is_in([*names, *needed])
    failures = read.failures.filter(counts)
    return failures.filter(wanted.gather(failures["_row"])).select(FAILURES_SCHEMA.keys())


def _broken(stream: Events, right: pl.DataFrame, timestamps: pl.Series) -> pl.DataFrame:
    """The rules that typed rows break, named by the columns' paths; then their event times."""
    paths = {column.name: ".".join(column.path) for column in stream.columns}
    broken = broken_rules(right, stream.schema).with_columns(pl.col("column").replace(paths))
    if stream.event_time_range is None:
        return broken
    if stream.event_time_range == "default":
        low, high = pl.lit(stream.partitions.first - DAY), pl.col("timestamp") + DAY
    else:
        low, high = (pl.lit(bound, pl.Datetime("us", "UTC")) for bound in stream.event_time_range)
    moment = pl.col(stream.event_time).dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    shown = [e.dt.to_string("iso").fill_null("open") for e in (moment, low, high)]
    outside = (
        right.select(moment.alias(stream.event_time))
        .with_columns(timestamps.alias("timestamp"))
        .with_row_index("_row")
        .filter((moment < low).fill_null(False) | (moment > high).fill_null(False))
        .rechunk()  # polars 2.1 panics where it formats an empty chunk
        .select(
            "_row",
            stage=pl.lit("rule"),
            column=pl.lit(paths[stream.event_time]),
            rule=pl.lit(EVENT_TIME_RANGE),
            reason=pl.format("found {}; an event time from {} to {} is believable", *shown),
        )
    )
    return pl.concat([broken, outside.cast(FAILURES_SCHEMA)])  # type: ignore[arg-type]  # a schema
