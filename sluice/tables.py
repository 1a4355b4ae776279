"""The tables of the lake: names, columns and partitions, as `contract.md` fixes them.

All columns are nullable in storage: what must not be null is decided by the contract and proven by
checks, and a column can be added without rewriting a table. Offsets are those of Kafka; all times are
UTC microseconds.
"""

from dataclasses import dataclass

import polars as pl

from sluice.contract import Changes, Debezium, Events, Stream
from sluice.decoded import FAILURE
from sluice.envelopes.origins import SOURCE

UTC_TIME = pl.Datetime("us", "UTC")
BUCKETS = 16  # of silver and dimensions of changes; a key's bucket never changes
REPAIR = "repair/"  # tiles of repairs; they own no offsets of the topic's own partitions
REPAIR_PARTITION = 2**31 - 1  # at equal positions the greatest counts
EVERY_BUCKET = -1  # holds the changes that have no key (truncates) and so concern all buckets

RECORD: dict[str, pl.DataType] = {
    "topic": pl.String(),
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "timestamp_ms": pl.Int64(),  # as it came
    "timestamp": UTC_TIME,  # null where it can't be told
    "timestamp_type": pl.String(),  # CreateTime, LogAppendTime, NotAvailable
    "key": pl.Binary(),
    "value": pl.Binary(),
    "headers": pl.List(pl.Struct({"key": pl.String, "value": pl.Binary})),
}
BRONZE: dict[str, pl.DataType] = {
    "topic": pl.String(),
    "epoch": pl.Int32(),
    **{name: dtype for name, dtype in RECORD.items() if name != "topic"},
    "ingested_at": UTC_TIME,
    "tile": pl.String(),
}
COORDINATES = ("epoch", "partition", "offset")
ROW_COORDINATES = ("_epoch", "_partition", "_offset")

TILES: dict[str, pl.DataType] = {
    "stream": pl.String(),
    "tile": pl.String(),
    "partition": pl.Int32(),
    "topic_id": pl.String(),
    "epoch": pl.Int32(),
    "first_offset": pl.Int64(),
    "next_offset": pl.Int64(),  # null: the tile is open
    "written_at": UTC_TIME,
    "closed_at": UTC_TIME,  # when bronze had read all of it; null: not yet
}
LEDGER: dict[str, pl.DataType] = {
    "stream": pl.String(),
    "layer": pl.String(),  # bronze, silver
    "kind": pl.String(),  # batch, replay, repair
    "tile": pl.String(),
    "generation": pl.Int32(),  # raised each time that the tile is replaced
    "code_version": pl.String(),  # of the contract that decided
    "run_id": pl.String(),
    "batch_id": pl.String(),
    "epoch": pl.Int32(),
    "partition": pl.Int32(),
    "first_offset": pl.Int64(),
    "next_offset": pl.Int64(),
    "read": pl.Int64(),
    "accepted": pl.Int64(),
    "duplicates": pl.Int64(),
    "conflicts": pl.Int64(),
    "quarantined": pl.Int64(),
    "tombstones": pl.Int64(),
    "ignored": pl.Int64(),
    "late": pl.Int64(),
    "gaps": pl.Int64(),
    "holes": pl.Int64(),
    "min_event_time": UTC_TIME,
    "max_event_time": UTC_TIME,
    "touched_dates": pl.List(pl.Date),
    "committed_at": UTC_TIME,
    "table_version": pl.Int64(),
}
ACKNOWLEDGED: dict[str, pl.DataType] = {
    "stream": pl.String(),
    "tile": pl.String(),
    "epoch": pl.Int32(),
    "partition": pl.Int32(),
    "first_offset": pl.Int64(),
    "holes": pl.Int64(),  # in addition to those acknowledged there before
    "reason": pl.String(),
    "acknowledged_at": UTC_TIME,
}
PROVEN: dict[str, pl.DataType] = {
    "stream": pl.String(),
    "layer": pl.String(),  # bronze: the second equation; silver: the third
    "tile": pl.String(),
    "claim": pl.String(),  # a digest of all that the equation was counted from
    "proven_at": UTC_TIME,
}
QUARANTINE: dict[str, pl.DataType] = {
    "topic": pl.String(),
    "epoch": pl.Int32(),
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    **{name: RECORD[name] for name in ("timestamp", "key", "value", "headers")},
    "stage": pl.String(),
    "column": pl.String(),
    "rule": pl.String(),
    "reason": pl.String(),
    "failures": pl.List(FAILURE),
    "batch_id": pl.String(),
    "quarantined_at": UTC_TIME,
    "resolved_at": UTC_TIME,
    "tile": pl.String(),
}
_ROW: dict[str, pl.DataType] = {
    "_topic": pl.String(),
    "_epoch": pl.Int32(),
    "_partition": pl.Int32(),
    "_offset": pl.Int64(),
    "_tile": pl.String(),
    "_ingested_at": UTC_TIME,
}
_LOSER: dict[str, pl.DataType] = {
    "topic": pl.String(),
    "epoch": pl.Int32(),
    "partition": pl.Int32(),
    "offset": pl.Int64(),
}
_VERDICT: dict[str, pl.DataType] = {
    "verdict": pl.String(),  # duplicate, conflict
    "winner_epoch": pl.Int32(),
    "winner_partition": pl.Int32(),
    "winner_offset": pl.Int64(),
    "tile": pl.String(),
}


