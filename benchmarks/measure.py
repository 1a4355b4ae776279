"""What a piece of work costs: seconds, CPU seconds, and the most memory that its process had."""

import json
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

PROJECT = Path(__file__).resolve().parents[1]
REPORT = PROJECT / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Cost:
    """One run: records, wall and CPU seconds, peak resident memory of the process in MB."""

    records: int
    seconds: float
    cpu: float
    peak_mb: float


def measured(work: Callable[[], int]) -> Cost:
    """Do work that gives its number of records."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    records = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(records, time.perf_counter() - begin, cpu, peak_mb())


def peak_mb() -> float:
    """Give the most memory that this program has held; `ru_maxrss` would count who started it, too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kib = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(kib) / 1024


def tell(cost: Cost) -> None:
    """Print a cost as the one line of JSON that the parent process reads."""
    print("COST " + json.dumps(asdict(cost)), flush=True)


def told(output: str) -> Cost:
    """Read what `tell` printed."""
    line = next(line for line in output.splitlines() if line.startswith("COST "))
    return Cost(**json.loads(line.removeprefix("COST ")))


def middle(costs: list[Cost], figure: Callable[[Cost], float]) -> tuple[float, float, float]:
    """Give least, median and greatest of a figure."""
    values = [figure(cost) for cost in costs]
    return min(values), median(values), max(values)


def machine() -> str:
    """Name the machine and the versions of what ran."""
    names = ("polars", "pyarrow", "deltalake", "duckdb", "confluent-kafka", "dagster", "pyspark")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{cores} cores, {system}, {', '.join(found)}"


def write_section(name: str, text: str) -> None:
    """Put a section of `docs/benchmarks.md` in the place of its last one, between its marks."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    there = REPORT.read_text() if REPORT.exists() else "# Benchmarks\n"
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in there:
        there = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: section, there, flags=re.DOTALL)
    else:
        there = f"{there.rstrip()}\n\n{section}\n"
    REPORT.write_text(there)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a table in markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def publish(name: str, intro: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a table below its title and intro; with `--write=yes` it is a section of `docs/benchmarks.md`."""
    text = "\n".join([intro, "", table(header, rows)])
    print(text)
    if arguments().get("write") == "yes":
        write_section(name, text)


def arguments() -> Mapping[str, str]:
    """Give the options of the command line: `--rows=1000` is `{"rows": "1000"}`."""
    return dict(option.removeprefix("--").split("=", 1) for option in sys.argv[1:] if "=" in option)
