"""The envelope of Debezium: which records are changes of rows, and which row each of them tells.

Takes values with or without a schema block, unwrapped rows and CloudEvents (`unwrapped` beside this file),
documents of MongoDB and what changed in them (`mongodb`). What is no change of a row (heartbeats, transaction
marks, logical messages, schema changes, notifications) is ignored by name; what is neither is refused.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sluice.contract import Debezium
from sluice.envelopes.debezium_values import Fields, fields_of
from sluice.envelopes.edits import Edit, edits_of, replacement
from sluice.envelopes.extended_json import document
from sluice.envelopes.mongodb import applied, envelope_of, is_event, key_members
from sluice.envelopes.unwrapped import is_cloud_event, is_unwrapped, of_cloud_event, operation, source_of
from sluice.errors import NotAChangeError, NotExtendedJsonError, NotJsonError
from sluice.json.strict import Number, parse
from sluice.json.values import shown

OLD_KEY = "__debezium.oldkey"
_ROW_OPS = frozenset("crud")
_KEPT_SCHEMAS = 64  # versions of a schema block that are parsed once
_WRAPPED = frozenset({"schema", "payload"})
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
        edits: what changed, where the image after it is not told (the image then only names the row).
        document: whether the image's members are values of Extended JSON.
    """

    op: str
    image: dict[str, Any]
    fields: Fields
    payload: dict[str, Any]
    edits: tuple[Edit, ...] | None = None
    document: bool = False

    @property
    def source(self) -> dict[str, Any]:
        """The block that tells where the change comes from; empty where there is none."""
        source = self.payload.get("source")
        return source if isinstance(source, dict) else {}


DELETE = Change("d", {}, {}, {})  # of the key that the Kafka key names


