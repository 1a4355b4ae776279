"""The demo's Kafka: which one it is, and commands that run beside it.

Decides what the demo runs on: the Kafka that `KAFKA_BOOTSTRAP_SERVERS` names; else Apache Kafka in `.kafka`;
else, where Maven Central cannot be reached, librdkafka's broker in memory.

    python -m demo.kafka start              # until Ctrl-C
    python -m demo.kafka run -- make test   # with KAFKA_BOOTSTRAP_SERVERS set for the command
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from confluent_kafka import Producer

from demo.broker import EmbeddedKafka
from demo.client import DemoKafka
from resources.settings import KAFKA_HOME, settings
from sluice.errors import DownloadError, SluiceError

__all__ = ["DemoKafka", "EmbeddedKafka", "InMemoryKafka", "main", "start_kafka"]


class InMemoryKafka(DemoKafka):
    """librdkafka's broker in this process, for demos without a network.

    It keeps 5 MB or 100,000 records a partition, silently drops the oldest, has no look-up by time, makes
    topics of four partitions when they are produced to, and forgets all at the end.
    """

    def __init__(self, folder: Path = KAFKA_HOME) -> None:
        super().__init__()
        self.folder = folder
        self._cluster: Producer | None = None

    def start(self) -> None:
        """Start the broker; nothing happens where it runs."""
        if self.servers:
            return
        self._cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
        (broker,) = self._cluster.list_topics(timeout=10).brokers.values()
        self.servers = f"{broker.host}:{broker.port}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "address").write_text(self.servers)

    def stop(self) -> None:
        """Stop it, and forget all that it held."""
        if self.servers:
            (self.folder / "address").unlink(missing_ok=True)
        self._cluster = None
        self.servers = ""

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Nothing happens: it knows no such request, and makes a topic when one asks about it."""
        del partitions, config
        if self._cluster:
            self._cluster.list_topics(name, timeout=10)


def start_kafka(folder: Path = KAFKA_HOME) -> DemoKafka:
    """Give a Kafka that runs: the one that is named, or our own, which `stop()` or a `with` ends.

    Raises:
        DemoServerError: another one runs in the folder, or ours does not start.
    """
    named = settings().kafka_bootstrap_servers
    kafka: DemoKafka = DemoKafka(named) if named else EmbeddedKafka(folder)
    try:
        kafka.start()
    except DownloadError as error:
        print(
            f"{error}\nUsing a broker in memory instead: it keeps at most 100,000 records a partition, "
            "cannot look up by time, and forgets all at the end.",
            flush=True,
        )
        kafka = InMemoryKafka(folder)
        kafka.start()
    return kafka


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.kafka", description="The demo's own Kafka.")
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("start", help="run it until Ctrl-C")
    run = commands.add_parser("run", help="run a command with it, and end it with the command")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    parsed = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `with` ends
    try:
        with start_kafka() as kafka, suppress(KeyboardInterrupt):
            print(f"Kafka answers at {kafka.servers}", flush=True)
            if parsed.what == "run":
                return _beside(kafka.servers, parsed.command)
            threading.Event().wait()
    except SluiceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _beside(servers: str, command: Sequence[str]) -> int:
    """Run a command with Kafka's address in its environment; give its exit code."""
    words = command[1:] if command[:1] == ["--"] else command
    return subprocess.run(
        words, env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": servers}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
