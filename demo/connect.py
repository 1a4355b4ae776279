"""A real Kafka Connect with Debezium's PostgreSQL connector, in a folder: started, killed, not left running.

Decides which versions run, that it runs standalone (its connectors and their offsets are files), and by the
settings that `deploy/connect` gives to everybody, but for those that a caller changes. It refuses connectors
whose task does not run.
"""

import atexit
import json
import tarfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import requests

from demo.jars import CACHE, KAFKA, jars
from demo.node import java
from demo.ports import bound
from demo.postgres import Postgres
from demo.watched import Watched
from resources.settings import PROJECT

DEBEZIUM = "3.7.0.Final"
CONFIG = PROJECT / "deploy" / "connect"
_WANTED = (
    f"org.apache.kafka:connect-runtime:{KAFKA}!",
    f"org.apache.kafka:connect-json:{KAFKA}!",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4!",
)
_PLUGIN = f"io.debezium:debezium-connector-postgres:{DEBEZIUM}:plugin:tar.gz:"  # ends by a colon: jgo's rule
_SECONDS = 180
_LOGGING = """\
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
rootLogger=WARN, C
logger.d.name=io.debezium
logger.d.level=INFO
"""
Connectors = Mapping[str, Mapping[str, str]]


def connect_jars(cache: Path = CACHE) -> Path:
    """Give the folder of Kafka Connect's jars, fetched (36 MB) where it is not there yet.

    Raises:
        DownloadError: Maven Central does not answer, or breaks off.
    """
    return jars(cache / f"connect-{KAFKA}", _WANTED)


def plugin(cache: Path = CACHE) -> Path:
    """Give the folder that holds Debezium's connector, fetched (5 MB) where it is not there yet.

    Raises:
        DownloadError: Maven Central does not answer, or breaks off.
    """
    return jars(cache / f"debezium-postgres-{DEBEZIUM}", (_PLUGIN,), dependencies=False)


class Connect(Watched):
    """Kafka Connect with some connectors, as a context manager or by `start` and `stop`.

    `connectors` are names and what they change of `deploy/connect/postgresql.json`; `settings` changes
    `worker.properties`. What it remembers of the source's log is in the file `offsets`.
    """

    def __init__(
        self,
        folder: Path,
        servers: str,
        postgres: Postgres,
        connectors: Connectors,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder.resolve(), "Connect")
        self.offsets = self.folder / "offsets"
        self._servers, self._postgres = servers, postgres
        self.connectors, self._given = dict(connectors), dict(settings or {})
        self._port = 0

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start it, and return when its connectors run.

        Raises:
            DownloadError: its jars are not there and cannot be fetched.
            DemoServerError: it or a connector dies, or does not run in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        plugins = self.folder / "plugins"
        if not plugins.exists():
            (archive,) = plugin().iterdir()
            with tarfile.open(archive) as packed:
                packed.extractall(plugins, filter="data")
        with bound() as probe:
            self._port = probe.getsockname()[1]
        given = {
            "listeners": f"http://127.0.0.1:{self._port}",
            "plugin.path": str(plugins),
            "offset.storage.file.filename": str(self.offsets),
            "offset.flush.interval.ms": "500",
        } | self._given
        lines = (CONFIG / "worker.properties").read_text() + "".join(f"{k}={v}\n" for k, v in given.items())
        (self.folder / "worker.properties").write_text(lines)
        for name, changed in self.connectors.items():
            asked = json.loads((CONFIG / "postgresql.json").read_text())["config"] | dict(changed)
            (self.folder / f"{name}.json").write_text(json.dumps({"name": name, "config": asked}))
        atexit.register(self.stop)
        command = java(self.folder, connect_jars(), 512, _LOGGING)
        command += ["org.apache.kafka.connect.cli.ConnectStandalone", "worker.properties"]
        self.launch_command([*command, *(f"{name}.json" for name in self.connectors)], self._environment())
        self.wait_until_running()

    def stop(self) -> None:
        """Stop it, gently and then by force; its offsets stay."""
        super().stop()
        atexit.unregister(self.stop)

    def wait_until_running(self) -> None:
        """Wait until the task of each connector runs.

        Raises:
            DemoServerError: it or a task died, or that takes too long.
        """
        deadline = time.monotonic() + _SECONDS
        while states := self.states():
            if all(state == "RUNNING" for state in states.values()):
                return
            self._wait(deadline, f"its connectors do not run: {states}")

    def states(self) -> dict[str, str]:
        """Tell the state of each connector's task.

        Raises:
            DemoServerError: one has failed.
        """
        states = {}
        for name in self.connectors:
            told = self._get(f"connectors/{name}/status") or {}
            tasks = told.get("tasks") or [{"state": "unknown"}]
            states[name] = tasks[0]["state"]
            if states[name] == "FAILED":
                raise self.failed(f"{name} failed: {tasks[0].get('trace', '')[:2000]}")
        return states

    def wait_until_stored(self, lsn: int) -> None:
        """Wait until Kafka has all that each connector was told up to a place in PostgreSQL's log.

        Offsets are stored only for what Kafka has acknowledged.

        Raises:
            DemoServerError: it or a task died, or that takes too long.
        """
        deadline = time.monotonic() + _SECONDS
        for name in self.connectors:
            while (stored := self.stored(name)) < lsn:
                self.states()
                self._wait(deadline, f"{name} is at {stored}, not yet at {lsn}")

    def stored(self, name: str) -> int:
        """Tell up to which place in PostgreSQL's log a connector has stored its offset; 0: none yet."""
        told = self._get(f"connectors/{name}/offsets") or {}
        return max((int(entry["offset"].get("lsn") or 0) for entry in told.get("offsets") or ()), default=0)

    def _get(self, path: str) -> Any:
        with suppress(requests.RequestException, ValueError):
            answer = requests.get(f"http://127.0.0.1:{self._port}/{path}", timeout=10)
            return answer.json() if answer.ok else None
        return None

    def _wait(self, deadline: float, detail: str) -> None:
        if not self.running:
            raise self.failed("it ended")
        if time.monotonic() > deadline:
            raise self.failed(detail)
        time.sleep(0.1)

    def _environment(self) -> dict[str, str]:
        """Say what the settings ask of the environment."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self._servers,
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(self._postgres.port),
            "POSTGRES_USER": "test",
            "POSTGRES_PASSWORD": "any",
            "POSTGRES_DATABASE": "shop",
        }
