"""That one reconciliation of a stream runs at a time.

Whoever runs one holds a lease on the stream, an application transaction whose version is the lease's end, and
who finds it held waits, gives up or fails, as is asked. It is renewed beside the work; where that fails for
too long another may begin, so what the work leaves for good is left only while the lease is known to last.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from assets.verdicts import VERDICTS, VERDICTS_TABLE
from resources.lake import Lake
from resources.transactions import transactions
from sluice.contract import Stream
from sluice.errors import LeaseLostError, ReconciliationRunsError, SluiceError, StaleWriterError

Overlap = Literal["skip", "queue", "fail"]
LEASE = 30.0  # seconds; a reconciliation that dies is over after as many


@dataclass
class Lease:
    """The lease of one reconciliation: of which stream, and its end as it was last written."""

    stream: str
    version: int
    lost: bool = False

    def check(self) -> None:
        """See that nobody else may have begun.

        Raises:
            LeaseLostError: the lease is over, or another one has it.
        """
        if self.lost or _over(self.version):
            raise LeaseLostError(self.stream)


@contextmanager
def alone(
    lake: Lake, stream: Stream, overlap: Overlap, wait: Callable[[float], None]
) -> Iterator[Lease | None]:
    """Hold the lease of a stream's reconciliations while the block runs; None: it is held, so skip.

    Raises:
        ReconciliationRunsError: it is held, and `overlap` says to fail.
    """
    while not (mine := _taken(lake, stream)):
        if overlap == "fail":
            raise ReconciliationRunsError(stream.name)
        if overlap == "skip":
            yield None
            return
        wait(1.0)
    ended, lease = threading.Event(), Lease(stream.name, mine)

    def renew() -> None:
        while not (ended.wait(LEASE / 3) or lease.lost):
            try:
                lease.version = _renewed(lake, stream, lease.version, _until())
            except ReconciliationRunsError:
                lease.lost = True
            except SluiceError:  # the store is away: the next try may renew it in time
                continue
        with suppress(SluiceError):
            _renewed(lake, stream, lease.version, lease.version + 1)

    beat = threading.Thread(target=renew, name=f"lease of {stream.name}", daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        ended.set()
        beat.join()


def _over(version: int) -> bool:
    """Tell whether a lease has passed, or was given back (odd)."""
    return version % 2 == 1 or version // 2 <= datetime.now(UTC).timestamp() * 1000


def _until() -> int:
    return 2 * int((datetime.now(UTC).timestamp() + LEASE) * 1000)


def _id(stream: Stream) -> str:
    return f"reconciling/{stream.name}"


def _taken(lake: Lake, stream: Stream) -> int | None:
    """Take the lease; None where it is held."""

    def step() -> int | None:
        handle = lake.ensure(VERDICTS_TABLE)
        held = transactions(handle).get(_id(stream), 1)
        if not _over(held):
            return None
        until = max(_until(), held + 2 - held % 2)
        lake.commit(handle, pl.DataFrame(schema=VERDICTS), progress={_id(stream): until})
        return until

    with suppress(StaleWriterError):  # another took it meanwhile
        return lake.retrying(VERDICTS_TABLE.name, step)
    return None


def _renewed(lake: Lake, stream: Stream, mine: int, until: int) -> int:
    """Move the lease on, as long as nobody else has it."""

    def step() -> int:
        handle = lake.ensure(VERDICTS_TABLE)
        if transactions(handle).get(_id(stream)) != mine:
            raise ReconciliationRunsError(stream.name)
        lake.commit(handle, pl.DataFrame(schema=VERDICTS), progress={_id(stream): until})
        return until

    return lake.retrying(VERDICTS_TABLE.name, step)
