"""A real Apache Kafka in a folder, of one node or of several: started, made sure of, and never left running.

Decides how its nodes run together: KRaft, each of them broker and controller, free ports that stay while it
runs, data kept in the folder from one start to the next. It refuses a folder in which another one runs.
"""

import atexit
import fcntl
import os
import secrets
import socket
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from demo.client import DemoKafka
from demo.jars import CACHE, kafka_jars
from demo.node import Node
from demo.ports import HOST, bound
from sluice.errors import DemoServerError

_START_SECONDS = 120
_SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
}
_REPLICAS = ("default.replication.factor", "offsets.topic.replication.factor")
_REPLICAS_OF_TRANSACTIONS = "transaction.state.log.replication.factor"
_IN_SYNC = ("min.insync.replicas", "transaction.state.log.min.isr")


class EmbeddedKafka(DemoKafka):
    """Apache Kafka in a folder, as a context manager or by `start` and `stop`.

    While it runs, `servers` is its `host:port` (several with commas), also to be read from the file
    `address` in the folder. `listeners` adds others to the plain one: names with their security protocols,
    such as `{"TLS": "SSL"}`; `address("TLS")` is where such a one answers. `properties` are Kafka's own.
    """

    def __init__(
        self,
        folder: Path,
        jars: Path = CACHE,
        *,
        nodes: int = 1,
        listeners: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 512,
    ) -> None:
        super().__init__()
        self.folder, self.jars = folder.resolve(), jars
        self.listeners = {"PLAINTEXT": "PLAINTEXT"} | dict(listeners or {})
        self.properties = dict(properties or {})
        self.nodes: dict[int, Node] = {}
        self._numbers, self._heap = range(1, nodes + 1), heap_mb
        self._ports: dict[tuple[int, str], int] = {}  # by node and listener
        self._lock: IO[str] | None = None

    def start(self) -> None:
        """Start it, and return when it answers; topics of earlier starts are there again.

        Raises:
            DownloadError: its jars are not there and cannot be fetched.
            DemoServerError: another one runs in the folder, or it dies, or does not answer in time.
        """
        if self.servers:
            return
        jars = kafka_jars(self.jars)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        atexit.register(self.stop)
        try:
            (self.folder / "address").unlink(missing_ok=True)
            self._choose_ports()
            self.nodes = {n: Node(self.folder / f"node-{n}", jars, self._heap) for n in self._numbers}
            for number, node in self.nodes.items():
                node.end_leftover()
                node.prepare(self._cluster(), self._settings(number))
            for node in self.nodes.values():
                node.launch()
            self.servers = self.address("PLAINTEXT")
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        (self.folder / "address").write_text(self.servers)

    def stop(self) -> None:
        """Stop it, gently and then by force; nothing happens where it does not run."""
        if self._lock:  # else the address is another's
            (self.folder / "address").unlink(missing_ok=True)
        for node in self.nodes.values():
            node.ask_to_stop()
        for node in self.nodes.values():
            node.stop()
        if self._lock:
            self._lock.close()
            self._lock = None
        self.servers = ""
        atexit.unregister(self.stop)

    def address(self, listener: str) -> str:
        """Give where a listener answers: `host:port` of each node."""
        return ",".join(f"{HOST}:{self._ports[number, listener]}" for number in self._numbers)

    def start_node(self, number: int) -> None:
        """Start a node again that was killed or wiped; it has its ports, and joins when it is ready."""
        self.nodes[number].prepare(self._cluster(), self._settings(number))
        self.nodes[number].launch()

    def wait_until_ready(self) -> None:
        """Wait until all nodes that run are known, and each partition has a leader that answers.

        Raises:
            DemoServerError: a node ended, or that takes too long.
        """
        deadline = time.monotonic() + _START_SECONDS
        wanted = [number for number, node in self.nodes.items() if node.running] or list(self.nodes)
        for number in wanted:
            self._wait_for_port(number, deadline)
        quiet: dict[str, str | int | float | bool] = {"bootstrap.servers": self.servers, "log_level": 0}
        admin = AdminClient(quiet)
        consumer = Consumer(quiet | {"group.id": "none"})
        try:
            while time.monotonic() < deadline:
                self._refuse_dead(wanted)
                with suppress(KafkaException):
                    metadata = admin.list_topics(timeout=2)
                    for name, topic in metadata.topics.items():  # leaders come later than the port
                        for partition in topic.partitions:
                            consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=2)
                    if set(metadata.brokers) >= set(wanted):
                        return
                time.sleep(0.1)
        finally:
            consumer.close()
        raise self.nodes[wanted[0]].failed(f"no answer within {_START_SECONDS} s")

    def _wait_for_port(self, number: int, deadline: float) -> None:
        while time.monotonic() < deadline:
            self._refuse_dead([number])
            with suppress(OSError), socket.create_connection((HOST, self._ports[number, "PLAINTEXT"]), 1):
                return
            time.sleep(0.1)

    def _refuse_dead(self, wanted: list[int]) -> None:
        for number in wanted:
            if not self.nodes[number].running:
                raise self.nodes[number].failed("it ended")

    def _take_lock(self) -> None:
        lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            detail = f"process {owner} runs one there"
            raise DemoServerError(
                "Kafka", str(self.folder), detail, "use that one, or stop it first"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _cluster(self) -> str:
        """Give the id of the cluster, made at its first start."""
        file = self.folder / "cluster"
        if not file.exists():
            file.write_text(urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="))
        return file.read_text()

    def _choose_ports(self) -> None:
        """Take ports that nothing listens on, all at once, so that none is taken twice."""
        with ExitStack() as held:
            for number in self._numbers:
                for listener in (*self.listeners, "CONTROLLER"):
                    probe = held.enter_context(bound())
                    self._ports[number, listener] = probe.getsockname()[1]

    def _settings(self, number: int) -> dict[str, str]:
        """Write a node's settings, but for where its data is."""
        open_at = {name: f"{name}://{HOST}:{self._ports[number, name]}" for name in self.listeners}
        protocols = {"CONTROLLER": "PLAINTEXT"} | self.listeners
        quorum = ",".join(f"{n}@{HOST}:{self._ports[n, 'CONTROLLER']}" for n in self.nodes)
        count = len(self.nodes)
        return {
            **_SETTINGS,
            **dict.fromkeys((*_REPLICAS, _REPLICAS_OF_TRANSACTIONS), str(min(count, 3))),
            **dict.fromkeys(_IN_SYNC, str(min(count, 2))),
            "node.id": str(number),
            "controller.quorum.voters": quorum,
            "listeners": ",".join(
                [*open_at.values(), f"CONTROLLER://{HOST}:{self._ports[number, 'CONTROLLER']}"]
            ),
            "advertised.listeners": ",".join(open_at.values()),
            "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
            **self.properties,
        }
