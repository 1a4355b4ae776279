"""What one BSON value means in a column; the table of types is in `docs/mongodb.md`.

A value is first told in the terms of plain JSON where its column can hold it whole (numbers as their digits,
ids as text, dates as times), then read as strictly as any JSON (`sluice.json.values`). What would lose
something is refused; a column of type `Document` takes everything.
"""

import base64
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from sluice.contract import Json
from sluice.envelopes.bson_types import Kind, Typed, typed
from sluice.envelopes.debezium_encodings import stamp
from sluice.envelopes.debezium_values import list_reader
from sluice.envelopes.extended_json import canonical
from sluice.errors import NotExtendedJsonError
from sluice.json.strict import Number
from sluice.json.values import Misfit, Reader, reader, shortened, shown

_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_MS, _SECOND = 10**6, 10**9  # in nanoseconds
_UUID = 4  # the subtype of a binary
_TEXT = (pl.String, pl.Enum, pl.Categorical)


def document_reader(value: Any, path: str, misfits: list[Misfit]) -> str | None:
    """Read any value as canonical Extended JSON."""
    if value is None:
        return None
    try:
        return canonical(value)
    except NotExtendedJsonError as error:
        misfits.append((path, str(error)))
        return None


def value_reader(dtype: pl.DataType) -> Reader:
    """Give the reader of a type's values, as they were parsed.

    Raises:
        ColumnTypeError: no JSON value can become this type.
    """
    if isinstance(dtype, pl.List | pl.Array):
        size = dtype.size if isinstance(dtype, pl.Array) else None
        return list_reader(value_reader(dtype.inner), size)  # type: ignore[arg-type]  # an instance
    if isinstance(dtype, pl.Struct):
        return _struct({f.name: value_reader(f.dtype) for f in dtype.fields})  # type: ignore[arg-type]
    plain, is_float = reader(dtype, Json()), dtype.is_float()

    def read(value: Any, path: str, misfits: list[Misfit]) -> Any:
        found = _told(value, path, misfits)
        if isinstance(found, Typed):
            if is_float and found.value in _SPECIAL:
                return _SPECIAL[found.value]
            told = _IN_JSON[found.kind](found.value, dtype)
            if told is None and found.kind != "undefined":
                misfits.append((path, f"found {_shown(found)}, which {dtype} cannot hold"))
            found = told
        return plain(found, path, misfits)

    return read


def _told(value: Any, path: str, misfits: list[Misfit]) -> Any:
    if isinstance(value, str) and not isinstance(value, Number):  # most values are texts
        return value
    try:
        return typed(value)
    except NotExtendedJsonError as error:
        misfits.append((path, str(error)))
        return None


def _shown(found: Typed) -> str:
    told = "" if found.value is None else f": {shortened(repr(found.value))}"
    return f"a value of type {found.kind}{told}"


def _struct(fields: Mapping[str, Reader]) -> Reader:
    def read(value: Any, path: str, misfits: list[Misfit]) -> Any:
        found = _told(value, path, misfits)
        if isinstance(found, Typed):
            found = _MEMBERS[found.kind](found.value) if found.kind in _MEMBERS else found.value
        if found is None:
            return None
        if not isinstance(found, dict):
            misfits.append((path, f"found {shown(value)}; an object is expected"))
            return None
        return {name: field(found.get(name), f"{path}.{name}", misfits) for name, field in fields.items()}

    return read


_MEMBERS: Mapping[Kind, Callable[[Any], dict[str, Any]]] = {  # of types that a Struct can hold
    "timestamp": lambda v: {"t": Number(v[0]), "i": Number(v[1])},
    "regex": lambda v: {"pattern": v[0], "options": v[1]},
    "code": lambda v: {"code": v[0], "scope": v[1]},
    "binary": lambda v: {"data": base64.b64encode(v[0]).decode(), "subtype": Number(v[1])},
    "dbPointer": lambda v: {"ref": v[0], "id": v[1]},
}


def _number(value: Any, dtype: pl.DataType) -> Any:
    return Number(value) if dtype.is_numeric() else None


def _decimal(value: str, dtype: pl.DataType) -> Any:
    return value if isinstance(dtype, pl.String) else _number(value, dtype)


def _object_id(value: str, dtype: pl.DataType) -> Any:
    if isinstance(dtype, pl.Binary):
        return base64.b64encode(bytes.fromhex(value)).decode()
    return value if isinstance(dtype, _TEXT) else None


def _binary(value: tuple[bytes, int], dtype: pl.DataType) -> Any:
    data, subtype = value
    if isinstance(dtype, pl.Binary):
        return base64.b64encode(data).decode()
    is_uuid = subtype == _UUID and len(data) == 16  # noqa: PLR2004  # bytes of a UUID
    return str(uuid.UUID(bytes=data)) if is_uuid and isinstance(dtype, pl.String) else None


def _date(value: int, dtype: pl.DataType) -> Any:
    if dtype.is_integer():
        return Number(value)
    return _at(stamp(Number(value), _MS), dtype)


def _timestamp(value: tuple[int, int], dtype: pl.DataType) -> Any:
    seconds, ordinal = value
    if dtype.is_integer():  # as the server compares it
        return Number(seconds << 32 | ordinal)
    return None if ordinal else _at(stamp(Number(seconds), _SECOND), dtype)


def _at(text: str | None, dtype: pl.DataType) -> str | None:
    """Write a moment for a zoned column, or its date where it is midnight."""
    if text is None:
        return None
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return f"{text}Z"
    return text[:10] if isinstance(dtype, pl.Date) and text[10:] == "T00:00:00" else None


def _text(value: Any, dtype: pl.DataType) -> Any:
    return value if isinstance(dtype, _TEXT) else None


def _code(value: tuple[str, Any], dtype: pl.DataType) -> Any:
    return _text(value[0], dtype) if value[1] is None else None


def _nothing(_value: Any, _dtype: pl.DataType) -> None:
    return None


_IN_JSON: Mapping[Kind, Callable[[Any, pl.DataType], Any]] = {
    "int32": _number,
    "int64": _number,
    "double": _number,
    "decimal128": _decimal,
    "objectId": _object_id,
    "binary": _binary,
    "date": _date,
    "timestamp": _timestamp,
    "regex": _nothing,
    "code": _code,
    "symbol": _text,
    "dbPointer": _nothing,
    "minKey": _nothing,
    "maxKey": _nothing,
    "undefined": _nothing,
}
