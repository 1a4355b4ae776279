"""Extended JSON as text: how a document is read, and the canonical form in which it is kept.

Reads what `bson_types` beside it knows, from text or from BSON itself (by pymongo's `bson`). From BSON, by
`bson`'s own leniency, symbols come as text, pointers as references, undefined as null.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from sluice.envelopes.bson_types import SPECIAL, Kind, Typed, typed
from sluice.errors import NotExtendedJsonError
from sluice.json.strict import is_unicode, parse

DEEPEST = 200  # levels of a document; the server keeps 100
OPTIONS: CodecOptions[Any] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
_CANONICAL = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS
)


def document(text: str) -> Any:
    """Parse a document, or any other value, as Debezium writes it into a text.

    Raises:
        NotJsonError: the text is no JSON.
    """
    return parse(text.encode(errors="surrogatepass"), constants=True)


def from_bson(data: bytes) -> Any:
    """Read a document from BSON, as `document` would read its canonical text.

    Raises:
        NotExtendedJsonError: the bytes are no BSON document.
    """
    try:
        return document(text_of(bson.decode(data, OPTIONS)))
    except (BSONError, ValueError, OverflowError) as error:
        raise NotExtendedJsonError(f"bytes that are no BSON ({error})") from error


def text_of(decoded: Mapping[str, Any]) -> str:
    """Write a document that `bson` decoded by `OPTIONS` as canonical Extended JSON."""
    return json_util.dumps(decoded, json_options=_CANONICAL)


def canonical(value: Any, depth: int = 0) -> str:
    """Write a parsed JSON value, of a member so deep, as canonical Extended JSON, members in their order.

    Raises:
        NotExtendedJsonError: it is none, or nested deeper than `DEEPEST`.
    """
    text = json.dumps(_canonical(value, depth), ensure_ascii=False, separators=(",", ":"))
    if not is_unicode(text):
        raise NotExtendedJsonError("a text with a lone surrogate")
    return text


def _canonical(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise NotExtendedJsonError(f"a document nested deeper than {DEEPEST} levels")
    found = typed(value)
    if isinstance(found, dict):
        return {name: _canonical(member, depth + 1) for name, member in found.items()}
    if isinstance(found, list):
        return [_canonical(item, depth + 1) for item in found]
    if not isinstance(found, Typed):
        return found
    if found.kind == "code" and found.value[1] is not None:
        return {"$code": found.value[0], "$scope": _canonical(found.value[1], depth + 1)}
    return _WRITTEN[found.kind](found.value)


def double_text(text: str) -> str:
    """Write a double as short as it can be and still come back."""
    return text if text in SPECIAL else repr(float(text)).replace("e", "E").replace("inf", "Infinity")


_WRITTEN: Mapping[Kind, Callable[[Any], Any]] = {
    "int32": lambda v: {"$numberInt": str(v)},
    "int64": lambda v: {"$numberLong": str(v)},
    "double": lambda v: {"$numberDouble": double_text(v)},
    "decimal128": lambda v: {"$numberDecimal": v},
    "objectId": lambda v: {"$oid": v},
    "binary": lambda v: {"$binary": {"base64": base64.b64encode(v[0]).decode(), "subType": f"{v[1]:02x}"}},
    "date": lambda v: {"$date": {"$numberLong": str(v)}},
    "timestamp": lambda v: {"$timestamp": {"t": v[0], "i": v[1]}},
    "regex": lambda v: {"$regularExpression": {"pattern": v[0], "options": v[1]}},
    "code": lambda v: {"$code": v[0]},
    "symbol": lambda v: {"$symbol": v},
    "dbPointer": lambda v: {"$dbPointer": {"$ref": v[0], "$id": {"$oid": v[1]}}},
    "minKey": lambda _: {"$minKey": 1},
    "maxKey": lambda _: {"$maxKey": 1},
    "undefined": lambda _: {"$undefined": True},
}
