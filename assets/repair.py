"""Repair: rows that differ from their source enter bronze as changes, in a tile of their own.

Decides how a row of the source is written so that the stream's own decoder reads it: as the connector
would, at the position as of which it was read, so that every later change still wins. The tile is
`repair/<report>`, of a partition that no topic has. Its bounds are written first, then bronze in one commit
with its account, then silver decides it as it decides every tile; so ledger, equations and rebuilds hold.
Refused, with the reason, is what the decoder would refuse, and a delete that nothing can order.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from assets import aftermath, bounds
from assets.bounds import Bounds
from assets.ingest import Limits
from assets.progress import position, progress_id
from assets.refine import refine
from resources.lake import Lake
from sluice import accounts, tables
from sluice.accounts import ACCOUNTS, Slice
from sluice.columns import Column
from sluice.compare.compared import EXTRA, Compared
from sluice.contract import Changes, Debezium, Stream
from sluice.decode import decode
from sluice.judged import judge
from sluice.tables import BRONZE, REPAIR, REPAIR_PARTITION, TILES, TILES_TABLE

_LIMITS = Limits(500_000, 256 << 20)
_PLACED = r"^([0-9]{20}) ([0-9]{20}) [0-9]$"  # a place in PostgreSQL's log


@dataclass(frozen=True)
class Moment:
    """The position as of which a source was read: its clock, and the changes that it has (None: all)."""

    at: datetime
    seen: pl.LazyFrame | None = None


@dataclass(frozen=True)
class Plan:
    """What a repair writes: records of bronze without their place, and why others are not written."""

    records: pl.DataFrame
    refused: Mapping[str, int]

    def __str__(self) -> str:
        """Tell it to people."""
        left = "".join(f"; {count} cannot be: {reason}" for reason, count in self.refused.items())
        return f"{self.records.height} rows{left}"


def plan(lake: Lake, stream: Stream, report: str, found: Compared, moment: Moment) -> Plan:
    """Write the rows that differ as records, and try each of them with the stream's own decoder."""
    write = _writer(lake, stream, moment)
    offset = _next_offset(lake, stream)
    written: list[tuple[bytes | None, bytes | None]] = []
    refused: dict[str, int] = {}
    for row in found.rows.iter_rows(named=True):
        keys = {name: row[name] for name in stream.keys}
        pair = write(keys, None if row["kind"] == EXTRA else row["source"])
        if isinstance(pair, str):
            refused[pair] = refused.get(pair, 0) + 1
        else:
            written.append(pair)
    count = len(written)
    header = [{"key": "sluice.repair", "value": report.encode()}]
    stamp = moment.at
    columns = {
        "topic": [stream.topic] * count,
        "epoch": [stream.epoch] * count,
        "partition": [REPAIR_PARTITION] * count,
        "offset": list(range(offset, offset + count)),
        "timestamp_ms": [int(stamp.timestamp() * 1000)] * count,
        "timestamp": [stamp] * count,
        "timestamp_type": ["CreateTime"] * count,
        "key": [key for key, _ in written],
        "value": [value for _, value in written],
        "headers": [header] * count,
        "ingested_at": [datetime.now(UTC)] * count,
        "tile": [REPAIR + report] * count,
    }
    records = pl.DataFrame(columns, schema=BRONZE)
    judged = judge(stream, records, decode(stream, records))
    for reason in judged.refusals["reason"]:
        refused[reason] = refused.get(reason, 0) + 1
    if ignored := judged.verdicts.filter(pl.col("verdict") != "quarantined").height:
        refused["the contract's `where` leaves it out"] = ignored
    passing = records.join(judged.rows.select(offset="_offset"), on="offset", how="semi")
    return Plan(passing.with_columns(offset=pl.int_range(offset, offset + pl.len(), dtype=pl.Int64)), refused)


def carry_out(
    lake: Lake, stream: Stream, report: str, planned: Plan, run_id: str, say: Callable[[str], None]
) -> None:
    """Commit a repair, exactly once however often it is tried.

    Raises:
        LakeError, RaceLostError: the lake failed; what is committed is finished by the next run.
    """
    records = planned.records
    first = int(records["offset"].min() or 0)  # type: ignore[arg-type]  # of integers
    bound = Bounds(REPAIR + report, REPAIR_PARTITION, "repair", stream.epoch, first, first + records.height)
    _own(lake, stream, bound)
    piece = Slice(bound.tile, bound.epoch, bound.partition, first, first + records.height)
    account = replace(accounts.of_bronze(stream.name, piece, records.height, 0, run_id), kind="repair")

    def step() -> None:
        handle = lake.ensure(tables.bronze(stream))
        if position(handle, stream, bound) == bound.first_offset:
            lake.commit(
                handle,
                records,
                progress={progress_id(stream, bound): piece.next_offset},
                metadata={ACCOUNTS: accounts.dumps([account])},
            )

    lake.retrying(tables.bronze(stream).name, step)
    finish(lake, stream, run_id, say)


def finish(lake: Lake, stream: Stream, run_id: str, say: Callable[[str], None]) -> None:
    """Bring the repairs that bronze has to their end, also those of a run that died.

    Raises:
        LakeError, RaceLostError: the lake failed.
    """
    if not (done := _committed(lake, stream)):
        return
    bounds.close(lake, stream, done)
    aftermath.finish(lake, stream, "bronze")
    silver = lake.ensure(tables.silver(stream))
    undecided = [b.tile for b in done if position(silver, stream, b) != b.next_offset]
    if undecided:
        refine(lake, stream, undecided, run_id=run_id, limits=_LIMITS, say=say)


