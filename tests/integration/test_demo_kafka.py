"""The demo's Kafka: it keeps its topics, refuses a second one, and never outlives its owner."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.kafka import EmbeddedKafka, InMemoryKafka
from demo.message import Message
from resources.kafka import KafkaResource
from sluice.errors import DemoServerError

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def answers(servers: str) -> bool:
    host, port = servers.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_topics_are_there_after_a_restart_and_a_second_one_is_refused(kafka: str, tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as first:
        first.create_topic("kept", 2, {"retention.ms": "-1"})  # the stamps are old
        assert first.produce(Message("kept", None, b"%d" % i, 1_700_000_000_000) for i in range(10)) == 10
        assert (tmp_path / "address").read_text() == first.servers
        with pytest.raises(DemoServerError, match="runs one there"):
            EmbeddedKafka(tmp_path).start()
        before = KafkaResource(bootstrap_servers=first.servers).topic("kept")
    assert not (tmp_path / "address").exists()
    with EmbeddedKafka(tmp_path) as again:
        assert KafkaResource(bootstrap_servers=again.servers).topic("kept") == before
        assert again.count("kept") == 10


def test_it_dies_with_an_owner_that_is_killed(kafka: str, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from demo.kafka import EmbeddedKafka\n"
        "EmbeddedKafka(Path(sys.argv[1])).start(); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) as owner:
        address = tmp_path / "address"
        deadline = time.monotonic() + 120
        while not address.exists() and time.monotonic() < deadline and owner.poll() is None:
            time.sleep(0.2)
        servers = address.read_text()
        assert answers(servers)
        os.kill(owner.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while answers(servers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not answers(servers)


def test_the_broker_in_memory_serves_what_it_can(tmp_path: Path) -> None:
    with InMemoryKafka(tmp_path) as kafka:
        kafka.create_topic("few")
        kafka.produce(Message("few", b"k", b"%d" % i, 1_700_000_000_000) for i in range(10))
        resource = KafkaResource(bootstrap_servers=kafka.servers, timeout_seconds=1)
        topic = resource.topic("few")
        marks = resource.watermarks("few", topic.partitions)
        ranges = {p: (0, m.stable) for p, m in marks.items()}
        (batch,) = resource.read("few", ranges, max_rows=100, max_bytes=1 << 20)
        assert batch.records["value"].sort().to_list() == [b"%d" % i for i in range(10)]
        assert resource.log("few", topic.partitions[0]).offsets_for_times([0]) == [None]
