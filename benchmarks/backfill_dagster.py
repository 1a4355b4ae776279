"""A backfill through Dagster, as people launch it: `benchmarks/backfill_dagster.py --tiles=1000`.

One run of `dagster asset materialize` over a range of hourly tiles of twenty records: bronze, silver,
quarantine and losers with their checks, on each event log: our own in SQLite and PostgreSQL
(`resources/event_log.py`), and with `--plain=yes` Dagster's, too. PostgreSQL needs dagster-postgres.
Each run has a lake of its own; CPU seconds are those of the run's process, not of brokers and databases.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import topics
from measure import PROJECT, arguments, machine, table, write_section

from demo.broker import EmbeddedKafka
from demo.postgres import Postgres

RECORDS = 20  # a tile
START = datetime(2024, 1, 1, tzinfo=UTC)
CONTRACT = '''"""Readings."""

import pandera.polars as pa
import polars as pl

from sluice import Events, Hourly, Json


class Reading(pa.DataFrameModel):
    """A reading of a meter."""

    id: int
    at: pl.Datetime("us", "UTC")


readings = Events(
    topic="readings", value=Json(), schema=Reading, key="id", event_time="at",
    partitions=Hourly(start="2024-01-01"),
)
'''
SELECTED = ",".join(f"{layer}/readings" for layer in ("bronze", "silver", "quarantine", "losers"))
OWN_SQLITE = """
event_log_storage:
  module: resources.event_log
  class: SqliteEventLog
  config: {{base_dir: {home}/history/runs}}
"""
PLAIN_POSTGRES = """
storage:
  postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}
"""


def records(tiles: int) -> Iterator[dict[str, Any]]:
    """Make the topic's records."""
    for number in range(tiles * RECORDS):
        at = START + timedelta(minutes=60 / RECORDS * number)
        value = f'{{"id": {number}, "at": "{at.isoformat()}"}}'.encode()
        yield {"value": value, "partition": 0, "timestamp": int(at.timestamp() * 1000)}


def run(folder: Path, servers: str, tiles: int, config: str, dsn: str) -> list[str]:
    """Backfill a lake of its own; give tiles a second and a CPU second, and the peak of memory in MB."""
    home, streams = folder / "home", folder / "streams"
    home.mkdir(parents=True)
    streams.mkdir()
    (streams / "readings.py").write_text(CONTRACT)
    (home / "dagster.yaml").write_text(config.format(home=home) if "{home}" in config else config)
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "STREAMS_DIR": str(streams),
        "LAKE_URI": str(folder / "lake"),
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "DAGSTER_POSTGRES_URL": dsn.replace("postgresql:", "postgresql+psycopg2:"),
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
    }
    last = START + timedelta(hours=tiles - 1)
    dagster = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "definitions"]
    asked = ["--select", SELECTED, "--partition-range", f"{START:%Y-%m-%d-%H:%M}...{last:%Y-%m-%d-%H:%M}"]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = 0
    with (folder / "said").open("w") as said:
        child = subprocess.Popen(
            [*dagster, *asked], cwd=PROJECT, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        while child.poll() is None:
            status = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            peak = max(
                [peak, *(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM:"))]
            )
            time.sleep(0.2)
    assert child.returncode == 0, (folder / "said").read_text()[-3000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [f"{tiles / (time.perf_counter() - began):,.0f}", f"{tiles / cpu:,.0f}", f"{peak:,}"]


def main() -> None:
    """Run them one after the other."""
    options = arguments()
    tiles = int(options.get("tiles", "1000"))
    usual = (PROJECT / "deploy" / "dagster.yaml").read_text()
    logs = {"SQLite, many events at once": usual + OWN_SQLITE}
    if options.get("plain") == "yes":
        logs["SQLite, Dagster's own"] = usual
    if find_spec("dagster_postgres"):
        own = (PROJECT / "deploy" / "dagster.postgres.yaml").read_text()
        logs["PostgreSQL, many events at once"] = own
        if options.get("plain") == "yes":
            logs["PostgreSQL, dagster-postgres as it comes"] = usual + PLAIN_POSTGRES
    rows = []
    with tempfile.TemporaryDirectory() as scratch, EmbeddedKafka(Path(scratch) / "kafka") as broker:
        topics.make(broker.servers, "readings", 1)
        topics.send(broker.servers, "readings", records(tiles))
        for number, (name, config) in enumerate(logs.items()):
            folder = Path(scratch) / str(number)
            if "PostgreSQL" in name:
                with Postgres() as postgres:
                    rows.append([name, *run(folder, broker.servers, tiles, config, postgres.dsn)])
            else:
                rows.append([name, *run(folder, broker.servers, tiles, config, "")])
            print(*rows[-1], sep=" | ", flush=True)
    header = ["event log", "tiles a second", "tiles a CPU second", "peak MB"]
    text = (
        f"## A backfill through Dagster\n\n`benchmarks/backfill_dagster.py --tiles={tiles}`: one run over"
        f" {tiles:,} hourly tiles of {RECORDS} records, four assets and eight checks, with its start."
        f" {machine()}.\n\n{table(header, rows)}"
    )
    if options.get("write") == "yes":
        write_section("backfill-dagster", text)


if __name__ == "__main__":
    main()