def due(lake: Lake, stream: Stream) -> list[str]:
    """Give the tiles of repairs, which silver decides with whatever else it is asked to."""
    return [bound.tile for bound in _committed(lake, stream)]


def _committed(lake: Lake, stream: Stream) -> list[Bounds]:
    """Give the tiles of repairs that bronze has."""
    mine = (pl.col("stream") == stream.name) & pl.col("tile").str.starts_with(REPAIR)
    bronze = lake.open(tables.bronze(stream).name)
    tiles = lake.read(TILES_TABLE).filter(mine).select("tile").collect()["tile"].unique().sort()
    owned = bounds.every_epoch(lake, stream, tiles.to_list()) if len(tiles) else []
    return [b for b in owned if position(bronze, stream, b) > b.first_offset]


def _own(lake: Lake, stream: Stream, bound: Bounds) -> None:
    """Write a tile's bounds, once."""
    row = {
        "stream": stream.name,
        "tile": bound.tile,
        "partition": bound.partition,
        "topic_id": bound.topic_id,
        "epoch": bound.epoch,
        "first_offset": bound.first_offset,
        "next_offset": bound.next_offset,
        "written_at": datetime.now(UTC),
        "closed_at": None,
    }

    def step() -> None:
        handle = lake.ensure(TILES_TABLE)
        there = lake.scan(handle).filter((pl.col("stream") == stream.name) & (pl.col("tile") == bound.tile))
        if not there.select(pl.len()).collect().item():
            rows = pl.DataFrame([row], schema=TILES, orient="row")
            lake.commit(handle, rows, fences=[f"tiles/{stream.name}"])

    lake.retrying(TILES_TABLE.name, step)


def _next_offset(lake: Lake, stream: Stream) -> int:
    """Give an offset beyond all that bronze has: where offsets order changes, a repair is the newest."""
    owned = bounds.every_epoch(lake, stream)
    bronze = lake.open(tables.bronze(stream).name)
    return max([0, *(max(position(bronze, stream, b), b.next_offset or 0) for b in owned)])


_Pair = tuple[bytes | None, bytes | None]
_Write = Callable[[Mapping[str, Any], Mapping[str, Any] | None], _Pair | str]


def _writer(lake: Lake, stream: Stream, moment: Moment) -> _Write:
    """Give what writes one row (None: it is gone) as Kafka's key and value, or tells why it cannot be."""
    keys = [stream.column(name) for name in stream.keys]
    if isinstance(stream.value, Debezium):
        if stream.value.source != "postgresql":
            return lambda *_: f"changes of {stream.value.source} cannot be written"  # type: ignore[union-attr]
        source = _source(lake, stream, moment)

        def envelope(key: Mapping[str, Any], row: Mapping[str, Any] | None) -> _Pair:
            sides = {"op": "d", "before": _document(keys, key), "after": None}
            if row is not None:
                sides = {"op": "r", "before": None, "after": _document(stream.columns, row)}
            return _dumped(_document(keys, key)), _dumped(sides | {"source": source})

        return envelope

    members = stream.where if isinstance(stream.where, Mapping) else {}

    def plain(key: Mapping[str, Any], row: Mapping[str, Any] | None) -> _Pair | str:
        name = _dumped(_document(keys, key))
        if row is not None:
            document = _document(stream.columns, row)
            for path, value in members.items():
                _put(document, path.split("."), value)
            return name, _dumped(document)
        if not isinstance(stream, Changes):
            return "an event that the source lacks: events are never deleted"
        if stream.sequences:
            return f"a delete without {', '.join(stream.sequences)}, by which changes are ordered"
        return name, None

    return plain


def _source(lake: Lake, stream: Stream, moment: Moment) -> dict[str, Any]:
    """Write the block that places a change after all that the source's position has, before all later ones.

    Positions follow the order of commits, and what the snapshot does not see was committed after all that it
    sees: so the greatest position that it sees is its own.
    """
    rows = lake.read(tables.silver(stream)) if moment.seen is None else moment.seen
    placed = rows.filter(pl.col("_position").str.contains(_PLACED)).select(
        pl.col("_position").max(), table=pl.col("_source").struct.field("table").drop_nulls().first()
    )
    last, table = placed.collect().row(0)
    commit, lsn = (int(part) for part in (last or "0 0 0").split(" ")[:2])
    named = dict(zip(("table", "schema", "db"), reversed((table or "").split(".")), strict=False))
    stamp = int(moment.at.timestamp() * 1_000_000)
    return named | {
        "connector": "postgresql",
        "snapshot": "incremental",  # read after what was streamed up to its place
        "lsn": lsn,
        "sequence": json.dumps([str(commit), str(lsn)]),
        "ts_us": stamp,
        "ts_ms": stamp // 1000,
    }


def _document(columns: Sequence[Column], row: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for column in columns:
        _put(document, column.path, _written(row[column.name], column.dtype))
    return document


def _put(document: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        document = document.setdefault(name, {})
    document[path[-1]] = value


def _written(value: Any, dtype: Any) -> Any:
    """Write a value as JSON that the strict decoder reads as the same."""
    match value:
        case None | bool() | str():
            return value
        case int() if dtype == pl.Time:  # the lake keeps microseconds
            return (datetime(1, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)).time().isoformat()
        case float() if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124  # NaN
            return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
        case int() | float():
            return value
        case Decimal():
            return int(value) if dtype.is_integer() else f"{value:f}" + ("" if "." in f"{value:f}" else ".0")
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [_written(item, dtype.inner) for item in value]
        case dict():
            fields = {field.name: field.dtype for field in dtype.fields}
            return {name: _written(item, fields[name]) for name, item in value.items()}
    return str(value)


def _dumped(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass")
