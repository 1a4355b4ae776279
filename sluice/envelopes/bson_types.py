"""The types of BSON in MongoDB's Extended JSON v2: which value a parsed JSON value stands for.

Canonical, relaxed and degenerate forms are read, and the legacy ones that Debezium's strict mode writes
(`{"$date": 0}`, `{"$binary": "", "$type": "00"}`, `{"$regex": "", "$options": ""}`, a bare `NaN`). A
wrapper that is not exactly what it must be is refused, never read as a document. Nothing is lost on the
way: symbols, pointers and undefined stay what they are, digits of numbers stay text.
"""

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import DecimalException
from typing import Any, Literal

from bson.decimal128 import Decimal128
from bson.errors import BSONError

from sluice.errors import NotExtendedJsonError
from sluice.json.strict import Number
from sluice.json.times import moment
from sluice.json.values import printable, shown

Kind = Literal[
    "int32", "int64", "double", "decimal128", "objectId", "binary", "date", "timestamp", "regex",
    "code", "symbol", "dbPointer", "minKey", "maxKey", "undefined",
]  # fmt: skip
_INT32, _INT64 = 2**31, 2**63
_UINT32 = range(2**32)
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_DOUBLE = re.compile(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?")
_HEX = re.compile(r"[0-9a-fA-F]{24}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SUBTYPE = re.compile(r"[0-9a-fA-F]{1,2}")
SPECIAL = {"NaN", "Infinity", "-Infinity"}


@dataclass(frozen=True, slots=True)
class Typed:
    """A BSON value that plain JSON does not have.

    `value` is of an int32, int64 or date (milliseconds) an int; of a double its text, of a decimal128 its
    canonical text; of an objectId 24 digits; of a binary (bytes, subtype); of a timestamp (seconds,
    ordinal); of a regex (pattern, options); of a code (text, scope or None); of a dbPointer (collection,
    24 digits); of a symbol its text; else None.
    """

    kind: Kind
    value: Any = None


def typed(value: Any) -> Any:
    """Give the BSON value of one parsed JSON value; members and elements are left as they were parsed.

    Args:
        value: as `sluice.json.strict.parse` gives it.

    Returns:
        None, a bool, a str, a list, a dict, or a `Typed`.

    Raises:
        NotExtendedJsonError: it is none.
    """
    if isinstance(value, Number):
        return _number(value)
    if not isinstance(value, dict):
        return value
    found = [name for name in value if name in _WRAPPERS]
    if not found:
        if value.keys() == {"$regex", "$options"} and all(_is_text(part) for part in value.values()):
            return _regex({"pattern": value["$regex"], "options": value["$options"]})
        for name in value:
            if "\x00" in name:
                raise NotExtendedJsonError(f"a member's name with a null byte: {printable(name)!r}")
        return value
    name = found[0]
    read, beside = _WRAPPERS[name]
    if not value.keys() <= {name, *beside}:
        others = ", ".join(sorted(printable(other) for other in value if other != name))
        raise NotExtendedJsonError(f"{name} with other members beside it: {others}")
    result = read(value if beside else value[name])
    if result is None:
        raise NotExtendedJsonError(f"{name} with {shown(value[name])}")
    return result


def is_reserved(name: str) -> bool:
    """Tell whether no member can have a name: a wrapper has it, or a null byte is in it."""
    return name in _WRAPPERS or "\x00" in name


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def _number(text: str) -> Typed:
    """Read a bare number: what is written as a whole number and fits is one, the rest are doubles."""
    if _WHOLE.fullmatch(text):
        number = int(text)
        if -_INT32 <= number < _INT32:
            return Typed("int32", number)
        if -_INT64 <= number < _INT64:
            return Typed("int64", number)
    return Typed("double", str(text))


def _whole(value: Any, limit: int) -> int | None:
    """Read a text that is a whole number from -limit to limit - 1."""
    if not _is_text(value) or not _WHOLE.fullmatch(value):
        return None
    return number if -limit <= (number := int(value)) < limit else None


def _int32(value: Any) -> Typed | None:
    return None if (number := _whole(value, _INT32)) is None else Typed("int32", number)


def _int64(value: Any) -> Typed | None:
    return None if (number := _whole(value, _INT64)) is None else Typed("int64", number)


def _double(value: Any) -> Typed | None:
    if not _is_text(value) or not (value in SPECIAL or _DOUBLE.fullmatch(value)):
        return None
    try:
        return Typed("double", value if value in SPECIAL or _plain(value) else repr(float(value)))
    except ValueError:  # such as "." or "e5"
        return None


def _plain(text: str) -> bool:
    """Tell whether a number is written as JSON writes it, so that its digits can stay."""
    try:
        json.loads(text, parse_float=str, parse_int=str)
    except ValueError:
        return False
    return True


def _decimal(value: Any) -> Typed | None:
    try:
        return Typed("decimal128", str(Decimal128(value))) if _is_text(value) else None
    except (DecimalException, BSONError, ValueError):
        return None


def _object_id(value: Any) -> Typed | None:
    return Typed("objectId", value.lower()) if _is_text(value) and _HEX.fullmatch(value) else None


def _binary(value: Mapping[str, Any]) -> Typed | None:
    data, subtype = value["$binary"], value.get("$type")
    if isinstance(data, dict) and data.keys() == {"base64", "subType"} and subtype is None:
        data, subtype = data["base64"], data["subType"]
    if not (_is_text(data) and _is_text(subtype) and _SUBTYPE.fullmatch(str(subtype))):
        return None
    try:
        return Typed("binary", (base64.b64decode(data, validate=True), int(str(subtype), 16)))
    except (binascii.Error, ValueError):
        return None


def _uuid(value: Any) -> Typed | None:
    if not (_is_text(value) and _UUID.fullmatch(value)):
        return None
    return Typed("binary", (uuid.UUID(value).bytes, 4))


def _date(value: Any) -> Typed | None:
    if isinstance(value, Number):  # as Debezium writes it; the specification no longer has it
        number = _number(value)
        return Typed("date", number.value) if number.kind != "double" else None
    if isinstance(value, str):
        at = moment(value, "ms", "UTC")
        return None if at is None else Typed("date", at)
    if not (isinstance(value, dict) and value.keys() == {"$numberLong"}):
        return None
    found = _int64(value["$numberLong"])
    return None if found is None else Typed("date", found.value)


def _timestamp(value: Any) -> Typed | None:
    if not (isinstance(value, dict) and value.keys() == {"t", "i"}):
        return None
    parts = (value["t"], value["i"])
    if not all(isinstance(part, Number) and _WHOLE.fullmatch(part) for part in parts):
        return None
    seconds, ordinal = (int(part) for part in parts)
    return Typed("timestamp", (seconds, ordinal)) if seconds in _UINT32 and ordinal in _UINT32 else None


def _regex(value: Any) -> Typed | None:
    if not (isinstance(value, dict) and value.keys() == {"pattern", "options"}):
        return None
    pattern, options = value["pattern"], value["options"]
    if not (_is_text(pattern) and _is_text(options)) or "\x00" in pattern + options:
        return None
    return Typed("regex", (pattern, "".join(sorted(options))))


def _code(value: Mapping[str, Any]) -> Typed | None:
    scope = value.get("$scope")
    if not _is_text(value.get("$code")) or ("$scope" in value and type(typed(scope)) is not dict):
        return None
    return Typed("code", (value["$code"], scope))


def _symbol(value: Any) -> Typed | None:
    return Typed("symbol", value) if _is_text(value) else None


def _pointer(value: Any) -> Typed | None:
    if not (isinstance(value, dict) and value.keys() == {"$ref", "$id"} and _is_text(value["$ref"])):
        return None
    of = typed(value["$id"])
    is_id = isinstance(of, Typed) and of.kind == "objectId"
    return Typed("dbPointer", (value["$ref"], of.value)) if is_id else None


def _one(kind: Kind) -> Callable[[Any], Typed | None]:
    return lambda value: Typed(kind) if isinstance(value, Number) and value == "1" else None


def _undefined(value: Any) -> Typed | None:
    return Typed("undefined") if value is True else None


_WRAPPERS: Mapping[str, tuple[Callable[[Any], Typed | None], tuple[str, ...]]] = {  # and what stands beside
    "$numberInt": (_int32, ()),
    "$numberLong": (_int64, ()),
    "$numberDouble": (_double, ()),
    "$numberDecimal": (_decimal, ()),
    "$oid": (_object_id, ()),
    "$binary": (_binary, ("$type",)),
    "$uuid": (_uuid, ()),
    "$date": (_date, ()),
    "$timestamp": (_timestamp, ()),
    "$regularExpression": (_regex, ()),
    "$code": (_code, ("$scope",)),
    "$symbol": (_symbol, ()),
    "$dbPointer": (_pointer, ()),
    "$minKey": (_one("minKey"), ()),
    "$maxKey": (_one("maxKey"), ()),
    "$undefined": (_undefined, ()),
}
