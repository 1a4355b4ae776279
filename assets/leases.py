"""Leases: which continuous workers are alive, and so which partitions of a stream are whose.

A worker that is alive says so every third of a lease, in `system/workers`, by an application transaction a
stream whose version is the end of its lease; so a beat writes no rows and conflicts with nobody. Every worker
computes alike, by rendezvous hashing, whose a partition is: one that comes or goes moves only its own share.
Nothing rests on leases but who does the work: two that hold one partition are told apart by progress ids.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b

import polars as pl
from deltalake import DeltaTable

from resources.lake import Lake
from resources.transactions import transactions
from sluice.errors import StaleWriterError
from sluice.tables import Table

WORKERS_TABLE = Table(
    "system/workers", {"worker": pl.String()}, (), "Leases of continuous workers, as transactions; no rows."
)
BEATS = 3  # in a lease
_UPKEEP = "upkeep"  # hashed beside the partitions: who does a stream's slow things


@dataclass
class Leases:
    """This worker's lease on its streams, and what it knows of the others since the last beat."""

    lake: Lake
    worker: str  # another name for every process: one that comes back must not be taken for its successor
    streams: Collection[str]
    seconds: float = 10.0
    alive: Mapping[str, Collection[str]] = field(default_factory=dict)  # by stream

    def beat(self, now: datetime | None = None, *, last: bool = False) -> None:
        """Renew the lease, or end it with the `last` beat; look who else is alive.

        Raises:
            LakeError, RaceLostError: the lake failed.
        """
        now_ms = int((now or datetime.now(UTC)).timestamp() * 1000)
        until = now_ms + int(self.seconds * 1000)
        mine = {self._id(stream): 2 * until + last for stream in self.streams}  # odd: it has gone
        none = pl.DataFrame(schema=WORKERS_TABLE.columns)

        def step() -> DeltaTable:
            handle = self.lake.ensure(WORKERS_TABLE)
            with suppress(StaleWriterError):  # the clock was put back: the lease lasts longer than it need
                self.lake.commit(handle, none, progress=mine)
            return handle

        handle = self.lake.retrying(WORKERS_TABLE.name, step)
        known = _alive(handle, now_ms)
        self.alive = {stream: known.get(stream, set()) for stream in self.streams}

    def _id(self, stream: str) -> str:
        return f"{stream}/{self.worker}"

    def mine(self, stream: str, partitions: Iterable[int]) -> set[int]:
        """Choose this worker's partitions of a stream among those alive."""
        return {p for p in partitions if self._owner(stream, str(p)) == self.worker}

    def leads(self, stream: str) -> bool:
        """Tell whether this worker does the slow things of a stream."""
        return self._owner(stream, _UPKEEP) == self.worker

    def _owner(self, stream: str, what: str) -> str:
        workers = self.alive.get(stream) or {self.worker}
        return max(workers, key=lambda w: blake2b(f"{stream}/{what}/{w}".encode(), digest_size=8).digest())


def followed(lake: Lake, now: datetime | None = None) -> dict[str, set[str]]:
    """Give the workers that are alive by the stream that they follow; only streams that someone follows."""
    handle = lake.open(WORKERS_TABLE.name)
    return {} if handle is None else _alive(handle, int((now or datetime.now(UTC)).timestamp() * 1000))


def ends(lake: Lake) -> dict[str, datetime]:
    """Give when the last lease of each worker that ever was ends, or has ended."""
    handle = lake.open(WORKERS_TABLE.name)
    found: dict[str, int] = {}
    for name, version in ({} if handle is None else transactions(handle)).items():
        worker = name.partition("/")[2]
        found[worker] = max(found.get(worker, 0), version // 2)
    return {worker: datetime.fromtimestamp(until / 1000, UTC) for worker, until in found.items()}


def _alive(handle: DeltaTable, now_ms: int) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in transactions(handle).items():
        stream, _, worker = name.partition("/")
        if version % 2 == 0 and version // 2 > now_ms:
            found.setdefault(stream, set()).add(worker)
    return found
