"""Valid texts, then spoiled a little: all ways of decoding say the same of what is nearly right."""

import json
import random
from typing import Any

import polars as pl
import pytest
from decoding import DTYPES, column, quoted, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.contract import Json

QUICK = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
OPTIONS = (Json(), Json(timezone="Europe/Berlin"), Json(epoch="s"), Json(epoch="us"), Json(epoch="ns"))
_NUMBERS = """0 -0 1 1.0 1e3 10e-1 -0.0 127 128 -129 255 65535 -2147483648 2147483648 4294967295 1e18
9223372036854775807 -9223372036854775808 9223372036854775808 18446744073709551615 18446744073709551616
1e400 1e-400 0e99 12.34 999.99 999.995 99999999999999999999999999999999999999 0.30000000000000004
9007199254740993 5e-324 1.7976931348623159e308 3.40282346638528859e38 65519.99 65520 1700000000.5
253402300799 253402300800 -62135596800 -62135596801 9223372036854775 9223372036.854775"""
_TIMES = """2026-01-01T10:00:00.125Z 2026-01-01T10:00+05:30 2026-01-01T10:00:00-0800 2026-01-01T10:00:00+01
2026-01-01T10:00:00 2024-02-29 1900-02-29 2000-02-29 0000-01-01 10000-01-01 0001-01-01T00:00:00Z
0001-01-01T00:00:00+00:01 9999-12-31T23:59:59.999999Z 9999-12-31T23:59:59-00:01 2026-01-01T23:59:60Z
2026-01-01T24:00:00Z 2026-01-01T00:00:00+24:00 2262-04-11T23:47:16.854775Z 2262-04-11T23:47:16.854776Z
1677-09-21T00:12:43.145225Z 2026-10-25T02:30:00 2026-03-29T02:30:00 1970-01-01T00:00:00.0000000Z 12:30
23:59:59.9999990 P1DT2H3.5S -P1W PT0.000001S P1WT1H1M1S P999999999W PT999999999999H PT P"""
NUMBERS, TIMES = _NUMBERS.split(), _TIMES.split()
TEXTS = [
    "",
    "a",
    "b",
    "YWJj",
    "YQ==",
    "YR==",
    "é",
    "twelve bytes",
    "thirteen byte",
    "\U0001f600 beyond",
    "\0",
]
STRAY = '0123456789+-.:TZePDWHMS \\"/,=aé'


def edited(text: str, chance: random.Random) -> str:
    """Put, take or change up to two characters."""
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice((chance.choice(STRAY), "")) + text[at + chance.randrange(2) :]
    return text


def leaf(chance: random.Random) -> str:
    text = edited(chance.choice(chance.choice((NUMBERS, TIMES, TEXTS))), chance)
    match chance.randrange(8):
        case 0:
            return chance.choice(["true", "false", "null", "{}", "[]", '"\\ud800"', '"\\udc00\\ud800"', text])
        case 1:
            return json.dumps(text)  # with unicode escapes, as pairs of surrogates beyond the first plane
        case 2:
            return quoted(chance.choice(NUMBERS))
        case 3 | 4 if text[:1].isdigit() or text[:1] == "-":
            return text
        case _:
            return quoted(text)


def value(dtype: Any, chance: random.Random) -> str:
    match dtype:
        case pl.List() | pl.Array():
            return f"[{', '.join(value(dtype.inner, chance) for _ in range(chance.choice((0, 1, 2, 2))))}]"
        case pl.Struct():
            some = [f for f in dtype.fields if chance.random() < 0.9]
            return "{" + ",".join(f'"{f.name}" :{value(f.dtype, chance)}' for f in some) + "}"
    return leaf(chance)


@pytest.mark.parametrize("dtype", [*DTYPES, pl.Float16(), pl.Duration("ns"), pl.Decimal(38, 38)], ids=str)
@QUICK
@given(seed=st.integers(0, 2**32), options=st.sampled_from(OPTIONS))
def test_values_that_are_nearly_of_the_type(dtype: pl.DataType, seed: int, options: Json) -> None:
    chance = random.Random(seed)  # noqa: S311  # a test's
    same([f'{{"c":{value(dtype, chance)}}}'.encode() for _ in range(60)], [column(dtype)], options)


COLUMNS = [
    *(column(dtype, f"c{n}") for n, dtype in enumerate(DTYPES)),
    column(pl.String(), "again", ("c0",)),
    column(pl.Int64(), "inner", ("deep", "x")),
    column(pl.Struct({"x": pl.String()}), "outer", ("deep",)),
]
BYTES = [
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"\\u0031",
        b"\\ud83d",
        b'"c0":',
        b'"deep":{',
    ),
    *(b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"0", b"-", b"1e400", b" ", b"\n", b"\0"),
]


def spoiled(text: bytes, chance: random.Random) -> bytes:
    """Flip a bit, cut, take, double, or put bytes, a few times."""
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(5):
            case 0 if at < len(text):
                text = text[:at] + bytes([text[at] ^ 1 << chance.randrange(8)]) + text[at + 1 :]
            case 1:
                text = text[:at]
            case 2:
                text = text[:at] + text[at + chance.randrange(8) :]
            case 3:
                text = text[: at + chance.randrange(40)] + text[at:]
            case _:
                text = text[:at] + chance.choice(BYTES) + text[at:]
    return text


@settings(QUICK, max_examples=30)
@given(seed=st.integers(0, 2**32), options=st.sampled_from(OPTIONS))
def test_objects_of_all_types_with_spoiled_bytes(seed: int, options: Json) -> None:
    chance = random.Random(seed)  # noqa: S311  # a test's
    wholes = [
        ", ".join(
            f'"c{n}": {value(dtype, chance)}' for n, dtype in enumerate(DTYPES) if chance.random() < share
        )
        for share in [chance.random() for _ in range(60)]
    ]
    texts = [
        f'{{"deep":{{"x":"{n}"}},{whole or chr(34) + "e" + chr(34) + ":1"}}}'
        for n, whole in enumerate(wholes)
    ]
    same([spoiled(text.encode(), chance) for text in texts], COLUMNS, options)
