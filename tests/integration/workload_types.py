"""The columns of the workload's tables: their types in a contract, how values are made, what they become.

A value is made as PostgreSQL takes it; what it must become in the lake is computed from how PostgreSQL itself
writes the stored one (`told`, its text; arrays and points from `typed`, its JSON), never from what was made.
"""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

_MOODS = ("sad", "ok", "happy, or so", '"quoted"')
_TEXTS = ("", "a", "NULL", "naïve ☃ 𝄞", 'say "x"\\', "tab\tline\nend", "0", "true", "{}", "[1]", "1234")
_TEXTS += ("__debezium_unavailable_value!", "x__debezium_unavailable_value", "__debezium_unavailable")
_SPAN = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?[\d.]+)S)?)?"
)
_MONTH = 365.25 / 12  # days, as Debezium counts


@dataclass(frozen=True)
class Column:
    """A column: its type in the contract, how a value is made, and what the stored one must become."""

    dtype: str
    make: Callable[[Random], Any]
    must: Callable[[Any], Any] = str
    typed: bool = False  # `must` takes JSON's value, not the text
    alike: Callable[[Any], Any] = lambda value: value  # brings what the lake has to the form of `must`
    metadata: str = "None"  # of the field


def some(*values: Any) -> Callable[[Random], Any]:
    """Choose one of some values."""
    return lambda rng: rng.choice(values)


def text(rng: Random) -> str:
    """Make a short text, most often an awkward one."""
    return rng.choice(_TEXTS) + (str(rng.randrange(99)) if rng.random() < 0.5 else "")


def long_text(rng: Random) -> str:
    """Make a text that PostgreSQL stores apart (TOAST), or one that it does not."""
    return rng.choice(_TEXTS) * 2 + rng.choice("abc") * rng.choice((3, 2500, 6000))


def digits(whole: int, places: int) -> Callable[[Random], Any]:
    """Make numbers of up to so many digits, the extremes among them."""

    def make(rng: Random) -> str:
        most = 10 ** (whole + places) - 1
        number = rng.choice((0, 1, -1, most, -most, rng.randrange(-most, most), rng.randrange(-999, 999)))
        return str(Decimal(number).scaleb(-places)) if places else str(number)

    return make


def moment(rng: Random) -> datetime:
    """Make a time of day on some day, before 1970 and far in the future among them."""
    year = rng.choice((1, 1583, 1899, 1969, 1970, 2024, 2026, 9999))
    return datetime(year, rng.randrange(1, 13), rng.randrange(1, 29), *_clock(rng))  # noqa: DTZ001


def _clock(rng: Random) -> tuple[int, int, int, int]:
    micro = rng.choice((0, 1, 999_999, 500_000, rng.randrange(10**6)))
    return rng.choice((0, 23, rng.randrange(24))), rng.randrange(60), rng.choice((0, 59)), micro


def span(rng: Random) -> str:
    """Make an interval whose parts may have either sign."""
    parts = [rng.randrange(-9, 30) for _ in range(5)]
    return "{} months {} days {} hours {} minutes {}.{:06d} seconds".format(*parts, rng.randrange(10**6))


def seconds(told: str) -> timedelta:
    """Read an ISO interval as the connector counts it: a year of 365.25 days."""
    found = _SPAN.fullmatch(told)
    assert found, told
    years, months, days, hours, minutes = (int(part or 0) for part in found.groups()[:5])
    whole = ((((years * 12 + months) * _MONTH + days) * 24 + hours) * 60 + minutes) * 60  # as floats
    return timedelta(microseconds=int((whole + float(found[6] or 0)) * 1e6))


def json_value(rng: Random) -> str:
    """Make JSON text with odd blanks, numbers and names."""
    return rng.choice(('{"b": 1,  "a":[1.50, null]}', "[]", '"x"', "1e2", "null", '{"__debezium": "☃"}'))


def unbounded(rng: Random) -> str:
    """Make a number of any scale, or none."""
    return rng.choice(("NaN", "0.10", "1e-20", "-1E30", digits(30, 9)(rng)))


def plain(told: str) -> str:
    """Write a number without zeros at its end."""
    return told if told == "NaN" else f"{Decimal(told).normalize():f}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _loaded(told: str) -> str:
    return _canonical(json.loads(told))


