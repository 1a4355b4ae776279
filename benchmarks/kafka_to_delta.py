"""Kafka to Delta, side by side: the read limit, us, us without the promises, and Spark, on one topic.

Run `python benchmarks/kafka_to_delta.py [--rows=2000000] [--rounds=3] [--who=read,bronze,…]
[--write=yes]`. Every contestant is a process of its own and a lake of its own; they take turns, so that
what else the machine does hits all alike. CPU seconds are the better measure on a shared machine; the
broker's are not counted. With `--write=yes` the table goes into `docs/benchmarks.md`.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Cost, arguments, machine, middle, table, told, write_section
from orders_log import PARTITIONS, fill

from demo.broker import EmbeddedKafka

HERE = Path(__file__).parent
OURS = {
    "read": "the read limit: our reader alone, its records dropped",
    "client": "librdkafka through its Python client, nothing taken from the records",
    "raw": "our reader to raw Delta, nothing else",
    "bronze": "bronze",
    "silver": "bronze + silver, scheduled: decode, validate, dedupe, quarantine, ledger",
    "flow": "bronze + silver, continuous until caught up",
    "bare": "the same without ids, accounts, side tables and checks",
}
SPARK = {"spark-raw": "Spark, raw", "spark-typed": "Spark, typed (no dedupe, no quarantine, no account)"}


def contest(who: str, servers: str, topic: str, place: Path) -> Cost:
    """Run one contestant in a process of its own."""
    script = HERE / ("spark_job.py" if who in SPARK else "contestant.py")
    lake = place / who
    shutil.rmtree(lake, ignore_errors=True)
    lake.mkdir(parents=True)
    given = [
        f"--who={who.removeprefix('spark-')}",
        f"--servers={servers}",
        f"--topic={topic}",
        f"--lake={lake}",
    ]
    done = subprocess.run([sys.executable, str(script), *given], capture_output=True, text=True, check=False)
    shutil.rmtree(lake, ignore_errors=True)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return told(done.stdout)


def report(costs: dict[str, list[Cost]], rows: int, size: int, rounds: int) -> str:
    """Write the table and the ratios."""
    lines = []
    for who, runs in costs.items():
        low, rate, high = middle(runs, lambda c: c.records / c.seconds)
        _, per_cpu, _ = middle(runs, lambda c: c.records / c.cpu)
        peak = max(run.peak_mb for run in runs)
        spread = f"{low / 1000:,.0f}-{high / 1000:,.0f}"
        name = (OURS | SPARK)[who]
        lines.append([name, f"{rate / 1000:,.0f}", spread, f"{per_cpu / 1000:,.0f}", f"{peak:,.0f}"])
    head = ["who", "1,000 records/s", "least-greatest", "1,000 records a CPU second", "peak MB"]
    ratios = [
        f"- {text}: {ratio:.2f}"
        for text, one, other, figure in (
            ("bronze against the same reader writing raw Delta", "bronze", "raw", "wall"),
            ("bronze against Spark raw, records a CPU second", "bronze", "spark-raw", "cpu"),
            (
                "bronze + silver (scheduled) against Spark typed, records a CPU second",
                "silver",
                "spark-typed",
                "cpu",
            ),
            (
                "bronze + silver (continuous) against Spark typed, records a CPU second",
                "flow",
                "spark-typed",
                "cpu",
            ),
            ("CPU of exactly-once, ledger and checks (with / without)", "bare", "flow", "cpu"),
        )
        if (ratio := _ratio(costs, one, other, figure))
    ]
    intro = (
        f"{rows:,} orders ({size / rows:.0f} bytes a value, nested items, 1 % bad, 0.5 % sent twice), "
        f"{PARTITIONS} Kafka partitions, lz4; {rounds} rounds, median. {machine()}."
    )
    return "\n".join(["## Kafka to Delta", "", intro, "", table(head, lines), "", *ratios])


def _ratio(costs: dict[str, list[Cost]], one: str, other: str, figure: str) -> float | None:
    if one not in costs or other not in costs:
        return None

    def speed(cost: Cost) -> float:
        return cost.records / (cost.cpu if figure == "cpu" else cost.seconds)

    return middle(costs[one], speed)[1] / middle(costs[other], speed)[1]


def main() -> None:
    """Fill the topic, let all take turns, print and write the table."""
    given = arguments()
    rows, rounds = int(given.get("rows", "2000000")), int(given.get("rounds", "3"))
    spark = list(SPARK) if importlib.util.find_spec("pyspark") else []
    wanted = given["who"].split(",") if "who" in given else [*OURS, *spark]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        broker = EmbeddedKafka(place / "kafka")
        broker.start()
        try:
            print(f"filling a topic with {rows:,} orders ...", flush=True)
            size = fill(broker.servers, "orders", rows)
            costs: dict[str, list[Cost]] = {who: [] for who in wanted}
            for number in range(rounds):
                for who in wanted:
                    cost = contest(who, broker.servers, "orders", place)
                    costs[who].append(cost)
                    rate = cost.records / cost.seconds / 1000
                    print(f"round {number + 1} {who}: {rate:,.0f}k/s, {cost.cpu:.1f} CPU s", flush=True)
        finally:
            broker.stop()
    text = report(costs, rows, size, rounds)
    print(text)
    if given.get("write") == "yes":
        write_section("kafka-to-delta", text)


if __name__ == "__main__":
    main()
