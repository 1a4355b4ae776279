"""Numbers as text, read exactly: no float on the way, no digit lost, no time wasted on huge exponents.

The grammar is JSON's own, for numbers and for strings that stand for numbers (`+1`, `.5`, `01` and
` 1` are none). What does not fit gives None; `sluice.json.values` says why.
"""

import re
from decimal import Decimal

_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([-+]?[0-9]+))?", re.ASCII)
_COMMON = re.compile(r"-?(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,9}))?", re.ASCII)
_FAR = 10**6  # any exponent beyond this is as good as this
_SHORT = 18  # digits that always fit 64 bits

Exact = tuple[bool, str, int]
"""Whether negative, digits without zeros at either end (empty: zero), power of ten of the last one."""


def exact(text: str) -> Exact | None:
    """Take a number apart; None where the text is no JSON number."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, power = match.groups(default="")
    exponent = _exponent(power) - len(fraction)
    digits = (whole + fraction).lstrip("0")
    bare = digits.rstrip("0")
    return bool(sign), bare, exponent + len(digits) - len(bare) if bare else 0


def _exponent(text: str) -> int:
    digits = text.lstrip("+-").lstrip("0")
    if not digits:
        return 0
    size = int(digits) if len(digits) <= len(str(_FAR)) else _FAR
    return -size if text[0] == "-" else size


def integer(text: str, low: int, high: int) -> int | None:
    """Read an integral number within bounds, both included; `1.0` and `1e3` are integral."""
    if len(text) <= _SHORT and text.isascii() and text.isdigit() and (text[0] != "0" or text == "0"):
        value = int(text)
        return value if low <= value <= high else None
    parts = exact(text)
    if parts is None:
        return None
    negative, digits, exponent = parts
    if exponent < 0 or len(digits) + exponent > len(str(max(-low, high))):
        return None
    value = int(digits or "0") * 10**exponent
    value = -value if negative else value
    return value if low <= value <= high else None


def decimal(text: str, precision: int, scale: int) -> Decimal | None:
    """Read a number digit for digit; None where it has more digits than the type."""
    common = _COMMON.fullmatch(text)
    if common and len(common[1]) <= precision - scale and len(common[2] or "") <= scale:
        return Decimal(text)
    parts = exact(text)
    if parts is None:
        return None
    negative, digits, exponent = parts
    if -exponent > scale or len(digits) + exponent > precision - scale:
        return None
    return Decimal(f"{'-' if negative else ''}{digits}e{exponent}") if digits else Decimal(0)
