"""A collection that is written, a connector that delivers what was written, and the contract of its lake."""

import json
import random
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pandera.polars as pa
import polars as pl
from bson import Decimal128, Int64, ObjectId, json_util
from bson.datetime_ms import DatetimeMS

from assets.asked import Asked
from assets.reconcile import reconcile
from resources.lake import Lake
from sluice import Changes, Daily, Debezium, Document, Mongo
from tests.beside import Beside
from tests.fake_kafka import FakeKafka
from tests.mongodb_server import MongoServer

NAME, TOPIC = "shop.customers", "live.shop.customers"


class Customer(pa.DataFrameModel):
    id: int = pa.Field(metadata={"path": "_id"})
    name: str = pa.Field(nullable=True, metadata={"pii": True})
    amount: pl.Decimal(20, 4) = pa.Field(nullable=True)
    score: float = pa.Field(nullable=True)
    seen: pl.Datetime("us", "UTC") = pa.Field(nullable=True)
    tags: pl.List(pl.String) = pa.Field(nullable=True)
    city: str = pa.Field(nullable=True, metadata={"path": "address.city"})
    home: pl.Struct({"city": pl.String, "no": pl.Int64, "rooms": pl.List(pl.Struct({"m2": pl.Float64}))}) = (
        pa.Field(nullable=True, metadata={"path": "address"})
    )
    rest: Document = pa.Field(nullable=True, metadata={"path": "*"})


class Named(pa.DataFrameModel):
    id: str = pa.Field(metadata={"path": "_id"})
    name: str = pa.Field(nullable=True)


def contract(schema=Customer, **arguments) -> Changes:
    return Changes(
        **{
            "name": "customers",
            "topic": TOPIC,
            "value": Debezium("mongodb"),
            "schema": schema,
            "key": "id",
            "partitions": Daily(start=(datetime.now(UTC) - timedelta(days=1)).date().isoformat()),
            "source": Mongo(collection=NAME, connection="shop"),
        }
        | arguments
    )


def document(key, **more) -> dict:
    """Make a document of values that JSON and BSON write in several ways."""
    number = key if isinstance(key, int) else 7
    told = {"_id": key, "name": f"n{number}", "amount": Decimal128(f"{number}.50"), "score": number / 4}
    told |= {
        "seen": DatetimeMS(-1 - number),
        "tags": ["a", f"t{number}"],
        "address": {"city": "Ulm", "no": 5, "rooms": [{"m2": 1.5}, {}]},
    }
    return told | {"more": [Int64(1), {"deep": ObjectId(b"twelve bytes")}], "flag": True} | more


class Connector:
    """Writes into the collection, and delivers each change to Kafka, some time later."""

    def __init__(self, server: MongoServer, kafka: FakeKafka) -> None:
        self._server, self._kafka = server, kafka
        self._waiting: list = []
        self.loses = False
        self._lock = threading.Lock()

    def write(self, key, told: dict | None) -> None:
        with self._lock:
            self._waiting.append((key, told, self._server.write(NAME, key, told)))

    def deliver(self) -> None:
        """Deliver all that waits, in the order of cluster times."""
        with self._lock:
            for key, told, at in self._waiting:
                lost = self.loses and isinstance(key, int) and key >= 1000
                if not lost:
                    self._send(key, told, at)
            self._waiting.clear()

    def _send(self, key, told, at) -> None:
        source = {"connector": "mongodb", "snapshot": "false", "ts_ms": at.time * 1000, "ord": at.inc}
        text = None if told is None else json_util.dumps(told, json_options=json_util.CANONICAL_JSON_OPTIONS)
        value = {"op": "d" if told is None else "u", "before": None, "after": text, "source": source}
        raw = json.dumps({"id": json_util.dumps(key)}).encode()
        stamp = int(time.time() * 1000)
        self._kafka.produce(
            TOPIC, json.dumps(value).encode(), stamp_ms=stamp, partition=len(raw) % 2, key=raw
        )


class Alive(Beside):
    """Others write and the connector delivers, until the block ends."""

    def __init__(self, connector: Connector, keys=range(260)) -> None:
        super().__init__(self._write, self._follow)
        self._connector, self._keys, self.writes = connector, list(keys), 0

    def __exit__(self, *told: object) -> None:  # noqa: D105
        super().__exit__(*told)
        self._connector.deliver()

    def _write(self) -> None:
        rng = random.Random(1)  # noqa: S311
        while not self.over.wait(0.01):
            key = rng.choice(self._keys)
            gone = rng.random() < 0.2
            self._connector.write(key, None if gone else document(key, name=f"w{rng.random()}"))
            self.writes += 1

    def _follow(self) -> None:
        while not self.over.wait(0.05):
            self._connector.deliver()


@contextmanager
def lived(folder, monkeypatch):
    """Give an empty lake, a Kafka, a server with the collection, and a connector that follows it."""
    with MongoServer() as server:
        monkeypatch.setenv("SOURCE_CONNECTIONS", json.dumps({"shop": server.uri}))
        monkeypatch.setattr("assets.as_of.WAIT", 20.0)
        server.create(NAME)
        kafka = FakeKafka()
        kafka.create(TOPIC, 2)
        yield Lake(str(folder / "lake")), kafka, server, Connector(server, kafka)


def run(lake, kafka, stream, **asked):
    return reconcile(lake, stream, Asked(**asked), run_id="run", kafka=kafka, say=lambda _: None)
