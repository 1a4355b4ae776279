"""Everything is killed at random while numbered records flow: `make soak`, or `python -m tests.crash.soak`.

Workers (real runs by Dagster, and continuous ones), the producer, the broker (kill -9) and, on s3, the store
die at random instants; some workers are stopped for a while and go on as zombies. At the end the producer
stops, a last run catches up, and the lake is held against the log (`tests.crash.numbers.judge`). It refuses
nothing: what ends by itself while everything was up is counted, with what it said.

Settings: SOAK_KILLS (1000), SOAK_MINUTES (60, at most), SOAK_STORE (file or s3), SOAK_SEED.
"""

import json
import os
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo.broker import EmbeddedKafka
from tests.crash.forks import Child, Forks
from tests.crash.numbers import CONTRACT, NAME, TOPIC

PARTITIONS, RATE, WORKERS = 4, 400, 2
KINDS = ("dagster", "caught_up", "stopped")  # of workers
# Short, as a broker that was killed comes back when its session has ended; and enough for a busy machine.
BROKER = {"broker.session.timeout.ms": "4000", "broker.heartbeat.interval.ms": "500"}


@dataclass
class Soak:
    """One soak: how much is killed, on which store; `figures` tells what happened."""

    folder: Path
    kills: int = 1000
    broker_kills: int = 20
    minutes: float = 60
    store: str = "file"
    seed: int = field(default_factory=lambda: secrets.randbelow(10**6))
    say: Callable[[str], None] = print
    killed: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Kill until enough was killed, then catch up and judge.

        Raises:
            AssertionError: a record was lost, is there twice, or out of order; or an account is wrong.
        """
        self._rng, self._down, self._began = random.Random(self.seed), 0, time.monotonic()  # noqa: S311
        self._away = self._began  # when something was down last
        self.folder.mkdir(parents=True, exist_ok=True)
        self._kafka = EmbeddedKafka(self.folder / "kafka", properties=BROKER)
        with self._kafka, Forks(self.folder / "children") as self._forks:
            self._kafka.create_topic(TOPIC, PARTITIONS, {"retention.ms": "-1"})
            streams = self.folder / "streams"
            streams.mkdir()
            start = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
            (streams / f"{NAME}.py").write_text(CONTRACT.format(start=start))
            self._environment = {
                "STREAMS_DIR": str(streams),
                "LAKE_URI": str(self.folder / "lake"),
                "KAFKA_BOOTSTRAP_SERVERS": self._kafka.servers,
                "DAGSTER_HOME": "",
            }
            weed = self._start_store() if self.store == "s3" else None
            try:
                self._kill_everything(weed)
                return self._judge()
            finally:
                if weed:
                    weed.kill()

    def _start_store(self) -> Any:
        from tests.seaweed import KEYS, SeaweedFS  # noqa: PLC0415  # not needed on a disk

        (self.folder / "weed").mkdir()
        weed = SeaweedFS(self.folder / "weed")
        weed.start()
        self._environment |= {"LAKE_URI": "s3://lake/soak", "S3_ENDPOINT_URL": weed.address}
        self._environment |= {name.upper(): value for name, value in KEYS.items()}
        return weed

    def _kill_everything(self, weed: Any) -> None:
        self._producing = self._producer()
        while not self._kafka.count(TOPIC):
            assert not self._producing.ended.wait(0.1), self._producing.said()
        begun = time.monotonic()
        self._catch_up()
        usual = time.monotonic() - begun  # so that deaths fall into the work, however slow the machine
        self._workers = [self._worker() for _ in range(WORKERS)]
        self._zombies: list[Child] = []
        while (done := self._share_done()) < 1:
            time.sleep(self._rng.uniform(0.05, 0.5 * usual))  # the random instant
            self._begin_again()
            self._strike()
            if not self._down and self.killed["broker"] < self.broker_kills * done:
                self._outage("broker", self._restart_broker)
            elif weed and not self._down and self.killed["store"] < self.broker_kills * done / 2:
                self._outage("store", lambda: (weed.kill(), weed.start()))
            if self.killed.total() % 50 == 0:
                self.say(f"{time.monotonic() - self._began:.0f} s: {dict(self.killed)} {dict(self.ended)}")
        self._kill(self._producing, "producer")
        for worker in [*self._workers, *self._zombies]:
            self._kill(worker, "worker")

    def _share_done(self) -> float:
        passed = (time.monotonic() - self._began) / (self.minutes * 60)
        return max(self.killed["worker"] / self.kills, passed)

    def _begin_again(self) -> None:
        """Start what ended by itself."""
        for index, worker in enumerate(self._workers):
            if worker.ended.is_set():
                self._note(worker, "worker")
                self._workers[index] = self._worker()
        if self._producing.ended.is_set():
            self._note(self._producing, "producer")
            self._producing = self._producer()

    def _strike(self) -> None:
        """Kill or stop something, or let a zombie go on."""
        victim, lot = self._rng.randrange(WORKERS), self._rng.random()
        if lot < 0.06:
            self._kill(self._producing, "producer")
            self._producing = self._producer()
        elif lot < 0.14 and self._zombies:
            self._zombies.pop(0).signal(signal.SIGCONT)  # it goes on until it ends by itself
        elif lot < 0.2:
            self._workers[victim].signal(signal.SIGSTOP)
            self._zombies.append(self._workers[victim])
            self.killed["stopped"] += 1
            self._workers[victim] = self._worker()
        else:
            self._kill(self._workers[victim], "worker")
            self._workers[victim] = self._worker()

    def _outage(self, what: str, act: Callable[[], object]) -> None:
        self.killed[what] += 1
        self._down += 1

        def through() -> None:
            try:
                act()
            except Exception as error:  # noqa: BLE001  # told at the end; else all would wait for it for ever
                self.errors.append(f"{what} did not come back: {error}")
            self._away = time.monotonic()
            self._down -= 1

        threading.Thread(target=through, daemon=True).start()

    def _restart_broker(self) -> None:
        self._kafka.nodes[1].kill()
        self._kafka.start_node(1)
        self._kafka.wait_until_ready()

    def _producer(self) -> Child:
        return self._forks.start(
            "numbers.produce", servers=self._kafka.servers, partitions=PARTITIONS, a_second=RATE
        )

    def _worker(self) -> Child:
        kind = self._rng.choice(KINDS[1:] if self.store == "s3" else KINDS)
        return self._forks.start("work.soak", self._environment, kind=kind, folder=str(self.folder))

    def _kill(self, child: Child, what: str) -> None:
        if child.ended.is_set():
            return
        child.signal(signal.SIGKILL)
        if child.wait(30) == -signal.SIGKILL:
            self.killed[what] += 1
            child.log.unlink(missing_ok=True)
        else:
            self._note(child, what)

    def _note(self, child: Child, what: str) -> None:
        """Count how a child ended by itself; of a worker what it said, where nothing was down in its life.

        The producer is no part of what is proven: its client may give up, and the next one goes on.
        """
        well = child.code == 0
        self.ended[f"{what} {'well' if well else f'in error ({child.code})'}"] += 1
        if what == "worker" and not well and not self._down and self._away < child.began:
            self.errors.append(f"{what}:\n{child.said()[-1500:]}")

    def _catch_up(self) -> None:
        """Let a run that is left alone bring the lake up to the log."""
        run = self._forks.start("work.soak", self._environment, kind="caught_up", folder=str(self.folder))
        assert run.wait(300) == 0, run.said()

    def _judge(self) -> dict[str, Any]:
        while self._down:
            time.sleep(0.1)  # the last outage ends by itself
        fence = self._forks.start("numbers.end_transactions", servers=self._kafka.servers)
        assert fence.wait() == 0, fence.said()
        self._catch_up()
        target = self.folder / "figures.json"
        judged = self._forks.start(
            "numbers.judge", self._environment, partitions=PARTITIONS, target=str(target)
        )
        assert judged.wait(300) == 0, judged.said()
        told = {"seconds": round(time.monotonic() - self._began), "seed": self.seed, "store": self.store}
        return (
            told | {"killed": dict(self.killed), "ended": dict(self.ended)} | json.loads(target.read_text())
        )


def main() -> int:
    """Run by the settings; print the figures."""
    kills = int(os.environ.get("SOAK_KILLS") or 1000)
    minutes = float(os.environ.get("SOAK_MINUTES") or 60)
    store = os.environ.get("SOAK_STORE") or "file"
    more = {"seed": int(seed)} if (seed := os.environ.get("SOAK_SEED")) else {}
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as scratch:
        soak = Soak(Path(scratch) / "soak", kills, max(5, kills // 50), minutes, store, **more)
        try:
            print(json.dumps(soak.run(), indent=2))  # noqa: T201
        finally:
            for error in soak.errors[:20]:
                print(error)  # noqa: T201
            print(f"{len(soak.errors)} processes ended in error while everything was up")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
