"""Debezium's changes: how fast they are decoded, and how fast they go from Kafka into a table of 1 M rows.

Run `python benchmarks/debezium.py [--keys=1000000] [--changes=500000] [--write=yes]`. Decoding is measured
alone, with and without the schema block, by machine code and without it, in records a CPU second. Live: a
topic whose table is merged already gets even changes; a run as the schedule starts it brings them through
bronze, silver and the dimension, each a function that its asset calls; Dagster's own start is not in it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import polars as pl
from debezium_log import (
    NOW,
    PARTITIONS,
    START,
    TILES,
    changes,
    contract,
    fill,
    schema_block,
    snapshot,
    wrapped,
)
from measure import arguments, machine, measured, table, write_section
from topics import make

from assets.bronze import limits
from assets.ingest import ingest
from assets.merge import merge
from assets.refine import refine
from demo.broker import EmbeddedKafka
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import tables
from sluice.decode_changes import decode_changes

TOPIC = "bank.public.accounts"
ROWS, STRICT_ROWS = 100_000, 10_000  # decoded at once; by the strict way
TURNS = 3
PARTS = ("bronze", "silver", "dimension")


def records(rows: int, *, block: bool) -> pl.DataFrame:
    """Make records as bronze keeps them."""
    schema = schema_block()
    told = list(islice(changes(1_000_000, rows), rows))
    values = [wrapped(value, schema) if block else value for _, value in told]
    return pl.DataFrame(
        {
            "topic": TOPIC,
            "epoch": 1,
            "partition": 0,
            "offset": pl.int_range(rows, eager=True),
            "timestamp": START,
            "key": pl.Series([f'{{"id":{key}}}' for key, _ in told]).cast(pl.Binary),
            "value": pl.Series(values).cast(pl.Binary),
            "headers": pl.Series([[]] * rows, dtype=tables.BRONZE["headers"]),
            "tile": TILES[0],
        }
    ).select(pl.col(name).cast(tables.BRONZE[name]) for name in (
        "topic", "epoch", "partition", "offset", "timestamp", "key", "value", "headers", "tile"))  # fmt: skip


def decoding() -> dict[str, list[float]]:
    """Measure records a CPU second of each way, by form."""
    stream, found = contract(), {}
    for block in (False, True):
        given = records(ROWS, block=block)
        size = int(given["value"].bin.size().mean() or 0)  # type: ignore[arg-type]  # a number
        rates = []
        for native in (True, False):
            batch = given if native else given.head(STRICT_ROWS)
            costs = []
            for _ in range(TURNS):
                begin = time.process_time()
                decoded = decode_changes(stream, batch, native=native)
                costs.append(time.process_time() - begin)
                assert decoded.rows.height == batch.height
            rates.append(batch.height / sorted(costs)[TURNS // 2])
        name = f"{'with' if block else 'without'} schema block, {size:,} bytes a value"
        found[name] = rates
    return found


def run(servers: str, lake: Lake) -> dict[str, tuple[float, float, int, float]]:
    """Do what a scheduled run does; give wall and CPU seconds and records of each layer."""
    stream, kafka = contract(TOPIC), KafkaResource(bootstrap_servers=servers)

    def refined() -> int:
        told = refine(lake, stream, TILES, run_id="bench", limits=limits(), say=_silent)
        return sum(a.read for a in told.accounts)

    steps: dict[str, Callable[[], int]] = {
        "bronze": lambda: (
            ingest(lake, kafka, stream, TILES, run_id="bench", limits=limits(), now=NOW, say=_silent).rows
        ),
        "silver": refined,
        "dimension": lambda: merge(lake, stream, say=_silent).rows,
    }
    costs = {name: measured(step) for name, step in steps.items()}
    return {name: (c.seconds, c.cpu, c.records, c.peak_mb) for name, c in costs.items()}


def _silent(_text: str) -> None:
    """Say nothing."""


def part(servers: str, lake: str) -> dict[str, list[float]]:
    """Run in a process of its own."""
    given = [sys.executable, __file__, f"--servers={servers}", f"--lake={lake}"]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the run failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))
    told: dict[str, list[float]] = json.loads(line.removeprefix("TOLD "))
    return told


def live(keys: int, count: int) -> dict[str, list[float]]:
    """Fill a table, then measure the run that brings the changes."""
    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedKafka(Path(folder) / "kafka")
        broker.start()
        try:
            make(broker.servers, TOPIC, PARTITIONS)
            fill(broker.servers, TOPIC, snapshot(keys), START)
            before = part(broker.servers, f"{folder}/lake")
            assert before["dimension"][2] == keys
            fill(broker.servers, TOPIC, changes(keys, count), START + timedelta(hours=1))
            told = part(broker.servers, f"{folder}/lake")
        finally:
            broker.stop()
    assert told["silver"][2] == count
    return told


def report(rates: dict[str, list[float]], told: dict[str, list[float]], keys: int, count: int) -> str:
    """Write the tables."""
    lines = [[name, *(f"{rate / 1000:,.0f}" for rate in both)] for name, both in rates.items()]
    alone = count / next(iter(rates.values()))[0]
    head = ["1,000 records a CPU second", "machine code", "Python"]
    seconds, cpu = (sum(told[name][n] for name in PARTS) for n in (0, 1))
    parts = [
        [name, f"{told[name][0]:.2f}", f"{told[name][1]:.2f}", f"{told[name][1] / cpu:.0%}"] for name in PARTS
    ]
    peak = max(told[name][3] for name in PARTS)
    verdict = (
        f"**{count / seconds:,.0f} changes a second** ({count / cpu:,.0f} a CPU second) from Kafka into the "
        f"dimension, the goal being 100,000; at most {peak:,.0f} MB. Decoding alone would take about "
        f"{alone:.1f} of silver's CPU seconds."
    )
    intro = (
        f"{count:,} even changes (80 % updates, 15 % inserts, 5 % deletes; PostgreSQL, 11 columns) into a "
        f"table of {keys:,} rows that is merged already, 4 Kafka partitions, one run. {machine()}."
    )
    split = table(["layer", "seconds", "CPU seconds", "share of CPU"], parts)
    return "\n".join(["## Debezium", "", intro, "", table(head, lines), "", split, "", verdict])


def main() -> None:
    """Measure; print and write the tables."""
    given = arguments()
    if "lake" in given:
        told = run(given["servers"], Lake(given["lake"]))
        print("TOLD " + json.dumps(told), flush=True)
        return
    keys, count = int(given.get("keys", "1000000")), int(given.get("changes", "500000"))
    text = report(decoding(), live(keys, count), keys, count)
    print(text)
    if given.get("write") == "yes":
        write_section("debezium", text)


if __name__ == "__main__":
    main()
