"""A connector small enough to read: PostgreSQL's own test decoding as Debezium's records, without Connect.

It knows tables of numbers and texts. Changes come in commit order with the database's own places, transaction
numbers and commit times, logical messages in a topic of their own.
"""

import base64
import json
import re
import threading
import time
from datetime import datetime

from demo.postgres import Postgres
from tests.fake_kafka import FakeKafka

_VALUE = re.compile(r"(\w+)\[([^\]]+)\]:('(?:[^']|'')*'|[^ ]+)")
_CHANGE = re.compile(r"table (\w+)\.(\w+): (INSERT|UPDATE|DELETE): (.*)", re.DOTALL)
_MESSAGE = re.compile(r"message: transactional: 0 prefix: (\w+), sz: \d+ content:(.*)", re.DOTALL)
_COMMIT = re.compile(r"COMMIT \d+ \(at (.*)\)")
_OPS = {"INSERT": "c", "UPDATE": "u", "DELETE": "d"}


class SmallConnector:
    """Follows a slot into topics `live.<schema>.<table>` of two partitions, and `live.message`."""

    def __init__(self, server: Postgres, kafka: FakeKafka) -> None:
        self._server, self._kafka = server, kafka
        self._commit = 0  # the place of the last commit
        self.loses = False  # changes of keys from 1000 on, as a faulty connector would
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        with server.connect(autocommit=True) as session:
            session.execute("SELECT pg_create_logical_replication_slot('small', 'test_decoding')")

    def __enter__(self):
        """Begin to follow."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and drop the slot."""
        self._over.set()
        self._thread.join()
        with self._server.connect(autocommit=True) as session:
            session.execute("SELECT pg_drop_replication_slot('small')")

    def _follow(self) -> None:
        with self._server.connect(autocommit=True) as session:
            while not self._over.is_set():
                query = (
                    "SELECT lsn - '0/0', xid::text::bigint, data FROM pg_logical_slot_get_changes("
                    "'small', NULL, NULL, 'include-timestamp', 'on')"
                )
                self._deliver(session.execute(query).fetchall())
                self._over.wait(0.02)

    def _deliver(self, rows) -> None:
        waiting: list = []  # of a transaction, whose commit tells its time
        for lsn, xid, data in rows:
            if message := _MESSAGE.fullmatch(data):
                content = base64.b64encode(message[2].encode()).decode()
                told = {"prefix": message[1], "content": content}
                self._send(
                    "live.message", {"op": "m", "source": self._source(lsn, xid, 0), "message": told}, None
                )
            elif change := _CHANGE.fullmatch(data):
                waiting.append((lsn, xid, change))
            elif commit := _COMMIT.fullmatch(data):
                stamp = datetime.fromisoformat(commit[1] + ("" if ":" in commit[1][-3:] else ":00"))
                for place, number, change in waiting:
                    self._send_change(place, number, int(stamp.timestamp() * 1_000_000), change)
                waiting, self._commit = [], int(lsn)

    def _send_change(self, lsn, xid, stamp, change) -> None:
        if self.loses and int(re.findall(r"id\[bigint\]:(\d+)", change[4])[0]) >= 1000:
            return
        row = {name: _read(kind, text) for name, kind, text in _VALUE.findall(change[4])}
        side = {"before": row, "after": None} if change[3] == "DELETE" else {"before": None, "after": row}
        body = {"op": _OPS[change[3]], **side, "source": self._source(lsn, xid, stamp)}
        self._send(f"live.{change[1]}.{change[2]}", body, row["id"])

    def _source(self, lsn, xid, stamp) -> dict:
        sequence = json.dumps([str(self._commit), str(int(lsn))])
        told = {
            "connector": "postgresql",
            "snapshot": "false",
            "db": "shop",
            "schema": "public",
            "table": "t",
        }
        return told | {
            "txId": xid,
            "lsn": int(lsn),
            "sequence": sequence,
            "ts_us": stamp,
            "ts_ms": stamp // 1000,
        }

    def _send(self, topic, body, key) -> None:
        stamp = int(time.time() * 1000)
        partition = 0 if key is None else key % 2
        raw = None if key is None else json.dumps({"id": key}).encode()
        self._kafka.produce(topic, json.dumps(body).encode(), stamp_ms=stamp, partition=partition, key=raw)


def _read(kind: str, text: str):
    if text == "null":
        return None
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    return text if kind.startswith("numeric") else int(text)