@dataclass(frozen=True)
class Table:
    """A table of the lake: its path below the lake's root, its columns, how it is partitioned."""

    name: str
    columns: dict[str, pl.DataType]
    partition_by: tuple[str, ...]
    description: str


def contract_columns(stream: Stream) -> dict[str, pl.DataType]:
    """The contract's columns as Delta stores them."""
    return {column.name: column.storage for column in stream.columns}


def bronze(stream: Stream) -> Table:
    """Raw records as they came, by tile."""
    return Table(f"bronze/{stream.name}", BRONZE, ("tile",), f"Records of topic {stream.topic} as they came.")


def silver(stream: Stream) -> Table:
    """Typed, valid, deduplicated rows: events by date, changes by key bucket."""
    columns = contract_columns(stream) | _ROW
    name = f"silver/{stream.name}"
    if isinstance(stream, Events):
        columns["_event_date"] = pl.Date()
        return Table(name, columns, ("_event_date",), "One row a key: typed, valid, deduplicated.")
    if not isinstance(stream, Changes):
        raise TypeError(f"{stream!r} is neither Events nor Changes")
    columns |= {
        "_timestamp": UTC_TIME,
        "_position": pl.String(),
        "_valid_from": valid_from_dtype(stream),
        "_op": pl.String(),
        "_previous_key": pl.String(),
        "_source": SOURCE,
        "_unavailable": pl.List(pl.String),
        **({"_patch": pl.String()} if tells_patches(stream) else {}),
        "_bucket": pl.Int32(),
    }
    return Table(name, columns, ("_bucket",), "Every change once: typed, valid, in the source's order.")


def tells_patches(stream: Changes) -> bool:
    """Tell whether a source may tell what changed in a row, and not the row."""
    return isinstance(stream.value, Debezium) and stream.value.source == "mongodb"


def losers(stream: Stream) -> Table:
    """The duplicates and conflicts, each with its winner."""
    when = (
        {stream.event_time: stream.column(stream.event_time).storage}
        if isinstance(stream, Events)
        else {"_position": pl.String()}
    )
    keys = {name: stream.column(name).storage for name in stream.keys}
    columns = _LOSER | keys | {n: t for n, t in when.items() if n not in keys} | _VERDICT
    return Table(f"losers/{stream.name}", columns, ("tile",), "Duplicates and conflicts, with their winners.")


def quarantine(stream: Stream) -> Table:
    """The records that silver refused, with the reason."""
    return Table(f"quarantine/{stream.name}", QUARANTINE, ("tile",), "Records that silver refused, and why.")


def dimension(stream: Changes) -> Table:
    """The latest image, or with `history` all versions, of each key."""
    columns = contract_columns(stream)
    if stream.history:
        begin = valid_from_dtype(stream)
        columns |= {
            "valid_from": begin,
            "valid_to": begin,
            "is_current": pl.Boolean(),
            "version": pl.Int32(),
        }
    columns |= {"_position": pl.String(), "_op": pl.String(), "_bucket": pl.Int32()}
    what = "Every version of every key, half-open intervals." if stream.history else "The latest image."
    return Table(f"dimensions/{stream.name}", columns, ("_bucket",), what)


def valid_from_dtype(stream: Changes) -> pl.DataType:
    """The stored type of the moment at which a version begins."""
    return stream.column(stream.valid_from).storage if stream.valid_from else UTC_TIME


LEDGER_TABLE = Table("system/ledger", LEDGER, ("stream",), "What became of every record read.")
TILES_TABLE = Table("system/tiles", TILES, ("stream",), "The offsets that each tile owns; written once.")
ACKNOWLEDGED_TABLE = Table(
    "system/acknowledged", ACKNOWLEDGED, ("stream",), "Losses that someone acknowledged, with the reason."
)
PROVEN_TABLE = Table("system/proven", PROVEN, ("stream",), "Complete tiles whose equations were counted.")
INTENTS_TABLE = Table(
    "system/intents",
    {
        "id": pl.String(),
        "table": pl.String(),
        "fences": pl.List(pl.String),
        "expires_at": UTC_TIME,
        "withdrawn": pl.Boolean(),
    },
    (),
    "Whom live writers give way to, and until when.",
)
