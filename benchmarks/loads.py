"""One load after the other, each one way from the base, to find where the cost of a record or a byte jumps.

Run `python benchmarks/loads.py [--only=bad,bytes] [--share=0.1] [--write=yes]`: a real Kafka, a topic for
each load (`loads_made.py`), and a process of its own that brings it through bronze and silver, and folds
changes.
Costs are CPU seconds: wall seconds say less where others use the machine. `--only` takes parts of names,
`--share` so much of each load.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from loads_made import LOADS, NOW, TILES, Load, contract, records
from measure import arguments, machine, peak_mb, table, write_section

from assets.bronze import limits
from assets.flow import Flow
from assets.ingest import ingest
from assets.merge import merge
from assets.refine import refine
from assets.replay import Choice, replay
from demo.broker import EmbeddedKafka
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import Changes, tables

_AT_ONCE = 10_000  # records of a transaction
_LARGEST = str(8 << 20)  # bytes of a message
_TOPIC = {"retention.ms": "-1", "max.message.bytes": _LARGEST}
_PRODUCER = {
    "linger.ms": 20,
    "batch.size": 1 << 20,
    "message.max.bytes": _LARGEST,
    "enable.idempotence": True,
}
_HEAD = [
    "load",
    "records",
    "bytes each",
    "1,000 records a CPU s",
    "MB a CPU s",
    "bronze CPU s",
    "silver CPU s",
]
_MORE = ["peak MB", "commits", "files"]


def fill(servers: str, topic: str, load: Load) -> int:
    """Make a topic and its records; give the bytes of all values and headers."""
    made = NewTopic(topic, load.partitions, config=_TOPIC)
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([made])[topic].result(60)
    options: dict[str, Any] = {"bootstrap.servers": servers, "compression.type": load.compression}
    producer = Producer(options | _PRODUCER | ({"transactional.id": topic} if load.aborted else {}))
    if load.aborted:
        producer.init_transactions()
        producer.begin_transaction()
    size = 0
    for number, (partition, key, value, stamp, headers) in enumerate(records(load)):
        size += len(value or b"") + load.headers
        while True:
            try:
                producer.produce(topic, value, key, partition, timestamp=stamp, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        transaction, place = divmod(number + 1, _AT_ONCE)
        if load.aborted and not place:  # every other one is aborted
            (producer.abort_transaction if transaction % 2 else producer.commit_transaction)()
            producer.begin_transaction()
    if load.aborted:
        producer.commit_transaction()
    assert producer.flush(120) == 0
    return size


def bring(load: Load, servers: str, topic: str, lake: Lake) -> dict[str, float]:
    """Bring a topic through the lake; give the CPU seconds of its stages, and what they made."""
    kafka, stream = KafkaResource(bootstrap_servers=servers), contract(load, topic)
    told: dict[str, float] = {}

    def stage(name: str, work: Callable[[], object]) -> None:
        begin = time.process_time()
        work()
        told[name] = told.get(name, 0) + time.process_time() - begin

    def refined(of: Any) -> None:
        refine(lake, of, TILES, run_id="bench", limits=limits(), say=_silent)

    if load.way == "continuous":
        flow = Flow(lake, kafka, stream, "bench", clock=lambda: NOW, say=_silent)
        stage("silver", lambda: flow.run(Event(), caught_up=True))
    else:
        stage(
            "bronze",
            lambda: ingest(lake, kafka, stream, TILES, run_id="bench", limits=limits(), now=NOW, say=_silent),
        )
        stage("silver", lambda: refined(stream))
    milder = contract(replace(load, least=-10), topic)
    if load.way == "again":
        stage("after", lambda: refined(milder))
    if load.way == "replay":
        stage("after", lambda: replay(lake, milder, Choice(), run_id="bench", limits=limits(), say=_silent))
    if isinstance(stream, Changes):
        stage("after", lambda: merge(lake, stream, say=_silent))
    told["peak"] = peak_mb()
    handles = [
        lake.open(t.name)
        for t in (
            tables.bronze(stream),
            tables.silver(stream),
            tables.quarantine(stream),
            tables.losers(stream),
        )
    ]
    told["commits"] = sum(handle.version() for handle in handles if handle)
    told["files"] = sum(len(handle.file_uris()) for handle in handles if handle)
    return told


def _silent(_text: str) -> None:
    """Say nothing."""


def row(name: str, load: Load, size: int, told: dict[str, float]) -> list[str]:
    """Write a row of the table."""
    bronze, silver, after = (told.get(stage, 0.0) for stage in ("bronze", "silver", "after"))
    cpu = bronze + silver
    stages = [f"{bronze:.2f}", f"{silver:.2f}" + (f" + {after:.2f}" if after else "")]
    rates = [f"{load.rows / cpu / 1000:,.1f}", f"{size / cpu / 1e6:,.1f}"]
    made = [f"{told[figure]:,.0f}" for figure in ("peak", "commits", "files")]
    return [name, f"{load.rows:,}", f"{size / load.rows:,.0f}", *rates, *stages, *made]


def main() -> None:
    """Run the loads wanted, or, as a process of its own, one."""
    given = arguments()
    if "case" in given:
        load = LOADS[given["case"]]
        print("TOLD " + json.dumps(bring(load, given["servers"], given["topic"], Lake(given["lake"]))))
        return
    parts = given.get("only", "").split(",")
    rows = []
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder) / "kafka") as kafka:
        for number, name in enumerate(name for name in LOADS if any(part in name for part in parts)):
            load = LOADS[name]
            load = replace(load, rows=max(100, int(load.rows * float(given.get("share", "1")))))
            size = fill(kafka.servers, f"load-{number}", load)
            lake = Path(folder) / "lake"
            command = [
                f"--case={name}",
                f"--servers={kafka.servers}",
                f"--topic=load-{number}",
                f"--lake={lake}",
            ]
            done = subprocess.run(
                [sys.executable, __file__, *command], capture_output=True, text=True, check=False
            )
            shutil.rmtree(lake, ignore_errors=True)
            said = next((line for line in done.stdout.splitlines() if line.startswith("TOLD ")), None)
            if said is None:
                raise SystemExit(f"{name} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
            rows.append(row(name, load, size, json.loads(said.removeprefix("TOLD "))))
            print("  ".join(rows[-1]), flush=True)
    text = f"{machine()}.\n\n{table([*_HEAD, *_MORE], rows)}"
    print(text)
    if given.get("write") == "yes":
        write_section("loads", f"## Loads\n\n{text}")


if __name__ == "__main__":
    main()
