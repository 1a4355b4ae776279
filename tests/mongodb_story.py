"""A collection of documents that lives at random, told as MongoDB's connector would tell it.

`Story` holds the documents as `bson` would (the model), applies update operators to them, and renders each
change in a capture mode and in a form of Extended JSON, with cluster times, transactions and keys.
"""

import copy
import json
import random
import uuid
from datetime import UTC, datetime, timedelta

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util

MODES = ("full", "description", "pre_image", "patch", "event")
_JSON = json_util.JSONMode
FORMS = {
    "strict": json_util.JSONOptions(json_mode=_JSON.LEGACY, strict_number_long=True),  # as Debezium writes
    "relaxed": json_util.JSONOptions(json_mode=_JSON.RELAXED),
    "canonical": json_util.JSONOptions(json_mode=_JSON.CANONICAL),
}
_START = 1_700_000_000


class Story:
    """The documents, and what was told of them so far.

    `records` are (key, value) in the order of the log; `states` (key, cluster second, document or None).
    """

    def __init__(self, seed: int, mode: str, form: str) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.mode = mode  # an event has no text in it that could hold a bare NaN
        self.form = "canonical" if (mode, form) == ("event", "strict") else form
        self.documents: dict[int, dict] = {}
        self.records: list[tuple[bytes, bytes]] = []
        self.states: list[tuple[int, int, dict | None]] = []
        self._second, self._ordinal, self._transaction = _START, 0, None

    def step(self) -> None:
        """Let one thing happen."""
        self._tick()
        key = self.random.randrange(4)
        known = self.documents.get(key)
        if known is None:
            self._insert(key)
        elif self.random.random() < 0.1:
            self._tell("d", key, known, None, None)
        elif self.random.random() < 0.1:
            self._tell("u", key, known, self._document(key), None)
        else:
            self._update(key, known)

    def _tick(self) -> None:
        if self._transaction is None:
            if self.random.random() < 0.6:
                self._second, self._ordinal = self._second + 1, 0
            self._ordinal += 1
            if self.random.random() < 0.2:
                self._transaction = {"number": self.random.randrange(99), "order": 0, "left": 3}
        else:
            self._transaction["left"] -= 1
            if not self._transaction["left"]:
                self._transaction = None
                self._ordinal += 1
        if self._transaction is not None:
            self._transaction["order"] += 1

    def _insert(self, key: int) -> None:
        self._tell("c", key, None, self._document(key), None)

    def _document(self, key: int) -> dict:
        document = {"_id": Int64(key), "name": self._text(), "n": self.random.randrange(9)}
        document |= {"tags": self._tags(), "address": self._address(), "blob": self._value(2)}
        document |= {f"extra{n}": self._value(2) for n in range(self.random.randrange(3))}
        return document

    def _text(self) -> str:
        return self.random.choice(["", "ä", "x" * 20, '"quoted"', "$", "__debezium"])

    def _tags(self) -> list:
        return [self._text() for _ in range(self.random.randrange(5))]

    def _address(self) -> dict:
        return {
            "city": self._text(),
            "points": [self.random.random() for _ in range(self.random.randrange(3))],
        }

    def _value(self, depth: int):
        if depth and self.random.random() < 0.4:
            return {f"m{n}": self._value(depth - 1) for n in range(self.random.randrange(3))}
        if depth and self.random.random() < 0.3:
            return [self._value(depth - 1) for _ in range(self.random.randrange(4))]
        makers = (
            lambda: None, lambda: True, lambda: -0.0, lambda: float("inf"), lambda: 2**40,
            lambda: Int64(-(2**40)), lambda: Decimal128("1E+3"), lambda: Decimal128("-0.00"),
            lambda: ObjectId(self.random.randbytes(12)), lambda: Binary(b"\x00\xff", 128),
            lambda: Binary.from_uuid(uuid.UUID(bytes=self.random.randbytes(16))),
            lambda: datetime(1900, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.random.randrange(10**13)),
            lambda: Timestamp(5, 6), lambda: Regex("^a", "i"), lambda: Code("f()", {"x": 1}), MinKey, MaxKey,
            lambda: DBRef("c", 1), self._text,
        )  # fmt: skip
        return self.random.choice(makers)()

    def _update(self, key: int, known: dict) -> None:
        new, updated, removed, cut = copy.deepcopy(known), {}, [], []
        for name in self.random.sample(list({**new, "fresh": 0})[1:], self.random.randrange(1, 3)):
            self._edit(new, name, updated, removed, cut)
        self._tell("u", key, known, new, (updated, removed, cut))

    def _edit(self, new: dict, name: str, updated: dict, removed: list, cut: list) -> None:  # noqa: C901, PLR0912
        """Do one operator on one member, and note what the server would."""
        old, chance = new.get(name), self.random.random()
        if name == "fresh" and name not in new:
            new[name] = updated[name] = self._value(2)
        elif chance < 0.15 and name != "n":
            del new[name]
            removed.append(name)
        elif name == "tags" and old and chance < 0.6:
            if chance < 0.4:  # $push, or $set of one
                place = self.random.randrange(len(old) + 2) if chance < 0.3 else len(old)
                old.extend([None] * (place + 1 - len(old)))
                old[place] = updated[f"tags.{place}"] = self._text()
            elif self.mode != "patch":  # $pop; the old connector told the whole array
                del old[self.random.randrange(len(old)) :]
                cut.append({"field": name, "size": len(old)})
            else:
                new[name] = updated[name] = old[:-1]
        elif name == "address" and old and chance < 0.6:
            if chance < 0.4 or not old.get("points"):
                old["city"] = updated["address.city"] = self._text()
            elif chance < 0.5:
                old["points"][0] = updated["address.points.0"] = self.random.random()
            else:
                del old["points"]
                removed.append("address.points")
        elif isinstance(old, dict) and old and chance < 0.7:
            member = self.random.choice([*old, "new"])
            if chance < 0.4 or member == "new":
                old[member] = updated[f"{name}.{member}"] = self._value(1)
            else:
                del old[member]
                removed.append(f"{name}.{member}")
        else:
            kinds = {"name": self._text, "n": lambda: self.random.randrange(9), "tags": self._tags}
            new[name] = updated[name] = kinds.get(name, {"address": self._address}.get(name, self._any))()

    def _any(self):
        return self._value(2)

    def _tell(self, op: str, key: int, before: dict | None, after: dict | None, edits: tuple | None) -> None:
        if after is None:
            del self.documents[key]
        else:
            self.documents[key] = after
        self.states.append((key, self._second, copy.deepcopy(after)))
        told = {"id": json_util.dumps(Int64(key), json_options=FORMS[self.form])}
        write = self._event if self.mode == "event" else self._envelope
        self.records.append(
            (json.dumps(told).encode(), json.dumps(write(op, key, before, after, edits)).encode())
        )

    def _dumps(self, value) -> str | None:
        return None if value is None else json_util.dumps(value, json_options=FORMS[self.form])

    def _envelope(self, op: str, key: int, before, after, edits) -> dict:
        source = {
            "connector": "mongodb",
            "ts_ms": self._second * 1000,
            "ord": self._ordinal,
            "snapshot": "false",
        }
        source |= {"db": "d", "collection": "c", "lsid": None, "txnNumber": None}
        event = {"op": op, "source": source, "before": None, "after": None, "transaction": None}
        if self._transaction is not None:
            source["txnNumber"] = self._transaction["number"]
            event["transaction"] = {"id": "t", "total_order": self._transaction["order"]}
        if self.mode == "pre_image":
            event["before"] = self._dumps(before)
        if op == "c" or edits is None or self.mode == "full":
            event["after"] = self._dumps(after)
        if edits is not None:
            updated, removed, cut = edits
            if self.mode == "patch":
                patch = {"$v": 1} | ({"$set": updated} if updated else {})
                patch |= {"$unset": dict.fromkeys(removed, True)} if removed else {}
                event |= {"patch": self._dumps(patch), "filter": self._dumps({"_id": Int64(key)})}
            else:
                event["updateDescription"] = {
                    "updatedFields": self._dumps(updated),
                    "removedFields": removed or None,
                    "truncatedArrays": cut or None,
                }
        return event

    def _event(self, op: str, key: int, _before, after, edits) -> dict:
        """Render an event of the change stream itself."""
        kind = {"c": "insert", "d": "delete"}.get(op, "replace" if edits is None else "update")
        order = 0 if self._transaction is None else self._transaction["order"]
        index = "29" if not order else f"2b{order * 2:02x}"
        token = f"82{self._second:08x}{self._ordinal:08x}2b022c0100{index}6e5a1004"
        event = {"_id": {"_data": token}, "operationType": kind, "ns": {"db": "d", "coll": "c"}}
        event |= {"clusterTime": Timestamp(self._second, self._ordinal), "documentKey": {"_id": Int64(key)}}
        if kind in ("insert", "replace"):
            event["fullDocument"] = after
        if edits is not None:
            updated, removed, cut = edits
            cuts = [{"field": item["field"], "newSize": item["size"]} for item in cut]
            event["updateDescription"] = {"updatedFields": updated, "removedFields": removed}
            event["updateDescription"]["truncatedArrays"] = cuts
        return json.loads(self._dumps(event))
