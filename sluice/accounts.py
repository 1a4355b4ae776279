"""Accounts: what became of every record read, and the equations that must hold.

An account tells of one contiguous offset range of one Kafka partition within one tile. It travels in the
metadata of the commit that decided, as JSON under `ACCOUNTS`; `system/ledger` is all accounts folded
together, and can be made again from the commits alone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Literal, TypeVar

import polars as pl

from sluice.tables import LEDGER

ACCOUNTS = "sluice.accounts"
Layer = Literal["bronze", "silver"]
Kind = Literal["batch", "replay", "repair"]
_TILE = ["stream", "layer", "epoch", "tile", "partition"]
RANGE = (*_TILE, "kind", "generation", "first_offset", "next_offset")  # what `current` looks at
Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


@dataclass(frozen=True, order=True)
class Slice:
    """A contiguous range of offsets `[first_offset, next_offset)` of one partition within one tile."""

    tile: str
    epoch: int
    partition: int
    first_offset: int
    next_offset: int

    @property
    def offsets(self) -> int:
        """How many offsets the range has."""
        return self.next_offset - self.first_offset


@dataclass(frozen=True)
class Account:
    """What became of the records of one slice; counts of records."""

    stream: str
    layer: Layer
    kind: Kind
    tile: str
    generation: int
    code_version: str
    run_id: str
    batch_id: str
    epoch: int
    partition: int
    first_offset: int
    next_offset: int
    read: int
    accepted: int
    duplicates: int = 0
    conflicts: int = 0
    quarantined: int = 0
    tombstones: int = 0
    ignored: int = 0
    late: int = 0
    gaps: int = 0
    holes: int = 0
    min_event_time: datetime | None = None
    max_event_time: datetime | None = None
    touched_dates: tuple[date, ...] = ()

    @property
    def balanced(self) -> bool:
        """Whether the first equation holds."""
        return self.read == (
            self.accepted
            + self.duplicates
            + self.conflicts
            + self.quarantined
            + self.tombstones
            + self.ignored
        )

    def touching(self, dates: Iterable[date]) -> "Account":
        """Give the account with more dates touched."""
        return replace(self, touched_dates=tuple(sorted({*self.touched_dates, *dates})))


def batch_id(layer: Layer, stream: str, generation: int, slices: Iterable[Slice]) -> str:
    """Name a batch by what it decides: the same try again has the same name."""
    text = f"{layer}/{stream}/{generation}/{sorted(slices)!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def of_bronze(stream: str, piece: Slice, read: int, holes: int, run_id: str, generation: int = 1) -> Account:
    """Tell of a slice that bronze took as it came: what is neither a record nor a hole is a gap."""
    return Account(
        stream=stream,
        layer="bronze",
        kind="batch",
        tile=piece.tile,
        generation=generation,
        code_version="",  # bronze keeps records as they came: no contract decides
        run_id=run_id,
        batch_id=batch_id("bronze", stream, generation, [piece]),
        epoch=piece.epoch,
        partition=piece.partition,
        first_offset=piece.first_offset,
        next_offset=piece.next_offset,
        read=read,
        accepted=read,
        gaps=piece.offsets - read - holes,
        holes=holes,
    )


def dumps(accounts: Iterable[Account]) -> str:
    """Write accounts as the JSON that a commit carries."""
    return json.dumps([vars(a) for a in accounts], default=_isoformat, separators=(",", ":"))


def _isoformat(value: Any) -> str:
    text: str = value.isoformat()
    return text


def folded(commits: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Turn commits, as Delta's history tells them, into rows of the ledger.

    Each commit needs `version`, `timestamp` (milliseconds) and may have accounts under `ACCOUNTS`.
    """
    rows: list[dict[str, Any]] = []
    for commit in commits:
        for account in json.loads(commit.get(ACCOUNTS) or "[]"):
            committed = datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
            row = account | {"committed_at": committed, "table_version": commit["version"]}
            for name in ("min_event_time", "max_event_time"):
                row[name] = datetime.fromisoformat(row[name]) if row[name] else None
            row["touched_dates"] = [date.fromisoformat(text) for text in row["touched_dates"]]
            rows.append(row)
    return pl.DataFrame(rows, schema=LEDGER, orient="row")


def current(ledger: pl.DataFrame) -> pl.DataFrame:
    """Keep the accounts that tell of today's tables: of each range of a tile those of the last generation.

    A range that is decided anew is cut where accounts begin and end, so a newer one that has the first offset
    of an older one has all of it; a replay tells of some records of a batch, and replaces none.
    """
    number = pl.col("generation")
    raised = ledger.select(number.min().over(_TILE) < number.max().over(_TILE)).to_series()
    rows = ledger.filter(raised).sort("first_offset")
    batches = rows.filter(pl.col("kind") != "replay")
    for newer in batches["generation"].unique():
        new = batches.filter(number == newer).select(*_TILE, "first_offset", _end="next_offset")
        met = rows.join_asof(new, on="first_offset", by=_TILE, check_sortedness=False)
        replaced = (pl.col("_end") > pl.col("first_offset")) & (number < newer)
        rows = met.filter(~replaced.fill_null(value=False)).drop("_end")
    return pl.concat([ledger.filter(~raised), rows]).rechunk()  # polars 2.1: `pl.format` and empty chunks


def unbalanced(ledger: Frame) -> Frame:
    """Give the accounts that break the first equation."""
    parts = ("accepted", "duplicates", "conflicts", "quarantined", "tombstones", "ignored")
    return ledger.filter(pl.col("read") != pl.sum_horizontal(parts))
