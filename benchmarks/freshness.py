"""Freshness: from a record's time in Kafka to the moment when its row can be read in silver, against Spark.

Run `python benchmarks/freshness.py [--rates=5000,20000] [--seconds=180] [--who=sluice,spark]
[--write=yes]`. A producer sends orders at a steady rate, each with its own time as its event time; a
continuous worker, or Spark with a trigger of one second, follows. What is measured is the same for both
and needs neither: the time of each commit file in the table's log, less the event times in the data files
that it added.
"""

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import polars as pl
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from measure import PROJECT, arguments, machine, table, told, write_section
from orders_log import PARTITIONS, value

from demo.broker import EmbeddedKafka

HERE = Path(__file__).parent
SPAN = 0.01  # seconds between two sends
WARM = 10  # seconds at the beginning that do not count
CONTRACT = '''"""Orders, as the benchmark sends them."""

import sys

sys.path.insert(0, {here!r})

from dataclasses import replace

from orders_log import contract
from sluice import Hourly

orders = replace(contract({topic!r}), partitions=Hourly(start={start!r}))
'''


def produce(servers: str, topic: str, rate: int, seconds: int) -> None:
    """Send orders at a rate; a sender that falls behind says so."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "compression.type": "lz4"})
    chance = random.Random(7)
    begin, sent, worst = time.time(), 0, 0.0
    while (passed := time.time() - begin) < seconds:
        due = int(passed * rate)
        now = datetime.now(UTC)
        for number in range(sent, due):
            producer.produce(topic, value(number, now, chance), partition=number % PARTITIONS)
        worst = max(worst, (due - sent) / rate)
        sent = due
        producer.poll(0)
        time.sleep(max(0.0, SPAN - (time.time() - begin - passed)))
    producer.flush(60)
    print(f"SENT {sent} {worst:.3f}", flush=True)


def freshness(place: Path, begin: float) -> pl.Series:
    """Give, in seconds, the age of each row at the time of the commit that brought it."""
    ages = [pl.Series(dtype=pl.Float64)]
    for commit in sorted((place / "_delta_log").glob("*.json")):
        at = commit.stat().st_mtime
        for line in commit.read_text().splitlines():
            added = json.loads(line).get("add")
            if not added or not added.get("dataChange"):
                continue
            stamps = pl.read_parquet(place / _plain(added["path"]), columns=["placed_at"])["placed_at"]
            seconds = stamps.dt.epoch("us") / 1e6
            ages.append((at - seconds).filter(seconds > begin + WARM))
    return pl.concat(ages)


def _plain(path: str) -> str:
    from urllib.parse import unquote  # noqa: PLC0415

    return unquote(path)


def follow(who: str, servers: str, topic: str, place: Path, given: tuple[int, int]) -> tuple[pl.Series, str]:
    """Let one contestant follow a producer; give the ages of its rows and what it cost."""
    rate, seconds = given
    start = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%d-%H:00")
    streams = place / "streams"
    streams.mkdir(parents=True)
    (streams / "orders.py").write_text(CONTRACT.format(here=str(HERE), topic=topic, start=start))
    environment = os.environ | {
        "LAKE_URI": str(place / "lake"),
        "STREAMS_DIR": str(streams),
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "PYTHONPATH": str(PROJECT),
    }
    if who == "spark":
        command = [sys.executable, str(HERE / "spark_job.py"), "--who=typed", "--trigger=1"]
        command += [f"--servers={servers}", f"--topic={topic}", f"--lake={place / 'lake'}"]
        silver = place / "lake" / "typed"
    else:
        command = [sys.executable, "-m", "assets.continuous", "--streams", "orders", "--until", "stopped"]
        silver = place / "lake" / "silver" / "orders"
    worker = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(25 if who == "spark" else 8)  # both are up before the first record
    if worker.poll() is not None:
        raise SystemExit(f"{who} ended before the first record:\n{worker.communicate()[0][-3000:]}")
    begin = time.time()
    sender = [
        sys.executable,
        str(Path(__file__)),
        "--produce=yes",
        f"--servers={servers}",
        f"--topic={topic}",
    ]
    sender += [f"--rates={rate}", f"--seconds={seconds}"]
    sent = subprocess.run(sender, env=environment, capture_output=True, text=True, check=True).stdout
    time.sleep(10)
    cpu, peak = _usage(worker.pid)
    if who == "spark":
        output, _ = worker.communicate("enough\n", timeout=120)
        cost = told(output)
        cpu, peak = cost.cpu, cost.peak_mb
    else:
        worker.send_signal(signal.SIGTERM)
        output, _ = worker.communicate(timeout=120)
    ages = freshness(silver, begin)
    print(f"{who} at {rate}/s: {sent.strip()}, {len(ages)} rows measured", flush=True)
    if not len(ages):
        print(output[-3000:])
    return ages, f"{cpu / seconds:.2f} cores, {peak:,.0f} MB"


def _usage(pid: int) -> tuple[float, float]:
    """Give a process's CPU seconds and peak resident memory in MB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak / 1024


def main() -> None:
    """Let all follow, one after the other; print and write the table."""
    given = arguments()
    rates = [int(rate) for rate in given.get("rates", "5000,20000").split(",")]
    seconds = int(given.get("seconds", "180"))
    if given.get("produce"):
        produce(given["servers"], given["topic"], rates[0], seconds)
        return
    spark = ["spark"] if importlib.util.find_spec("pyspark") else []
    wanted = given["who"].split(",") if "who" in given else ["sluice", *spark]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedKafka(Path(folder) / "kafka")
        broker.start()
        try:
            for rate in rates:
                for who in wanted:
                    topic = f"orders-{who}-{rate}"
                    admin = AdminClient({"bootstrap.servers": broker.servers})
                    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(60)
                    place = Path(folder) / topic
                    ages, cost = follow(who, broker.servers, topic, place, (rate, seconds))
                    at = [f"{ages.quantile(q) or 0:.2f}" for q in (0.5, 0.95, 0.99)]
                    lines.append([who, f"{rate:,}", f"{len(ages):,}", *at, cost])
                    shutil.rmtree(place, ignore_errors=True)
        finally:
            broker.stop()
    head = ["who", "events/s", "rows measured", "p50 s", "p95 s", "p99 s", "cost"]
    intro = (
        f"Steady load for {seconds} s, the first {WARM} s not counted; Spark with a trigger of one second, "
        f"typed only. {machine()}."
    )
    text = "\n".join(["## Freshness", "", intro, "", table(head, lines)])
    print(text)
    if given.get("write") == "yes":
        write_section("freshness", text)


if __name__ == "__main__":
    main()
