"""Changes in other clothes than Debezium's own envelope: rows that its transformation unwrapped, CloudEvents.

An unwrapped row tells by members of its own what the envelope would have told (`__deleted`, `__op`,
`__lsn`, `__source_ts_ms`, …: the transformation's `delete.tombstone.handling.mode=rewrite` and `add.fields`).
Where deletes are not rewritten they are tombstones, and rows do not say what they are: those are read only
where the contract says `Debezium(unwrapped=True)`.
"""

from collections.abc import Mapping
from typing import Any

MARK = "__"  # the transformation's `add.fields.prefix`
_OP, _DELETED = "__op", "__deleted"
_CLOUD = "iodebezium"
_CLOCKS = ("ts_ms", "ts_us", "ts_ns")


def is_unwrapped(payload: Mapping[str, Any]) -> bool:
    """Tell whether a row says itself that it was unwrapped, and deletes with it."""
    return _DELETED in payload


def operation(row: Mapping[str, Any]) -> str:
    """Give the operation that an unwrapped row tells; a row that tells none is an update."""
    if str(row.get(_DELETED)).lower() == "true":
        return "d"
    op = row.get(_OP)
    return op if isinstance(op, str) and op else "u"


def source_of(row: Mapping[str, Any], connector: str) -> dict[str, Any]:
    """Gather what an unwrapped row tells of its source: `__source_lsn` as well as `__lsn`.

    MySQL's `row` counts within an event: where `add.fields` does not name it, each is the first.
    """
    told = {name.removeprefix(MARK): value for name, value in row.items() if name.startswith(MARK)}
    named = {
        name.removeprefix("source_"): value for name, value in told.items() if name.startswith("source_")
    }
    beside = {name: value for name, value in told.items() if name not in _CLOCKS}  # the connector's own clock
    return {"connector": connector, "row": 0, **beside, **named}


def is_cloud_event(payload: Mapping[str, Any]) -> bool:
    """Tell whether a value is an event of Debezium in CloudEvents' form."""
    return "specversion" in payload and f"{_CLOUD}op" in payload


def of_cloud_event(event: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Give the envelope that a CloudEvent carries, and the schema of its data."""
    data = event.get("data")
    schema = None
    if isinstance(data, dict) and data.keys() == {"schema", "payload"}:
        schema, data = data["schema"], data["payload"]
    source = {
        _NAMES.get(name, name): value
        for name, value in ((n.removeprefix(_CLOUD), v) for n, v in event.items() if n.startswith(_CLOUD))
    }
    members = data if isinstance(data, dict) else {}
    return {**members, "op": source.pop("op"), "source": source}, schema


_NAMES = {"tsms": "ts_ms", "tsus": "ts_us", "tsns": "ts_ns", "txid": "txId", "serverid": "server_id"}
