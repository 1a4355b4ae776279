"""Tiles by the clock: which time window a tile's name means, and which tile a moment is in.

Names are Dagster's partition keys (`2026-01-03-05:00`, `2026-01-03`). Windows are half-open, zoned,
and follow the calendar of their time zone (a day in spring may have 23 hours). No I/O here; what
offsets a tile owns is decided in `sluice.tiles`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import ClassVar
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)
_STARTS = ("%Y-%m-%d", "%Y-%m-%d-%H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M")


@dataclass(frozen=True)
class Window:
    """One tile: its name and the half-open time window `[start, end)`, zoned, in UTC."""

    tile: str
    start: datetime
    end: datetime


def parse_start(text: str) -> datetime:
    """Read a start as contracts give it; naive.

    Raises:
        ValueError: the text has none of the forms allowed.
    """
    for form in _STARTS:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007  # the partitions add the zone
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no start such as '2026-01-01' or '2026-01-01-05:00'")


@dataclass(frozen=True)
class Hourly:
    """Hourly tiles in UTC, from `start` on."""

    start: str
    format: ClassVar[str] = "%Y-%m-%d-%H:%M"
    timezone: ClassVar[str] = "UTC"

    @cached_property
    def first(self) -> datetime:
        """The beginning of the first tile."""
        return parse_start(self.start).replace(minute=0, second=0, microsecond=0, tzinfo=UTC)

    def window(self, tile: str) -> Window:
        """Give the window of a tile; raises ValueError where the name is none."""
        begin = datetime.strptime(tile, self.format).replace(tzinfo=UTC)
        if begin.minute:
            raise ValueError(f"{tile!r} is no hour")
        return Window(tile, begin, begin + HOUR)

    def tile_at(self, moment: datetime) -> str:
        """Name the tile whose window holds a zoned moment."""
        return moment.astimezone(UTC).replace(minute=0).strftime(self.format)

    def next(self, window: Window) -> Window:
        """Give the tile after this one."""
        return Window(self.tile_at(window.end), window.end, window.end + HOUR)

    def windows(self, until: datetime) -> Iterator[Window]:
        """Give all tiles in order, the last being the one that holds `until`."""
        yield from _windows(self, until)


@dataclass(frozen=True)
class Daily:
    """Daily tiles in a time zone, from `start` on."""

    start: str
    timezone: str = "UTC"
    format: ClassVar[str] = "%Y-%m-%d"

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone whose midnights bound the tiles."""
        return ZoneInfo(self.timezone)

    @cached_property
    def first(self) -> datetime:
        """The beginning of the first tile, in UTC."""
        return self._midnight(parse_start(self.start).date())

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time.min, tzinfo=self.zone).astimezone(UTC)

    def window(self, tile: str) -> Window:
        """Give the window of a tile; raises ValueError where the name is none."""
        day = date.fromisoformat(tile)
        return Window(tile, self._midnight(day), self._midnight(day + timedelta(days=1)))

    def tile_at(self, moment: datetime) -> str:
        """Name the tile whose window holds a zoned moment."""
        return moment.astimezone(self.zone).strftime(self.format)

    def next(self, window: Window) -> Window:
        """Give the tile after this one."""
        day = date.fromisoformat(window.tile) + timedelta(days=1)
        return self.window(day.isoformat())

    def windows(self, until: datetime) -> Iterator[Window]:
        """Give all tiles in order, the last being the one that holds `until`."""
        yield from _windows(self, until)


Partitions = Hourly | Daily


def _windows(partitions: Partitions, until: datetime) -> Iterator[Window]:
    window = partitions.window(partitions.tile_at(partitions.first))
    while window.start <= until:
        yield window
        window = partitions.next(window)
