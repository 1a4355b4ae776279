"""How far tables have come within tiles, and when an open tile takes no more.

Progress is an application transaction in the commit of the rows: one id per tile and Kafka partition, its
version the next offset. An open tile has no end yet, so whoever appends to it might take what its bound will
give to the next tile: therefore bronze itself is told, by a seal, before the bound is decided. A seal and an
append to an open tile refuse each other (they bump one fence), so after the seal the tile's progress stands
until its bound is written, however long a writer slept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable

from resources.lake import Lake
from resources.transactions import transactions
from sluice import tables
from sluice.contract import Stream


@dataclass(frozen=True)
class Bounds:
    """What one tile owns of one Kafka partition; `next_offset` is None while the tile is open."""

    tile: str
    partition: int
    topic_id: str
    epoch: int
    first_offset: int
    next_offset: int | None


def progress_id(stream: Stream, bound: Bounds) -> str:
    """Name the application transaction whose version is the next offset of a tile's partition."""
    return f"{stream.name}/{bound.topic_id}/{bound.epoch}/{bound.tile}/{bound.partition}"


def position(handle: DeltaTable | None, stream: Stream, bound: Bounds) -> int:
    """Give the next offset that a table has not committed of a tile's partition."""
    if handle is None:
        return bound.first_offset
    return transactions(handle).get(progress_id(stream, bound), bound.first_offset)


def reached(handle: DeltaTable | None, stream: Stream, bound: Bounds) -> int:
    """Give the same, never beyond the tile's end: a table that holds more holds another tile's records."""
    at = position(handle, stream, bound)
    return at if bound.next_offset is None else min(at, bound.next_offset)


def open_fence(stream: Stream, bound: Bounds) -> str:
    """Name the fence that appends to an open tile and its seal bump."""
    return f"open/{progress_id(stream, bound)}"


def is_sealed(handle: DeltaTable, stream: Stream, bound: Bounds) -> bool:
    """Tell whether bronze takes no more of an open tile until its bound is written."""
    return _seal_id(stream, bound) in transactions(handle)


def _seal_id(stream: Stream, bound: Bounds) -> str:
    return f"sealed/{progress_id(stream, bound)}"


def seal(lake: Lake, stream: Stream, closing: Sequence[Bounds]) -> Mapping[int, int]:
    """Seal tiles that are open in `system/tiles`, one a partition, before their ends are decided.

    Returns:
        by partition, the offset before which the end cannot lie: the tile's records up to it are committed.

    Raises:
        LakeError, RaceLostError: the lake failed.
    """
    table = tables.bronze(stream)

    def step() -> dict[int, int]:
        handle = lake.ensure(table)
        new = [bound for bound in closing if not is_sealed(handle, stream, bound)]
        reached = {bound.partition: position(handle, stream, bound) for bound in closing}
        if new:
            lake.commit(
                handle,
                pl.DataFrame(schema=table.columns),
                progress={_seal_id(stream, bound): 1 for bound in new},
                fences=[open_fence(stream, bound) for bound in new],
            )
        return reached

    return lake.retrying(table.name, step) if closing else {}
