"""MongoDB's part of an envelope: keys, documents, transactions, and change stream events as they are.

The connector writes documents and the key as texts of Extended JSON. An event of a change stream itself
(`operationType`, `fullDocument`, `documentKey`, …) is read as the envelope that it would have become.
"""

import re
from collections.abc import Mapping
from typing import Any

from sluice.envelopes.bson_types import Typed, typed
from sluice.envelopes.edits import Edit, edited
from sluice.envelopes.extended_json import document
from sluice.errors import NotJsonError
from sluice.json.strict import Number

ID = "_id"
_OPS = {"insert": "c", "update": "u", "replace": "u", "delete": "d", "drop": "t"}
_ORDINAL = "txn_index"
_WHOLE = re.compile(r"[0-9]{1,20}")
_TOKEN = re.compile(
    r"82[0-9a-f]{16}2b[0-9a-f]{2}(?:29|2c0100)(29|2b[0-9a-f]{2}|2c[0-9a-f]{4}|2d[0-9a-f]{6})", re.IGNORECASE
)


def key_members(key: Mapping[str, Any]) -> dict[str, Any]:
    """Give the members that a Kafka key tells: `id` is the text of `_id`."""
    if ID in key or "id" not in key:
        return dict(key)
    told = key["id"]
    if not isinstance(told, str) or isinstance(told, Number):
        return {ID: told}
    try:
        return {ID: document(told)}
    except NotJsonError:  # as other converters write it
        return {ID: told}


def applied(base: Any, edits: tuple[Edit, ...]) -> dict[str, Any]:
    """Give a document as it is after edits."""
    for edit in edits:
        base = edited(base, edit.path.split("."), edit.action, edit.value)
    return base if isinstance(base, dict) else {}


def ordinal(payload: Mapping[str, Any], place: int) -> int:
    """Tell the order of a change among those of its transaction, which share their cluster time.

    The number in the `transaction` block, else that of the resume token; where neither is told, the Kafka
    offset, which is right as a key's changes lie in one Kafka partition.
    """
    source, block = payload.get("source"), payload.get("transaction")
    told = [
        (block if isinstance(block, dict) else {}).get("total_order"),
        (source if isinstance(source, dict) else {}).get(_ORDINAL),
    ]
    for number in told:
        if _WHOLE.fullmatch(str(number)):
            return int(str(number))
    in_transaction = isinstance(source, dict) and source.get("txnNumber") is not None
    return place if in_transaction else 0


def is_event(payload: Mapping[str, Any]) -> bool:
    """Tell whether a value is an event of a change stream itself."""
    return "operationType" in payload and "op" not in payload


def envelope_of(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the envelope of an event of a change stream; None where it tells of no document.

    Raises:
        NotExtendedJsonError: a value in it is none.
    """
    op = _OPS.get(str(event["operationType"]))
    if op is None:
        return None
    of, stamp = event.get("ns"), typed(event.get("clusterTime"))
    source: dict[str, Any] = {"connector": "mongodb"}
    if isinstance(of, dict):
        source |= {"db": of.get("db"), "collection": of.get("coll")}
    if isinstance(stamp, Typed) and stamp.kind == "timestamp":
        seconds, count = stamp.value
        source |= {"ts_ms": Number(seconds * 1000), "ord": Number(count), _ORDINAL: _token_ordinal(event)}
    return {
        "op": op,
        "before": event.get("fullDocumentBeforeChange"),
        "after": event.get("fullDocument"),
        "updateDescription": event.get("updateDescription"),
        "key": event.get("documentKey"),
        "source": source,
    }


def _token_ordinal(event: Mapping[str, Any]) -> int:
    """Read the transaction's ordinal from a resume token, behind its cluster time, version and type."""
    token = event.get("_id")
    text = str(token.get("_data")) if isinstance(token, dict) else ""
    found = _TOKEN.match(text)
    return int(found[1][2:] or "0", 16) >> 1 if found else 0
