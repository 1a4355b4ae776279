"""Runs on an object store, killed at a request: before the store has it, or before its answer comes."""

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.client import DemoKafka
from tests.crash.forks import Child, Forks
from tests.crash.numbers import CONTRACT, NAME, TOPIC
from tests.fault_proxy import FaultProxy
from tests.seaweed import KEYS, SeaweedFS

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(7200)]
PARTITIONS, SAMPLE, SEED = 2, int(os.environ.get("CRASH_SAMPLE", "6")), 7


class DeadlyProxy(FaultProxy):
    """Kills a process at its n-th write: `down`, the store never has it; `cut`, it has, and nobody hears."""

    victim: Child | None = None
    at, fault_at = 0, "down"

    def fault_of(self, method: str, path: str) -> str | None:
        """Count the writes; kill at the one."""
        super().fault_of(method, path)
        if method != "PUT" or self.victim is None or self.puts != self.at:
            return None
        self.victim.signal(9)
        self.victim.ended.wait(30)
        return self.fault_at

    @property
    def puts(self) -> int:
        """How many objects were written, or were about to be."""
        return sum(method == "PUT" for method, _, _ in self.seen)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeadlyProxy]:
    """A proxy before a SeaweedFS."""
    weed = SeaweedFS(tmp_path_factory.mktemp("weed"))
    weed.start()
    made = DeadlyProxy(weed.address)
    yield made
    made.close()
    weed.kill()


def test_runs_killed_at_a_request_leave_nothing_behind(kafka: str, proxy: DeadlyProxy, tmp_path: Path):
    """Kafka-medallion 41 on s3: a sample of the writes, each dropped or taken as the process dies."""
    DemoKafka(kafka).create_topic(TOPIC, PARTITIONS, {"retention.ms": "-1"})
    start = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
    (tmp_path / f"{NAME}.py").write_text(CONTRACT.format(start=start))
    common = {
        "STREAMS_DIR": str(tmp_path),
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "S3_ENDPOINT_URL": proxy.address,
    }
    common |= {name.upper(): value for name, value in KEYS.items()}

    with Forks(tmp_path / "children") as forks:

        def run(lake: str, at: int = 0) -> Child:
            proxy.seen.clear()
            proxy.victim = None
            child = forks.start(
                "work.soak", common | {"LAKE_URI": f"s3://lake/{lake}"}, kind="caught_up", folder=""
            )
            proxy.at, proxy.victim = at, child
            child.ended.wait(120)
            return child

        filled = forks.start(
            "numbers.produce", servers=kafka, partitions=PARTITIONS, a_second=10**6, turns=12
        )
        assert filled.wait() == 0, filled.said()
        undisturbed = run("peace")
        assert undisturbed.code == 0, undisturbed.said()
        writes = proxy.puts
        assert writes > 20
        for at in random.Random(SEED).sample(range(1, writes), min(SAMPLE, writes - 1)):  # noqa: S311
            proxy.fault_at = "cut" if at % 2 else "down"
            victim = run(f"death-{at}", at)
            assert victim.code == -9, f"write {at} of {writes}: {victim.said()}"
            following = run(f"death-{at}")
            assert following.code == 0, f"after {proxy.fault_at} at write {at}: {following.said()}"
            judged = forks.start(
                "numbers.judge",
                common | {"LAKE_URI": f"s3://lake/death-{at}"},
                partitions=PARTITIONS,
                target=str(tmp_path / "told"),
            )
            assert judged.wait() == 0, f"after {proxy.fault_at} at write {at}: {judged.said()}"
