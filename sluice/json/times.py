"""Dates and times as ISO 8601 text (extended format) or epoch numbers, read exactly.

A date-time has a date, `T` or a blank, hours and minutes; seconds, fraction and offset may follow. It
refuses a date alone, `24:00`, leap seconds, years outside 1 to 9999, digits finer than the type or
than the microseconds that Delta keeps (unless zeros), months and years in durations, and local times
that a change of clocks skips or repeats. What does not fit gives None.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from sluice.json.numbers import exact

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MAX_INT64 = 2**63 - 1

_DATE = r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
_TIME = r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]+))?)?"
_DATETIME = re.compile(_DATE + "[T ]" + _TIME + r"(Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?", re.ASCII)
_CLOCK = re.compile(_TIME, re.ASCII)
_DAY = re.compile(_DATE, re.ASCII)
_DURATION = re.compile(
    r"([-+]?)P(?=[0-9T])(?:([0-9]{1,9})W)?(?:([0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,12})H)?(?:([0-9]{1,12})M)?(?:([0-9]{1,12})(?:\.([0-9]+))?S)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST = int((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds())
_LAST = int((datetime.max.replace(tzinfo=UTC, microsecond=0) - _EPOCH).total_seconds())
_zone = lru_cache(ZoneInfo)
_PROBED = (315_532_800, 2_145_916_800)  # 1980 to 2038
_STEP = 12 * 3600  # no zone changed its clock twice within a week since


def day(text: str) -> int | None:
    """Read `2026-01-31` as days since 1970."""
    return _days(text) if _DAY.fullmatch(text) else None


def clock(text: str) -> int | None:
    """Read `09:30`, `09:30:00.25` as nanoseconds since midnight, at most microseconds fine."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hour, minute, second, fraction = match.groups(default="")
    return _scaled(int(hour) * 3600 + int(minute) * 60 + int(second or 0), fraction, "ns")


def duration(text: str, unit: str) -> int | None:
    """Read `P1DT2H`, `-PT0.5S`, `P2W` in units."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    sign, weeks, days, hours, minutes, seconds, fraction = match.groups(default="")
    whole = int(weeks or 0) * 604800 + int(days or 0) * 86400
    whole += int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    value = _scaled(whole, fraction, unit)
    return -value if sign == "-" and value is not None else value


def moment(text: str, unit: str, zone: str) -> int | None:
    """Read a date-time with an offset, or a naive one in `zone`, as units since 1970 in UTC."""
    match = _DATETIME.fullmatch(text)
    if match is None:
        return None
    offset = match[6]
    seconds = _wall(match)
    if seconds is None:
        return None
    if offset is None:
        local = _shift(seconds, zone)
        if local is None:
            return None
        seconds = local
    elif offset != "Z":
        digits = offset[1:].replace(":", "").ljust(4, "0")
        shift = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        seconds += shift if offset[0] == "-" else -shift
    return _scaled(seconds, match[5] or "", unit) if _FIRST <= seconds <= _LAST else None


def naive(text: str, unit: str) -> int | None:
    """Read a date-time without an offset, as units since 1970 on its own clock."""
    match = _DATETIME.fullmatch(text)
    if match is None or match[6] is not None:
        return None
    seconds = _wall(match)
    return None if seconds is None else _scaled(seconds, match[5] or "", unit)


def epoch(text: str, given: str, unit: str) -> int | None:
    """Read a number of `given` units since 1970 as units of the type."""
    parts = exact(text)
    if parts is None:
        return None
    negative, digits, exponent = parts
    power = exponent + len(str(PER_SECOND[unit])) - len(str(PER_SECOND[given]))
    finest = 3 if unit == "ns" else 0
    if digits and (power < finest or len(digits) + power > len(str(MAX_INT64))):
        return None
    value = int(digits or "0") * 10 ** max(power, 0)
    value = -value if negative else value
    if not _FIRST <= value // PER_SECOND[unit] <= _LAST:
        return None
    return value if -MAX_INT64 <= value <= MAX_INT64 else None


def _wall(match: re.Match[str]) -> int | None:
    """Seconds since 1970 of the date and clock that are written, whatever their zone."""
    days = _days(match[1])
    if days is None:
        return None
    return days * 86400 + int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4] or 0)


def _days(text: str) -> int | None:
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH_DAY
    except ValueError:
        return None


def _shift(seconds: int, zone: str) -> int | None:
    """Turn local seconds into UTC; None where the clock skips or repeats them."""
    if zone == "UTC":
        return seconds
    local = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001  # the zone is put on next
    first, second = (local.replace(tzinfo=_zone(zone), fold=fold).utcoffset() for fold in (0, 1))
    if first is None or first != second:
        return None
    return seconds - round(first.total_seconds())


@lru_cache
def offsets(zone: str) -> tuple[tuple[int, int, int], ...]:
    """List the stretches of a zone's own clock in which its offset surely is one and the same.

    Each has its first second, the one after its last (both on that clock, since 1970), and the offset in
    seconds. What lies between, and what lies outside of `_PROBED`, must be asked for second by second.
    """
    if zone == "UTC":
        return ((_FIRST, _LAST + 1, 0),)
    found: list[tuple[int, int, int]] = []
    before = None
    for second in range(*_PROBED, _STEP):
        utc = _shift(second, zone)
        offset = None if utc is None else second - utc
        if offset is not None and offset == before:
            first = found.pop()[0] if found and found[-1][1:] == (second - _STEP, offset) else second - _STEP
            found.append((first, second, offset))
        before = offset
    return tuple(found)


def _scaled(seconds: int, fraction: str, unit: str) -> int | None:
    """Seconds and their fraction in units; None where digits are too fine, or the sum too large."""
    places = min(len(str(PER_SECOND[unit])) - 1, 6)  # Delta keeps microseconds
    if fraction[places:].strip("0"):
        return None
    part = int(fraction[:places] or "0") * 10 ** (places - len(fraction[:places]))
    value = seconds * PER_SECOND[unit] + part * PER_SECOND[unit] // 10**places
    return value if -MAX_INT64 <= value <= MAX_INT64 else None
