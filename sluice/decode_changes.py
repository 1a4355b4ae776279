"""The verdict on each record of a batch of changes, before any table is looked at.

What tells no row is a tombstone or ignored; what `where` excludes is ignored (of what a delete or a truncate
does not say, or a change did not send, nothing is assumed: it stays, unless what it does say is excluded).
What cannot be read fails at stage `decode`, what cannot be named or ordered at stage `key`, what does not fit
its column at stage `schema`, broken rules at stage `rule`. Deletes and truncates are checked for key and
sequence only. How a record is read is decided in `sluice.envelopes.plain_rows` and
`sluice.envelopes.debezium_rows`.
"""

from collections.abc import Sequence

import polars as pl

from sluice.columns import Column, to_storage
from sluice.contract import Changes, Debezium
from sluice.decode_events import in_order, null_failures
from sluice.decoded import FAILURES_SCHEMA, Decoded
from sluice.envelopes.debezium_rows import read_debezium
from sluice.envelopes.origins import LOG
from sluice.envelopes.plain_rows import read_plain
from sluice.envelopes.positions import encode, in_log
from sluice.envelopes.told import UTC_TIME, Told
from sluice.history.carry import unsent_nulls
from sluice.json.where import excluded, selected, where_columns
from sluice.rules import broken_rules
from sluice.tables import valid_from_dtype

_UNREAD = pl.col("stage").is_in(["decode", "key"])


def decode_changes(stream: Changes, records: pl.DataFrame, *, native: bool = True) -> Decoded:
    """Decode a batch.

    Args:
        stream: the contract.
        records: bronze columns, of which `epoch, partition, offset, timestamp, key, value, headers` are used;
            `_row` in the result is the place in this frame.
        native: whether machine code may read Debezium's values where it was built.

    Returns:
        Rows with the contract's columns in their contract types, `_position` (sorts, byte by byte, as the
        source orders), `_valid_from` (the stored type), `_op` (c, u, d, r, t), `_previous_key` (JSON text)
        `_unavailable` (names of columns that are null because the source did not send them) and `_source`
        (`sluice.envelopes.origins.SOURCE`).

    Raises:
        ColumnTypeError: a column has a type that the format cannot give.
        PositionError: a column of `sequence` has no order.
        RuleError: a rule of the model cannot be computed.
    """
    if isinstance(stream.value, Debezium):
        told = read_debezium(stream, records, native=native)
    else:
        told = read_plain(stream, records, stream.value)
    frame = _ordered(stream, records, told)
    size = len(told.places)
    unread = _among(told.read.failures.filter(_UNREAD)["_row"], size)
    leaves, empties = (
        told.op.is_in(["d", "t"]).fill_null(value=False),
        (told.op == "t").fill_null(value=False),
    )
    undecoded = _among(told.read.failures.filter(stage="decode")["_row"], size)
    wanted = undecoded | selected(stream.where, stream.columns, told.read)
    if stream.where is not None:
        untold = leaves | _unsent(_asked(stream), told)
        wanted |= untold & ~excluded(stream.where, stream.columns, told.read)
    failures = [
        _misfits(stream, told, wanted, leaves, empties),
        *_nulls(stream, told, wanted & ~unread, leaves, empties),
        _undated(stream, frame, wanted & ~unread),
    ]
    typed = pl.concat(failures)
    names = [column.name for column in stream.columns]
    judged = wanted & ~leaves & ~_among(typed["_row"], size)
    broken = broken_rules(frame.select(names).filter(judged), stream.schema)
    back = pl.int_range(size, dtype=pl.UInt32, eager=True).filter(judged)
    paths = {column.name: ".".join(column.path) for column in stream.columns}
    broken = broken.with_columns(pl.col("column").replace(paths), _row=back.gather(broken["_row"]))
    listed = in_order(pl.concat([typed, broken]))
    passed = wanted & ~_among(listed["_row"], size)
    return Decoded(
        rows=frame.insert_column(0, told.places.alias("_row")).filter(passed),
        failures=listed.with_columns(_row=told.places.gather(listed["_row"])),
        tombstones=told.tombstones,
        ignored=pl.concat([told.ignored, told.places.filter(~wanted)]).alias("_row"),
        unknown=told.read.unknown,
    )


def _ordered(stream: Changes, records: pl.DataFrame, told: Told) -> pl.DataFrame:
    """Complete the contract's columns by what orders and dates a change; a truncate has no key."""
    frame, source = told.read.frame.select(column.name for column in stream.columns), told.source
    if stream.sequences:
        position = encode(frame, stream.sequences)
    else:
        own = records.select(in_log()).to_series().gather(told.places)
        position = told.position.zip_with(told.position.is_not_null(), own)
        if isinstance(stream.value, Debezium):
            source = _by_log(source, told.position.is_null())
    since, began = told.since.cast(UTC_TIME), valid_from_dtype(stream)
    if stream.valid_from:
        named = to_storage(frame.select(stream.valid_from), (stream.column(stream.valid_from),)).to_series()
        since = named.zip_with(named.is_not_null(), since) if began == UTC_TIME else named
    truncates = pl.lit(told.op == "t")
    return frame.with_columns(
        *(pl.when(~truncates).then(pl.col(name)).alias(name) for name in stream.keys),
        position.alias("_position"),
        since.alias("_valid_from"),
        told.op.alias("_op"),
        told.previous_key.alias("_previous_key"),
        _of_contract(stream, told).alias("_unavailable"),
        *([] if told.patch is None else [told.patch.alias("_patch")]),
        source.alias("_source"),
    )


