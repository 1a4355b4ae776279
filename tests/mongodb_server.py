"""A stand-in for a MongoDB server: the wire protocol that the real client speaks, over collections in memory.

It knows what reconciliation asks: `find` with ranges, order, limit and batches, `getMore`, snapshots at a
cluster time (every version of a document is kept), `listCollections`; and how servers fail. It proves nothing
of MongoDB.
"""

import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Self

import bson
from bson import Binary, Decimal128, Int64, ObjectId, Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion

_OPTIONS = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_TYPES = [type(None), (int, float, Decimal, Decimal128), str, dict, list, (Binary, bytes), ObjectId, bool]
Error = tuple[int, str]
NOT_FOUND: Error = (43, "CursorNotFound")
TOO_OLD: Error = (239, "SnapshotTooOld")
NO_REPLICAS: Error = (123, "NotAReplicaSet")
UNAUTHORIZED: Error = (13, "Unauthorized")


class MongoServer:
    """The server, as a context manager; `uri` is where it is."""

    def __init__(self) -> None:
        self.clock = Timestamp(1_700_000_000, 1)
        self.versions: dict[str, list[tuple[Timestamp, Any, dict | None]]] = {}
        self.cursors: dict[int, tuple[str, list[dict]]] = {}
        self.asked: list[dict] = []  # every find, as it came
        self.failing: dict[str, Error] = {}  # by command: what it answers
        self.drops = False  # ends the connection at the next getMore
        self.lock = threading.RLock()
        self._tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _handler(self))
        self._tcp.daemon_threads = True
        self.port = self._tcp.server_address[1]
        self.uri = f"mongodb://127.0.0.1:{self.port}/?serverSelectionTimeoutMS=30000"
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        """Answer from now on."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Answer no more."""
        self._tcp.shutdown()
        self._tcp.server_close()

    def create(self, collection: str) -> None:
        """Make a collection (`database.name`)."""
        self.versions.setdefault(collection, [])

    def write(self, collection: str, key: Any, document: dict | None) -> Timestamp:
        """Set a document, or delete it (None), at a cluster time of its own."""
        with self.lock:
            self.clock = Timestamp(self.clock.time + (self.clock.inc >= 3), self.clock.inc % 3 + 1)
            self.versions.setdefault(collection, []).append((self.clock, key, document))
            return self.clock

    def documents(self, collection: str, at: Timestamp) -> list[dict]:
        """Give a collection as it was."""
        found: dict[str, dict | None] = {}
        for time, key, document in self.versions.get(collection, []):
            if time <= at:
                found[repr(key)] = document
        return [document for document in found.values() if document is not None]

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a command."""
        name = next(iter(command))
        if name in self.failing:
            code, told = self.failing[name]
            words = f"{told}: {command!r}"  # as servers do: the command, with its keys
            return {"ok": 0.0, "errmsg": words, "code": code, "codeName": told}
        with self.lock:
            match name:
                case "hello" | "isMaster" | "ismaster":
                    return self._hello()
                case "find":
                    return self._find(command)
                case "getMore":
                    return self._more(command)
                case "listCollections":
                    prefix = command["$db"] + "."
                    names = [n.removeprefix(prefix) for n in self.versions if n.startswith(prefix)]
                    only = command.get("filter", {}).get("name")
                    found = [{"name": n, "type": "collection"} for n in names if only in (None, n)]
                    return _cursor(0, f"{command['$db']}.$cmd.listCollections", found, "firstBatch")
                case "ping" | "endSessions" | "killCursors":
                    return {"ok": 1.0}
        return {"ok": 0.0, "errmsg": f"no such command: {name}", "code": 59, "codeName": "CommandNotFound"}

    def _hello(self) -> dict[str, Any]:
        me = f"127.0.0.1:{self.port}"
        return {
            "ok": 1.0,
            "helloOk": True,
            "isWritablePrimary": True,
            "ismaster": True,
            "setName": "rs",
            "hosts": [me],
            "me": me,
            "primary": me,
            "setVersion": 1,
            "maxWireVersion": 25,
            "minWireVersion": 0,
            "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
        }

    def _find(self, command: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(dict(command))
        concern = command.get("readConcern", {})
        assert concern.get("level") == "snapshot"
        at = concern.get("atClusterTime", self.clock)
        name = f"{command['$db']}.{command['find']}"
        found = [d for d in self.documents(name, at) if _matches(d, command.get("filter", {}))]
        for path, order in reversed(command.get("sort", {}).items()):
            found.sort(key=lambda d: _ordered(_inside(d, path)), reverse=order < 0)
        found = found[: command.get("limit") or None]
        if members := command.get("projection"):
            tops = {member.partition(".")[0] for member in members} | {"_id"}
            found = [{n: v for n, v in d.items() if n in tops} for d in found]
        return self._batch(name, found, command.get("batchSize", 101), "firstBatch", at)

    def _batch(self, name: str, found: list[dict], size: int, batch: str, at=None) -> dict[str, Any]:
        rest, number = found[size:], 0
        if rest:
            number = len(self.cursors) + 1
            self.cursors[number] = (name, rest)
        return _cursor(number, name, found[:size], batch, at)

    def _more(self, command: Mapping[str, Any]) -> dict[str, Any]:
        if self.drops:
            raise ConnectionAbortedError
        name, rest = self.cursors.pop(command["getMore"])
        return self._batch(name, rest, command.get("batchSize") or 101, "nextBatch")


def _cursor(number, name, documents, batch, at=None) -> dict[str, Any]:
    cursor = {"id": Int64(number), "ns": name, batch: documents} | ({"atClusterTime": at} if at else {})
    return {"ok": 1.0, "cursor": cursor}


def _inside(document: Any, path: str) -> Any:
    for member in path.split("."):
        document = document.get(member) if isinstance(document, dict) else None
    return document


def _type(value: Any) -> int:
    number = next((n for n, types in enumerate(_TYPES) if isinstance(value, types)), len(_TYPES))
    return len(_TYPES) if isinstance(value, bool) else number


def _ordered(value: Any) -> tuple:
    """Order by type first, as the server does."""
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, Binary):
        return _type(value), (len(value), value.subtype, bytes(value))
    return _type(value), str(value).encode() if isinstance(value, str | ObjectId | dict) else value


def _same(value: Any, other: Any) -> bool:
    return _type(value) == _type(other) and _ordered(value) == _ordered(other)


def _matches(document: dict, condition: Mapping[str, Any]) -> bool:
    for path, signs in condition.items():
        value = _inside(document, path)
        for sign, bound in signs.items():
            if sign == "$in":
                if not any(_same(value, one) for one in bound):
                    return False
                continue
            if _type(value) != _type(bound):
                return False
            if not (
                _ordered(value) >= _ordered(bound) if sign == "$gte" else _ordered(value) < _ordered(bound)
            ):
                return False
    return True


def _handler(server: MongoServer) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError, struct.error):
                while True:
                    size, number, _, kind = struct.unpack("<iiii", self.rfile.read(16))
                    reply = server.answer(_command(kind, self.rfile.read(size - 16)))
                    self.wfile.write(_reply(kind, number, bson.encode(reply, codec_options=_OPTIONS)))

    return Handler


def _command(kind: int, body: bytes) -> dict[str, Any]:
    if kind == _OP_QUERY:  # the first hello
        return bson.decode(body[body.index(b"\0", 4) + 9 :], _OPTIONS)
    assert kind == _OP_MSG
    sections = dict(_sections(body[4:]))
    return sections.pop("") | sections


def _sections(body: bytes) -> Iterator[tuple[str, Any]]:
    at = 0
    while at < len(body):
        size = struct.unpack_from("<i", body, at + 1)[0]
        part = body[at + 1 : at + 1 + size]
        if body[at] == 0:
            yield "", bson.decode(part, _OPTIONS)
        else:
            name, _, documents = part[4:].partition(b"\0")
            yield name.decode(), bson.decode_all(documents, _OPTIONS)
        at += 1 + size


def _reply(kind: int, number: int, document: bytes) -> bytes:
    if kind == _OP_QUERY:
        body, kind = struct.pack("<iqii", 8, 0, 0, 1) + document, _OP_REPLY
    else:
        body = struct.pack("<IB", 0, 0) + document
    return struct.pack("<iiii", 16 + len(body), 1, number, kind) + body
