"""That one reconciliation of a stream runs at a time.

Whoever runs one holds a lease on the stream, an application transaction whose version is the lease's end, and
who finds it held waits, gives up or fails, as is asked.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from assets.verdicts import VERDICTS, VERDICTS_TABLE
from resources.lake import Lake
from resources.transactions import transactions
from sluice.contract import Stream
from sluice.errors import ReconciliationRunsError, SluiceError, StaleWriterError

Overlap = Literal["skip", "queue", "fail"]
LEASE = 30.0  # seconds; a reconciliation that dies is over after as many


@contextmanager
def alone(lake: Lake, stream: Stream, overlap: Overlap, wait: Callable[[float], None]) -> Iterator[bool]:
    """Hold the lease of a stream's reconciliations while the block runs; False: it is held, so skip.

    Raises:
        ReconciliationRunsError: it is held, and `overlap` says to fail.
    """
    while not (mine := _taken(lake, stream)):
        if overlap == "fail":
            raise ReconciliationRunsError(stream.name)
        if overlap == "skip":
            yield False
            return
        wait(1.0)
    ended = threading.Event()

    def renew() -> None:
        held = mine
        while not ended.wait(LEASE / 3):
            with suppress(SluiceError):  # the store is away: the next try may renew it in time
                held = _renewed(lake, stream, held, _until())
        with suppress(SluiceError):
            _renewed(lake, stream, held, held + 1)

    beat = threading.Thread(target=renew, name=f"lease of {stream.name}", daemon=True)
    beat.start()
    try:
        yield True
    finally:
        ended.set()
        beat.join()


def _until() -> int:
    return 2 * int((datetime.now(UTC).timestamp() + LEASE) * 1000)


def _id(stream: Stream) -> str:
    return f"reconciling/{stream.name}"


def _taken(lake: Lake, stream: Stream) -> int | None:
    """Take the lease; None where it is held."""

    def step() -> int | None:
        handle = lake.ensure(VERDICTS_TABLE)
        held = transactions(handle).get(_id(stream), 1)
        if held % 2 == 0 and held // 2 > datetime.now(UTC).timestamp() * 1000:
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
