"""The envelope of Debezium: which records are changes of rows, and which row each of them tells.

Takes values with or without a schema block. What is no change of a row (heartbeats, transaction marks,
logical messages, schema changes, notifications) is ignored by name; what is neither is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.debezium_values import Fields, fields_of
from sluice.errors import NotAChangeError, NotJsonError
from sluice.json_values import shown
from sluice.strict_json import parse

OLD_KEY = "__debezium.oldkey"
_ROW_OPS = frozenset("crud")
_KEPT_SCHEMAS = 64  # versions of a schema block that are parsed once
_STAMPS = frozenset({"ts_ms", "ts_us", "ts_ns"})
_PAYLOAD = b',"payload":'


@dataclass(frozen=True)
class Change:
    """A change of one row, or a truncate.

    Attributes:
        op: c, r, u, d or t.
        image: the row's members: those after the change, of a delete those before; empty where not told.
        fields: the schema of the image's members.
        payload: the whole envelope, for its `source`.
    """

    op: str
    image: dict[str, Any]
    fields: Fields
    payload: dict[str, Any]

    @property
    def source(self) -> dict[str, Any]:
        """The block that tells where the change comes from; empty where there is none."""
        source = self.payload.get("source")
        return source if isinstance(source, dict) else {}


class Envelopes:
    """Reads values and keys; parses a schema block that comes again only once."""

    def __init__(self) -> None:
        self._schemas: dict[bytes, _Schema] = {}

    def change(self, value: bytes) -> Change | None:
        """Read one value; None: the record is no change of a row, or as empty as a tombstone.

        Raises:
            NotJsonError: the value is not JSON.
            NotAChangeError: it is, but no envelope.
        """
        schema, payload = self._open(value)
        if payload is None or (isinstance(payload, dict) and _is_aside(payload)):
            return None
        op = payload.get("op") if isinstance(payload, dict) else None
        if op == "t":
            return Change(op, {}, {}, payload)
        if op not in _ROW_OPS:
            raise NotAChangeError(f"found {shown(payload)}" + ("" if op is None else f", and op {shown(op)}"))
        side = "before" if op == "d" else "after"
        image = payload.get(side)
        if isinstance(image, str):  # MongoDB writes documents as text
            image = parse(image.encode(errors="surrogatepass"))
        if image is None and op == "d":
            image = {}
        if not isinstance(image, dict):
            raise NotAChangeError(f"found op {op} with {shown(image)} in `{side}`")
        return Change(op, image, schema.sides[side], payload)

    def key(self, key: bytes | None) -> tuple[dict[str, Any], Fields]:
        """Read a Kafka key, or the key in a header: its members, and their schema.

        Raises:
            NotJsonError: it is not JSON.
        """
        if key is None:
            return {}, {}
        schema, payload = self._open(key)
        return (payload, schema.fields) if isinstance(payload, dict) else ({}, {})

    def _open(self, value: bytes) -> tuple["_Schema", Any]:
        """Take the schema block off, if there is one."""
        head, found, tail = value.partition(_PAYLOAD)
        if found and head in self._schemas:
            body = parse(b'{"payload":' + tail)
            if body.keys() == {"payload"}:
                return self._schemas[head], body["payload"]
        body = parse(value)
        if not isinstance(body, dict) or "payload" not in body or "op" in body:
            return _NO_SCHEMA, body
        schema = _schema(body.get("schema"))
        if found and len(self._schemas) < _KEPT_SCHEMAS and _stands_alone(head):
            self._schemas[head] = schema
        return schema, body["payload"]


@dataclass(frozen=True)
class _Schema:
    """The fields of a block, and those of the rows in it."""

    fields: Fields
    sides: Mapping[str, Fields]


def _schema(block: Any) -> _Schema:
    fields = fields_of(block)
    return _Schema(fields, {side: fields_of(fields.get(side)) for side in ("before", "after")})


def _stands_alone(head: bytes) -> bool:
    """Tell whether what is before the payload is the schema and nothing else."""
    try:
        alone = parse(head + b"}")
    except NotJsonError:
        return False
    return isinstance(alone, dict) and alone.keys() == {"schema"}


def _is_aside(payload: Mapping[str, Any]) -> bool:
    """Tell what is no change of a row, by its members."""
    names = payload.keys()
    if "op" in names:
        return bool(payload["op"] == "m")  # a logical message
    return bool(names) and (
        names <= _STAMPS  # a heartbeat
        or {"status", "id"} <= names  # a transaction mark
        or "ddl" in names
        or "tableChanges" in names  # a schema change
        or {"aggregate_type", "type"} <= names  # a notification
    )


_NO_SCHEMA = _schema(None)
