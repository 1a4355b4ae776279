"""What a record and a commit cost as tables grow.

Run `python benchmarks/growth.py [--rows=2000000] [--commits=10000] [--keys=100000000] [--write=yes]`.
Three questions. Does a record cost more when the table has ten times the rows (CPU seconds of the continuous
way, while the table grows from a tenth to the whole)? Does a commit take longer after thousands of them (of
bronze, silver and what stands beside it, with the upkeep of a long run)? How long does half a second of 5,000
events a second take to be decided when `dedupe_within` holds a hundred million keys, against none?
"""

import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from threading import Event

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import polars as pl
from measure import arguments, machine, publish
from orders_log import HOURS, NOW, START, contract, fill, records

from assets.flow import Flow, Pace
from assets.meet import meet
from assets.refine import Refined, judgement
from assets.settle import store
from assets.upkeep import COMMITS, Upkeep
from assets.whole_rows import Rows
from demo.broker import EmbeddedKafka
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import dedupe, tables
from sluice.contract import Events

BATCH = 2_500  # records of half a second at 5,000 a second
FEW = 50  # commits whose median counts
FEW_RECORDS = 20  # of a commit, where commits are counted
AT_ONCE = 2_000_000  # keys put into one file


def by_records(place: Path, rows: int) -> tuple[float, float]:
    """Give the CPU microseconds a record from a tenth of `rows` to a fourth, and over the last sixth."""
    broker = EmbeddedKafka(place / "kafka")
    broker.start()
    try:
        fill(broker.servers, "orders", rows)
        seen: list[tuple[int, float]] = []

        def told(done: Refined) -> None:
            read = sum(account.read for account in done.accounts)
            seen.append((read + (seen[-1][0] if seen else 0), time.process_time()))

        kafka = KafkaResource(bootstrap_servers=broker.servers)
        lake = Lake(str(place / "lake"))
        pace = Pace(interval=2.0, rows=max(1, rows // 25))
        flow = Flow(lake, kafka, contract("orders"), "bench", pace, clock=lambda: NOW, say=_silent, told=told)
        flow.run(Event(), caught_up=True)
    finally:
        broker.stop()

    def cost(first: float, last: float) -> float:
        part = [(count, cpu) for count, cpu in seen if first * rows <= count <= last * rows]
        return (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0]) * 1e6

    return cost(0.08, 0.25), cost(0.83, 1.0)


def by_commits(place: Path, commits: int) -> tuple[float, float, float]:
    """Give the milliseconds of an early commit, of a late one, and of upkeep (a commit's share).

    A commit is one of each table that a long run commits to with a batch of `FEW_RECORDS`.
    """
    broker = EmbeddedKafka(place / "kafka-commits")
    broker.start()
    try:
        fill(broker.servers, "orders", commits * FEW_RECORDS)
        kafka, lake = KafkaResource(bootstrap_servers=broker.servers), Lake(str(place / "commits"))
        pace = Pace(interval=2.0, rows=FEW_RECORDS)
        flow = Flow(lake, kafka, contract("orders"), "bench", pace, clock=lambda: NOW, say=_silent)
        upkeep = Upkeep(lake, flow, _silent)
        took: list[float] = []
        tending, last = 0.0, time.perf_counter()

        def told(done: Refined) -> None:
            nonlocal tending, last
            took.append(time.perf_counter() - last)
            upkeep.heard(done)
            if len(took) % COMMITS == 0:  # what a thread of its own does every few seconds
                begin = time.perf_counter()
                upkeep.once()
                tending += time.perf_counter() - begin
            last = time.perf_counter()

        flow.told = told
        flow.run(Event(), caught_up=True)
    finally:
        broker.stop()
    early, late = median(took[10 : 10 + FEW]), median(took[-FEW:])
    return early * 1e3, late * 1e3, tending / len(took) * 1e3


def by_keys(place: Path, keys: int) -> tuple[float, float]:
    """Give the milliseconds in which a batch meets silver, when silver has no keys, and when it has many."""
    stream = contract("orders")
    same = dedupe.identity(stream)
    lake = Lake(str(place / "keys"))
    batches = [
        judged_rows(stream, BATCH).with_columns(order_id=pl.format(f"new-{n}-{{}}", "order_id"))
        for n in range(10)
    ]

    def met() -> float:
        took = []
        for batch in batches:
            begin = time.perf_counter()
            whole = Rows(lambda at: at, batch.clear())  # nothing is met, so nothing is read again
            meet(lake, stream, lake.ensure(tables.silver(stream)), same, batch, whole)
            took.append(time.perf_counter() - begin)
        return median(took) * 1e3

    empty = met()
    sample = judged_rows(stream, 1)
    for first in range(0, keys, AT_ONCE):
        numbers = pl.select(pl.int_range(first, min(first + AT_ONCE, keys)).alias("n"))
        rows = sample.join(numbers, how="cross").with_columns(order_id=pl.format("ord-{}", "n")).drop("n")
        handle = lake.ensure(tables.silver(stream))
        store(lake, stream, handle, rows, rows.clear())
    return empty, met()


def judged_rows(stream: Events, count: int) -> pl.DataFrame:
    """Give silver's rows of some good orders."""
    found = list(islice(records(count, bad=0), count))
    sent = {
        "partition": [partition for partition, _, _ in found],
        "offset": list(range(count)),
        "timestamp_ms": [stamp for _, _, stamp in found],
        "value": [value for _, value, _ in found],
        "topic": ["orders"] * count,
        "epoch": [1] * count,
        "tile": ["2026-01-01-00:00"] * count,
        "timestamp": [START] * count,
        "ingested_at": [START] * count,
    }
    frame = pl.DataFrame({name: sent.get(name, [None] * count) for name in tables.BRONZE}, tables.BRONZE)
    return judgement(stream, frame).rows


def _silent(_text: str) -> None:
    """Say nothing."""


def main() -> None:
    """Answer the three questions, and write the table."""
    given = arguments()
    rows, commits = int(given.get("rows", "2000000")), int(given.get("commits", "10000"))
    keys = int(given.get("keys", "100000000"))
    lines = []

    def line(question: str, unit: str, answer: Callable[[], tuple[float, ...]], goal: str) -> None:
        before, after, *rest = answer()
        told = [question, f"{before:.2f} {unit}", f"{after:.2f} {unit}", f"{after / before:.2f}", goal]
        told[0] += "".join(f"; upkeep beside it, a commit's share: {more:.1f} {unit}" for more in rest)
        print(*told, flush=True)
        lines.append(told)

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tenth = f"a record, table of {rows // 10:,}, of {rows:,} rows"
        line(tenth, "CPU µs", lambda: by_records(place, rows), "1.2")
        line(f"a commit, after 10, after {commits:,}", "ms", lambda: by_commits(place, commits), "2")
        line(f"{BATCH:,} keys met, none stored, {keys:,}", "ms", lambda: by_keys(place, keys), "")
    head = ["what", "before", "after", "ratio", "goal"]
    publish("growth", f"## Growth\n\n{HOURS} tiles, one event date. {machine()}.", head, lines)


if __name__ == "__main__":
    main()
