"""Ranges of keys of a source: what any database can be asked, side by side, and no faster than allowed.

Decides how ranges are put into queries, how many of these run at once, and how many rows are asked for in a
second. How a range is counted, summed up and read is each database's own matter.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol

import polars as pl

from sluice.sources import Mongo, Postgres

SUMS: dict[str, pl.DataType] = {"range": pl.Int64(), "count": pl.Int64(), "sum": pl.String()}


class Ranged(Protocol):
    """A table as of one position, asked by ranges of its first key column.

    Range n has the keys from `bounds[n - 1]` on and before `bounds[n]`; bounds are texts in the lake's order.
    """

    @property
    def source(self) -> Postgres | Mongo:
        """What is read."""

    def sums(self, bounds: Sequence[str], wanted: Sequence[int], at_once: int) -> Iterator[pl.DataFrame]:
        """Count and sum up some ranges (columns of SUMS), `at_once` of them in a query."""

    def part(self, bounds: Sequence[str], start: int, stop: int) -> pl.DataFrame:
        """Count and sum up the ranges `[start, stop)` (columns of SUMS), in one query."""

    def rows(self, bounds: Sequence[str], number: int, most: int | None) -> pl.DataFrame:
        """Read the canonical texts of a range's rows, of more than `most` one more than these."""

    def cuts(self, bounds: Sequence[str], number: int, parts: int) -> list[str]:
        """Give keys that cut a range into parts of about the same size."""


class Pace:
    """So many rows a second (None: no bound), over all who ask."""

    def __init__(self, rows_per_second: int | None) -> None:
        self._rows_per_second = rows_per_second
        self._asked, self._began = 0, time.monotonic()
        self._lock = threading.Lock()

    def wait(self, rows: int) -> None:
        """Wait until so many rows may have been asked for."""
        if not self._rows_per_second:
            return
        with self._lock:
            self._asked += rows
            pause = self._began + self._asked / self._rows_per_second - time.monotonic()
        if pause > 0:
            time.sleep(pause)


def in_parts(
    part: Callable[[int, int], pl.DataFrame], wanted: Sequence[int], size: int, parallel: int
) -> Iterator[pl.DataFrame]:
    """Ask for some ranges, neighbours of up to `size` ranges together, and give answers as they come."""
    parts: list[tuple[int, int]] = []
    for number in wanted:
        start, stop = parts[-1] if parts else (0, -1)
        if stop == number and stop - start < size:
            parts[-1] = (start, number + 1)
        else:
            parts.append((number, number + 1))
    with ThreadPoolExecutor(parallel) as pool:
        asked = [pool.submit(part, *ends) for ends in parts]
        try:
            for answer in as_completed(asked):
                yield answer.result()
        finally:  # who stops asks for no more
            pool.shutdown(wait=True, cancel_futures=True)