class Envelopes:
    """Reads values and keys; parses a schema block that comes again only once."""

    def __init__(self, options: Debezium) -> None:
        self._options = options
        self._of_documents = options.source == "mongodb"
        self._schemas: dict[bytes, EnvelopeSchema] = {}

    def change(self, value: bytes) -> Change | None:
        """Read one value; None: the record is no change of a row, or as empty as a tombstone.

        A converter may write a tombstone as JSON's null, which deletes where tombstones do.

        Raises:
            NotJsonError: the value is not JSON.
            NotAChangeError: it is, but no envelope.
        """
        schema, payload = self._open(value)
        if payload is None:
            return DELETE if self._options.unwrapped else None
        if not isinstance(payload, dict):
            raise NotAChangeError(f"found {shown(payload)}")
        if is_unwrapped(payload) or (self._options.unwrapped and not payload.keys() <= _STAMPS):
            return self._unwrapped(payload, schema)
        if "op" not in payload:
            if is_cloud_event(payload):
                payload, block = of_cloud_event(payload)
                schema = NO_SCHEMA if block is None else _schema(block)
            elif self._of_documents and is_event(payload):
                return self._event(payload)
        return None if _is_aside(payload) else self._row(payload, schema)

    def _row(self, payload: dict[str, Any], schema: "EnvelopeSchema") -> Change:
        """Read an envelope."""
        op = payload.get("op")
        if op == "t":
            return Change(op, {}, {}, payload)
        if not isinstance(op, str) or op not in _ROW_OPS:
            raise NotAChangeError(f"found {shown(payload)}" + ("" if op is None else f", and op {shown(op)}"))
        side = "before" if op == "d" else "after"
        image = _image(payload.get(side))
        if image is None and op == "d":
            image = {}
        if image is None and self._of_documents:
            change = self._edited(op, payload)
            if change is not None:
                return change
        if not isinstance(image, dict):
            raise NotAChangeError(f"found op {op} with {shown(image)} in `{side}`")
        return Change(op, image, schema.sides[side], payload, document=self._of_documents)

    def _edited(self, op: str, payload: dict[str, Any]) -> Change | None:
        """Read what changed in a document that is not told whole; None: nothing is told."""
        try:
            whole = replacement(payload)
            edits = None if whole is not None else edits_of(payload)
            if edits is not None and isinstance(before := _image(payload.get("before")), dict):
                whole = applied(before, edits)
        except NotExtendedJsonError as error:
            raise NotAChangeError(f"found a change of a document that is none: {error}") from error
        if whole is not None:
            return Change(op, whole, {}, payload, document=True)
        return None if edits is None else Change(op, {}, {}, payload, edits, document=True)

    def _event(self, event: dict[str, Any]) -> Change | None:
        """Read an event of a change stream itself, whose key stands in its value."""
        try:
            payload = envelope_of(event)
        except NotExtendedJsonError as error:
            raise NotAChangeError(str(error)) from error
        if payload is None:
            return None
        change = self._row(payload, NO_SCHEMA)
        key = payload["key"]
        return replace(change, image=key) if not change.image and isinstance(key, dict) else change

    def _unwrapped(self, row: dict[str, Any], schema: "EnvelopeSchema") -> Change:
        op = operation(row)
        if op not in _ROW_OPS:
            raise NotAChangeError(f"found an unwrapped row with op {shown(op)}")
        # Where deletes are tombstones nothing but the Kafka log orders them among the rows.
        source = source_of(row, "" if self._options.unwrapped else self._options.source)
        return Change(op, row, schema.fields, {"source": source})

    def key(self, key: bytes | None) -> tuple[dict[str, Any], Fields]:
        """Read a Kafka key, or the key in a header: its members, and their schema.

        Raises:
            NotJsonError: it is not JSON.
        """
        if key is None:
            return {}, {}
        schema, payload = self._open(key)
        if not isinstance(payload, dict):
            return {}, {}
        return (key_members(payload), {}) if self._of_documents else (payload, schema.fields)

    def _open(self, value: bytes) -> tuple["EnvelopeSchema", Any]:
        """Take the schema block off, if there is one."""
        head, found, tail = value.partition(_PAYLOAD)
        if found and head in self._schemas:
            with suppress(NotJsonError):  # told below, by its place in the whole
                body = parse(b'{"payload":' + tail)
                if body.keys() == {"payload"}:
                    return self._schemas[head], body["payload"]
        body = parse(value)
        if not isinstance(body, dict) or "payload" not in body or not self._is_wrapped(body):
            return NO_SCHEMA, body
        schema = _schema(body.get("schema"))
        if found and len(self._schemas) < _KEPT_SCHEMAS and _stands_alone(head):
            self._schemas[head] = schema
        return schema, body["payload"]

    def block(self, value: bytes) -> tuple[bytes, "EnvelopeSchema"] | None:
        """Give what stands before a value's payload and is the schema and nothing else, with its meaning."""
        head, found, _ = value.partition(_PAYLOAD)
        if not found:
            return None
        if head not in self._schemas:
            if not _stands_alone(head):
                return None
            schema = _schema(parse(head + b"}")["schema"])
            if len(self._schemas) >= _KEPT_SCHEMAS:
                return head + _PAYLOAD, schema
            self._schemas[head] = schema
        return head + _PAYLOAD, self._schemas[head]

    def _is_wrapped(self, body: dict[str, Any]) -> bool:
        """Tell whether the payload is all that is said, and no member of a row."""
        return body.keys() <= _WRAPPED or not ("op" in body or is_unwrapped(body) or self._options.unwrapped)


@dataclass(frozen=True)
class EnvelopeSchema:
    """The fields of a block, and those of the rows in it."""

    fields: Fields
    sides: Mapping[str, Fields]


def _schema(block: Any) -> EnvelopeSchema:
    fields = fields_of(block)
    return EnvelopeSchema(fields, {side: fields_of(fields.get(side)) for side in ("before", "after")})


def _image(value: Any) -> Any:
    """Give a row, or the document that MongoDB's connector writes as text."""
    is_text = isinstance(value, str) and not isinstance(value, Number)
    return document(value) if is_text else value


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


NO_SCHEMA = _schema(None)
