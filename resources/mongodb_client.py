"""Talking to MongoDB: a client for an address, what its failures mean, and how keys are asked for.

What fails is told without the address, and without the server's words, which may have keys in them. Ranges of
keys are only asked for where the server orders them as the lake does: byte by byte, within one type.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import polars as pl
from bson import Binary, Decimal128, ObjectId, Timestamp
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from sluice.errors import SourceError, SourceUnreachableError
from sluice.sources import Mongo

BYTEWISE = {"locale": "simple"}  # the collation
_WAIT_MS = 10_000  # for a server, where the address does not say
_AWAY = frozenset({43, 50, 91, 175, 189, 237, 262, 11600, 11602})  # a cursor or server that ended or was late
_GONE = frozenset({239, 246})  # SnapshotTooOld, SnapshotUnavailable
_NO_SNAPSHOTS = frozenset({20, 72, 115, 123})  # a server alone, or older than 5.0


def as_of(time: Timestamp) -> dict[str, Any]:
    """Write the read concern of a cluster time."""
    return {"level": "snapshot", "atClusterTime": time}


@contextmanager
def connected(source: Mongo, address: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """Give a client while the block runs.

    Raises:
        SourceError: the address is none.
    """
    try:
        told = "serverselectiontimeoutms" in address.lower()
        waits: dict[str, Any] = {} if told else {"serverSelectionTimeoutMS": _WAIT_MS}
        client: MongoClient[dict[str, Any]] = MongoClient(address, appname="sluice", **waits)
    except (PyMongoError, ValueError, TypeError) as error:  # what they say may have the address in it
        raise SourceError(str(source), type(error).__name__, "correct SOURCE_CONNECTIONS") from None
    with client:
        yield client


@contextmanager
def talking(source: Mongo) -> Iterator[None]:
    """Turn the driver's failures into ours."""
    try:
        yield
    except ConnectionFailure as error:
        raise SourceUnreachableError(str(source), type(error).__name__) from None
    except OperationFailure as error:
        detail = f"{(error.details or {}).get('codeName') or type(error).__name__} ({error.code})"
        if error.code in _AWAY:
            raise SourceUnreachableError(str(source), detail) from None
        raise SourceError(str(source), detail, _fix(error.code)) from None
    except (PyMongoError, BSONError) as error:
        raise SourceError(str(source), type(error).__name__, "correct `source` or its address") from None


def _fix(code: int | None) -> str:
    if code in _GONE:
        return (
            "its snapshots end too soon: raise `minSnapshotHistoryWindowInSeconds` of the server, or ask for "
            "more at once (RECONCILE_PARALLEL, RECONCILE_ROWS_PER_SECOND), and go on with `resume: true`"
        )
    if code in _NO_SNAPSHOTS:
        return "snapshots need a replica set of MongoDB 5.0 or newer"
    return "correct `source` or its address, or grant what is missing"


def bound_of(least: Any, greatest: Any, dtype: pl.DataType) -> Callable[[str], Any] | None:
    """Say how bounds are written as keys, if all keys are of one type that the column orders alike.

    The server orders by type first, so what lies between two keys of one type is of that type.
    """
    kinds = {_kind(least), _kind(greatest)}
    read: Callable[[str], Any] | None = None
    if kinds == {"number"} and (dtype.is_integer() or dtype.is_decimal()):
        read = Decimal128
    elif isinstance(dtype, pl.String) and len(kinds) == 1:
        read = _TEXTS.get(kinds.pop())
    return None if read is None else partial(_value, read)


_TEXTS: Mapping[str, Callable[[str], Any]] = {
    "text": str,
    "objectId": ObjectId,
    "uuid": lambda text: Binary.from_uuid(UUID(text)),
}


def _value(read: Callable[[str], Any], text: str) -> Any:
    """Read a bound; None where it is none, as a key that is only in the lake may be."""
    try:
        return read(text)
    except (BSONError, ArithmeticError, ValueError):
        return None


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "other"
        case int() | float() | Decimal128():
            return "number"
        case str():
            return "text"
        case ObjectId():
            return "objectId"
        case Binary(subtype=4) if len(value) == 16:  # noqa: PLR2004  # bytes of a UUID
            return "uuid"
    return "other"
