"""Strict JSON: what one value says, with numbers kept as the text that they were.

Decides what is JSON at all: RFC 8259 in UTF-8 without a byte order mark, at most `MAX_DEPTH` levels
deep; of two members of one name the last counts. It refuses `NaN` and `Infinity`, and never turns a
number into a float. What a number or a text means is decided by `sluice.json.values`.
"""

import json
import re
from typing import Any, NoReturn

from sluice.errors import NotJsonError

MAX_DEPTH = 512

# Possessive, and with an optional closing quote, so that no input makes it slow.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


class Number(str):
    """A JSON number, as its text."""

    __slots__ = ()


def parse(value: bytes, *, constants: bool = False) -> Any:
    """Read one JSON value: dict, list, str, `Number`, bool or None.

    With `constants` also a bare `NaN`, `Infinity` or `-Infinity`, as a `Number`.

    Strings may hold lone surrogates, since JSON can spell them (`is_unicode` tells).

    Raises:
        NotJsonError: the bytes are not one JSON value; the message says what is wrong, and where.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise NotJsonError(f"invalid UTF-8: byte 0x{value[error.start]:02x} at {error.start}") from error
    if not text:
        raise NotJsonError("the value is empty")
    if text[0] == "\ufeff":
        raise NotJsonError("the value begins with a byte order mark")
    if text.count("[") + text.count("{") > MAX_DEPTH and _deeper(text):
        raise NotJsonError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return (_constants if constants else _decoder).decode(text)
    except json.JSONDecodeError as error:
        raise NotJsonError(f"invalid JSON: {error.msg} at character {error.pos}") from error


def is_unicode(text: str) -> bool:
    """Whether a text is valid Unicode, that is, holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _deeper(text: str) -> bool:
    """Whether brackets outside strings nest beyond the limit, counted without recursion."""
    depth = 0
    for bracket in _BRACKETS.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _refuse(constant: str) -> NoReturn:
    raise NotJsonError(f"invalid JSON: {constant} is no JSON number")


_decoder = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_refuse)
_constants = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Number)