def _by_log(source: pl.Series, unplaced: pl.Series) -> pl.Series:
    """Name the Kafka log as the server of the changes that their source does not place."""
    if not unplaced.any():
        return source
    log = pl.when(pl.lit(unplaced)).then(pl.lit(LOG)).otherwise(pl.col("_source").struct.field("server"))
    named = pl.col("_source").struct.with_fields(log.alias("server"))
    return source.alias("_source").to_frame().select(named).to_series()


def _asked(stream: Changes) -> list[str]:
    """Name the columns that `where` asks for."""
    if isinstance(stream.where, pl.Expr):
        return stream.where.meta.root_names()
    paths = {".".join(column.path): column.name for column in stream.columns}
    beside = {column.path: column.name for column in where_columns(stream.where, stream.columns)}
    return [beside.get(tuple(path.split("."))) or paths[path] for path in stream.where or ()]


def _unsent(names: Sequence[str], told: Told) -> pl.Series:
    """Mark the records that did not send any of some columns."""
    among = pl.lit(told.unavailable).list.set_intersection(pl.lit(list(names), pl.List(pl.String))).list.len()
    return pl.select((among > 0).fill_null(value=False)).to_series()


def _of_contract(stream: Changes, told: Told) -> pl.Series:
    """Give the unavailable columns, without those that were read for `where` only."""
    beside = {column.name for column in where_columns(stream.where, stream.columns)}
    if not beside or told.unavailable.null_count() == len(told.unavailable):
        return told.unavailable
    return told.unavailable.list.set_difference(pl.Series([list(beside)]))


def _misfits(
    stream: Changes, told: Told, wanted: pl.Series, leaves: pl.Series, empties: pl.Series
) -> pl.DataFrame:
    """The failures of reading that count: of a delete those of its key and sequence."""
    failures = told.read.failures
    rows = failures["_row"]
    names = [column.name for column in stream.columns]
    for condition in (stream.where, stream.delete_when, stream.truncate_when):
        names += condition.meta.root_names() if isinstance(condition, pl.Expr) else []
    needed = pl.col("name").is_in(names) & ~pl.lit(leaves.gather(rows))
    ordering = pl.col("name").is_in(stream.sequences)
    naming = pl.col("name").is_in(stream.keys) & ~pl.lit(empties.gather(rows))
    counts = pl.lit(wanted.gather(rows)) & (_UNREAD | needed | ordering | naming)
    return failures.filter(counts).select(FAILURES_SCHEMA.keys())


def _nulls(
    stream: Changes, told: Told, judged: pl.Series, leaves: pl.Series, empties: pl.Series
) -> list[pl.DataFrame]:
    """The nulls that must not be: in keys and sequences; elsewhere where a value was sent."""
    names = [*stream.keys, *(name for name in stream.sequences if name not in stream.keys)]

    def of(columns: Sequence[Column], where: pl.Series) -> pl.DataFrame:
        return null_failures(told.read, columns, judged & where, key=names)

    unsent = unsent_nulls(stream)
    sent = [column for column in stream.columns if column.name in names or column.name not in unsent]
    found = of(sent, ~leaves)
    if told.unavailable.null_count() < len(told.unavailable):
        lists = told.unavailable.gather(found["_row"])
        paths = {".".join(column.path): column.name for column in stream.columns}
        name = found["column"].replace(paths)
        gone = pl.DataFrame({"name": name, "of": lists}).select(pl.col("of").list.contains(pl.col("name")))
        key = found["stage"] == "key"
        found = found.filter(~gone.to_series().fill_null(value=False) | key)
    return [
        found,
        of([stream.column(name) for name in names], leaves & ~empties),
        of([stream.column(name) for name in stream.sequences], empties),
    ]


def _undated(stream: Changes, frame: pl.DataFrame, judged: pl.Series) -> pl.DataFrame:
    """A version cannot begin at no time."""
    places = pl.int_range(frame.height, dtype=pl.UInt32, eager=True)
    undated = places.filter(judged & frame["_valid_from"].is_null()) if stream.history else places.clear()
    told = pl.DataFrame({"_row": undated}).with_columns(
        stage=pl.lit("key"),
        column=pl.lit(
            ".".join(stream.column(stream.valid_from).path) if stream.valid_from else None, pl.String
        ),
        rule=pl.lit(None, pl.String),
        reason=pl.lit("found nothing that says when the change was valid; a version needs a beginning"),
    )
    return told.select(FAILURES_SCHEMA.keys())


def _among(rows: pl.Series, size: int) -> pl.Series:
    """Mark the places that are listed."""
    return pl.int_range(size, dtype=pl.UInt32, eager=True).is_in(rows.unique().implode())
