"""The main job: a real Kafka, a shop's records, every layer materialized by Dagster, and the proof.

`make demo` runs it. A second time it produces nothing, adds nothing, and says so. What the lake holds in the
end is held against a computation in plain Python of the same records.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from demo.kafka import DemoKafka, start_kafka
from demo.message import TOPICS
from demo.shop import generate
from demo.verify import report, verify
from resources.lake import lake_from_settings
from resources.settings import PROJECT

SEED = 20260101
START = datetime(2026, 1, 5, tzinfo=UTC)
HOURS = 30
ORDERS_PER_HOUR = 300
PARTITIONS = 3
_LOG = PROJECT / ".dagster" / "demo.log"
_SHOWN = ("records so far", "records decided so far", "Check ", "another run")


def main() -> int:
    """Run the demo; returns the exit code."""
    began = time.monotonic()
    with start_kafka() as kafka:
        os.environ["KAFKA_BOOTSTRAP_SERVERS"] = kafka.servers
        messages = list(generate(SEED, START, HOURS, ORDERS_PER_HOUR))
        produced = _produce(kafka, messages)
        first, last = START, START + timedelta(hours=HOURS)
        hours = f"{_hour(first)}...{_hour(last)}"
        layers = ("bronze", "silver", "quarantine", "losers")
        _materialize("bronze and silver, tile by tile", " or ".join(f"group:{g}" for g in layers), hours)
        _materialize("dimensions: history of customers and products", "group:dimensions")
        dates = f"{(first - timedelta(days=1)).date()}...{last.date()}"
        _materialize("gold by dbt: written, audited, published", "group:gold", dates)
    lake = lake_from_settings()
    wrong = verify(lake, messages)
    print(report(lake, produced=produced, seconds=time.monotonic() - began))
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    if not wrong:
        print("Every number above equals a computation in plain Python of the same records.\n")
        print("Look at it:   make dev   (then http://127.0.0.1:3000)")
        print("Ask where a record is:   make trace STREAM=orders KEY=<order_id>")
    return 1 if wrong else 0


def _hour(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d-%H:%M")


def _produce(kafka: DemoKafka, messages: Sequence[object]) -> int:
    """Send the shop's records, unless the topics hold them already; returns how many were sent."""
    for topic in TOPICS:
        kafka.create_topic(topic, partitions=PARTITIONS, config={"retention.ms": "-1"})
    held = sum(kafka.count(topic) for topic in TOPICS)
    if held >= len(messages):
        _say(f"Kafka holds the shop's {held:,} records already; nothing is sent twice")
        return 0
    _say(f"sending {len(messages):,} records of the shop to Kafka")
    kafka.produce(messages)
    return len(messages)


def _materialize(what: str, selection: str, partitions: str | None = None) -> None:
    """Materialize assets by Dagster, as a person would, showing what moves."""
    _say(what)
    command = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize", "-m", "definitions"]
    command += ["--select", selection]
    if partitions:
        command += ["--partition-range", partitions]
    _LOG.parent.mkdir(parents=True, exist_ok=True)
    with (
        _LOG.open("a") as log,
        subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run,
    ):
        for line in run.stdout or ():
            log.write(line)
            if any(word in line for word in _SHOWN):
                print("    " + line.strip().rpartition(" - ")[2][:100], flush=True)
    if run.returncode:
        print(_LOG.read_text()[-4000:], file=sys.stderr)
        raise SystemExit(f"materializing {selection} failed; the whole log is in {_LOG}")


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