def _naive(told: str) -> datetime:
    return datetime.fromisoformat(told)


def _zoned(told: str) -> datetime:
    return datetime.fromisoformat(told).astimezone(UTC)


def _clock_in_utc(told: str) -> time:
    at = time.fromisoformat(told)
    moved = datetime.combine(date(2000, 1, 5), at).astimezone(UTC)
    return moved.time()


def _bits(told: str) -> bytes:
    return int(told, 2).to_bytes((len(told) + 7) // 8, "little").rstrip(b"\0")


def _single(told: str) -> float:
    number: float = struct.unpack("f", struct.pack("f", float(told)))[0]
    return number


def _of_clock(microseconds: int) -> time:
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)).time()


def _of_span(microseconds: int) -> timedelta:
    return timedelta(microseconds=microseconds)


def _raw(told: str) -> bytes:
    return bytes.fromhex(told.removeprefix("\\x"))


def _point(told: Any) -> dict[str, float]:
    x, y = told.strip("()").split(",")
    return {"x": float(x), "y": float(y)}


def _listed(of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: [None if value is None else of(value) for value in values]


def _boolean(told: str) -> bool:
    return told in ("t", "1")


def array(make: Callable[[Random], Any]) -> Callable[[Random], Any]:
    """Make a short list, nulls among its elements."""
    return lambda rng: [None if rng.random() < 0.2 else make(rng) for _ in range(rng.randrange(4))]


_day = some(date(1, 1, 1), date(1969, 12, 31), date(2024, 2, 29), date(9999, 12, 31))
_addresses = ("10.0.0.1", "10.1.0.0/16", "::1", "fe80::1/64")
TEXT = Column("str", text)
WHOLE = Column("int", lambda rng: rng.randrange(-(2**31), 2**31), int)
THINGS = {
    "small": Column("pl.Int16", lambda rng: rng.choice((-(2**15), 2**15 - 1, rng.randrange(99))), int),
    "whole": Column("pl.Int32", WHOLE.make, int),
    "big": Column("int", lambda rng: rng.choice((-(2**63), 2**63 - 1, 2**53 + 1, rng.randrange(99))), int),
    "exact": Column("pl.Decimal(20, 6)", digits(14, 6), Decimal),
    "huge": Column("pl.Decimal(38, 0)", digits(38, 0), Decimal),
    "free": Column("str", unbounded, plain, alike=plain),
    "cash": Column("pl.Decimal(19, 2)", digits(8, 2), lambda told: Decimal(re.sub("[$,]", "", told))),
    "single": Column("pl.Float32", some(0.1, -0.0, 1e38, "NaN", "Infinity", 3.4028235e38), _single),
    "dbl": Column("float", some(0.1, 1 / 3, 5e-324, "-Infinity", "NaN", 1.7976931348623157e308), float),
    "flag": Column("bool", some(True, False), _boolean),
    "letters": Column("str", some("a", "", "abcdef", "ä b"), lambda told: told.ljust(6)),
    "word": Column("str", text),
    "txt": Column("str", text),
    "ci": Column("str", text),
    "born": Column("pl.Date", _day, date.fromisoformat),
    "clock": Column(
        "pl.Time",
        lambda rng: time(*_clock(rng)),
        time.fromisoformat,
        alike=_of_clock,
        metadata='{"precision": 6}',
    ),
    "short_clock": Column(
        "pl.Time",
        lambda rng: time(*_clock(rng)[:3], 1000 * rng.randrange(1000)),
        time.fromisoformat,
        alike=_of_clock,
        metadata='{"precision": 3}',
    ),
    "zoned_clock": Column(
        "pl.Time",
        lambda rng: f"{time(*_clock(rng))}{rng.choice(('+00', '-07', '+05:45'))}",
        _clock_in_utc,
        alike=_of_clock,
    ),
    "naive": Column('pl.Datetime("us")', moment, _naive),
    "milli": Column('pl.Datetime("ms")', moment, _naive),
    "zoned": Column('pl.Datetime("us", "UTC")', lambda rng: moment(rng).replace(tzinfo=UTC), _zoned),
    "span": Column('pl.Duration("us")', span, seconds, alike=_of_span),
    "raw": Column("pl.Binary", lambda rng: rng.randbytes(rng.randrange(6)), _raw),
    "bit1": Column("bool", some("0", "1"), _boolean),
    "bits12": Column("pl.Binary", lambda rng: f"{rng.randrange(4096):012b}", _bits),
    "bits_any": Column("pl.Binary", lambda rng: f"{rng.randrange(1, 2**20):b}", _bits),
    "uid": Column("str", lambda rng: f"{rng.getrandbits(128):032x}"),
    "js": Column("str", json_value),
    "jb": Column("str", json_value),
    "doc": Column("str", some("<a/>", "<a b='1'>t &amp; u</a>", "<a>☃</a>")),
    "feeling": Column("str", some(*_MOODS)),
    "addr": Column("str", some(*_addresses)),
    "net": Column("str", some("10.0.0.0/8", "::/0")),
    "mac": Column("str", some("08:00:2b:01:02:03")),
    "attrs": Column(
        "str", some("", "a=>1", 'a=>NULL, "b c"=>"d\\"e"'), _canonical, typed=True, alike=_loaded
    ),
    "tree": Column("str", some("a", "a.b_1.c")),
    "ints": Column("pl.List(pl.Int64)", array(WHOLE.make), _listed(int), typed=True),
    "texts": Column("pl.List(pl.String)", array(text), _listed(str), typed=True),
    "nums": Column("pl.List(pl.Decimal(8, 2))", array(digits(6, 2)), _listed(Decimal), typed=True),
    "stamps": Column(
        'pl.List(pl.Datetime("us", "UTC"))',
        array(lambda rng: moment(rng).replace(tzinfo=UTC)),
        _listed(_zoned),
        typed=True,
    ),
    "days": Column("pl.List(pl.Date)", array(_day), _listed(date.fromisoformat), typed=True),
    # Without nulls: Debezium tells an array of an enum that has some as null.
    "moods": Column(
        "pl.List(pl.String)", lambda rng: rng.sample(_MOODS, rng.randrange(4)), _listed(str), typed=True
    ),
    "ranged": Column("str", some("[1,5)", "empty", "(,3)")),
    "spot": Column('pl.Struct({"x": pl.Float64, "y": pl.Float64})', some("(1.5,-2)", "(0,1e300)"), _point),
    "search": Column("str", some("'a':1 'b c'", "")),
}
PAGES = {
    "title": TEXT,
    "body": Column("str", long_text),
    "extra": Column("str", lambda rng: json.dumps({"n": rng.randrange(9), "t": "é" * rng.choice((2, 3000))})),
    "raw": Column("pl.Binary", lambda rng: rng.randbytes(rng.choice((0, 3, 3000))), _raw),
    "tags": Column(
        "pl.List(pl.String)", lambda rng: [text(rng), "t" * rng.choice((1, 3000))], _listed(str), typed=True
    ),
    "rev": WHOLE,
}
LINES = {
    "sku": Column("str", some("S1", "S-2", "S 3"), lambda told: told.ljust(8)),
    "qty": WHOLE,
    "price": Column("pl.Decimal(9, 4)", digits(5, 4), Decimal),
    "note": Column("str", long_text),
}
STAY = {  # a key of types that are told otherwise than they are written
    "room": Column("int", lambda rng: rng.randrange(4), int),
    "day": Column("pl.Date", some(date(1969, 12, 31), date(2026, 2, 28)), date.fromisoformat),
    "rate": Column("pl.Decimal(6, 2)", some("1.50", "-20.00"), Decimal),
    "paid": Column("bool", some(True, False), _boolean),
    "at": Column('pl.Datetime("us", "UTC")', some(datetime(2026, 1, 1, 12, 0, 0, 1, UTC)), _zoned),
}
STAYS = {"note": Column("str", long_text), "guests": WHOLE}
PEOPLE = {
    "name": Column("str", lambda rng: text(rng)[:12]),
    "code": Column("int", lambda rng: str(rng.randrange(10**6)), int),
    "qty": Column("int", WHOLE.make, int),
    "weight": Column("pl.Decimal(12, 2)", digits(5, 2), Decimal),
    "due": Column("pl.Date", _day, date.fromisoformat),
    "due_on": Column("pl.Date", _day, date.fromisoformat),
    "tier": Column("str", some("gold", "tin")),
}
