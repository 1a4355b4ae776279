"""Repair: rows that differ from their source enter bronze as changes, in a tile of their own.

A row is written as the source's connector would (`sluice.envelopes.written`), at the position as of which it
was read (`assets.placing`), so that every later change still wins. The tile is `repair/<report>`, of a
partition that no topic has. Its bounds are written first, then bronze in one commit with its account, then
silver decides it as it decides every tile; so ledger, equations and rebuilds hold. Refused, with the reason,
is what the stream's own decoder would refuse, and what nothing can order.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl

from assets import aftermath, bounds
from assets.bounds import Bounds
from assets.ingest import Limits
from assets.placing import Moment, placed
from assets.progress import position, progress_id
from assets.refine import refine
from resources.lake import Lake
from sluice import accounts, tables
from sluice.accounts import ACCOUNTS, Slice
from sluice.columns import Column
from sluice.compare.compared import EXTRA, Compared
from sluice.contract import Stream
from sluice.decode import decode
from sluice.envelopes.written import Pair, Place, record
from sluice.judged import judge
from sluice.tables import BRONZE, REPAIR, REPAIR_PARTITION, TILES, TILES_TABLE

_LIMITS = Limits(500_000, 256 << 20)


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
    place = placed(lake, stream, moment)
    offset = _next_offset(lake, stream)
    written: list[Pair] = []
    refused: dict[str, int] = {}
    for row in found.rows.iter_rows(named=True):
        pair = place if isinstance(place, str) else _written(stream, place, row, moment.documents)
        if isinstance(pair, str):
            refused[pair] = refused.get(pair, 0) + 1
        else:
            written.append(pair)
    count = len(written)
    header = [{"key": "sluice.repair", "value": report.encode()}]
    stamp = moment.at if isinstance(place, str) else place.at
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
    for told in judged.refusals.select("stage", "column", "rule", "reason").iter_rows(named=True):
        reason = _told(stream, told)
        refused[reason] = refused.get(reason, 0) + 1
    if ignored := judged.verdicts.filter(pl.col("verdict") != "quarantined").height:
        refused["the contract's `where` leaves it out"] = ignored
    passing = records.join(judged.rows.select(offset="_offset"), on="offset", how="semi")
    return Plan(passing.with_columns(offset=pl.int_range(offset, offset + pl.len(), dtype=pl.Int64)), refused)


def _told(stream: Stream, refusal: Mapping[str, str | None]) -> str:
    """Give the reason of a refusal, without the value where it may be personal."""

    def names(column: Column) -> bool:
        said = refusal["column"] or ""
        return any(said == name or said.startswith((f"{name}.", f"{name}[")) for name in
                   (column.name, ".".join(column.path)))  # fmt: skip

    personal = any(column.pii for column in stream.columns)
    if not personal or any(names(column) and not column.pii for column in stream.columns):
        return refusal["reason"] or ""
    said = ", ".join(f"{name} {refusal[name]}" for name in ("stage", "column", "rule") if refusal[name])
    return f"a personal value that the contract refuses ({said})"


def _written(
    stream: Stream, place: Place, row: Mapping[str, Any], documents: Mapping[tuple[Any, ...], str] | None
) -> Pair | str:
    """Write a row that differs as its source has it, or tell why it cannot be."""
    key = {name: row[name] for name in stream.keys}
    if row["kind"] == EXTRA:
        return record(stream, place, key, None)
    if documents is None:
        return record(stream, place, key, row["source"])
    if None in key.values():
        return "a document whose key its column cannot hold"
    document = documents.get(tuple(key.values()))
    if document is None:
        return "documents that are too much for one repair: run it again"
    return record(stream, place, key, row["source"], document)


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
