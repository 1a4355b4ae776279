"""Logs made up for tests of tiles, and the plainest way to split them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from sluice.tiles import HOUR_MS


@dataclass
class MadeLog:
    """A log held in memory; counts what it is asked for."""

    offsets: list[int]
    stamps_ms: list[int]
    low: int = 0
    high: int = -1
    in_order: bool = False
    look_ups: int = 0
    read: int = 0
    frame: pl.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        """Index the stamps."""
        self.high = self.high if self.high >= 0 else (self.offsets[-1] + 1 if self.offsets else 0)
        self.frame = pl.DataFrame(
            {"offset": self.offsets, "stamp": self.stamps_ms},
            schema={"offset": pl.Int64, "stamp": pl.Int64},
        )
        highest = self.frame["stamp"].cum_max()
        self._first = highest  # the first offset at or above a stamp is where the running maximum passes it

    def offsets_for_times(self, times_ms: Sequence[int]) -> list[int | None]:
        self.look_ups += len(times_ms)
        places = [self._first.search_sorted(max(ms, 0)) for ms in times_ms]
        return [None if place == self.frame.height else self.frame["offset"][place] for place in places]

    def stamps(self, first: int, stop: int) -> pl.DataFrame:
        low, high = (self.frame["offset"].search_sorted(edge) for edge in (first, stop))
        self.read += high - low
        return self.frame[low:high]


def brute_force(log: MadeLog, first: int, ends_ms: list[int], now_ms: int) -> list[int]:
    """Try every split for every end."""
    result = []
    records = [(o, s) for o, s in zip(log.offsets, log.stamps_ms, strict=True) if o >= first and s >= 0]
    for end in ends_ms:
        counted = (
            records if end + HOUR_MS <= now_ms else [(o, s) for o, s in records if s <= now_ms + HOUR_MS]
        )
        best = wrong = sum(1 for _, s in counted if s < end)  # all go to the tiles after it
        split = None
        for offset, stamp in counted:
            if split is None:
                split = offset
            wrong += 1 if stamp >= end else -1
            if wrong < best:
                best, split = wrong, offset + 1  # the first record after this one
        after = [o for o, _ in counted if split is not None and o >= split]
        result.append(after[0] if after else log.high)
    return result
