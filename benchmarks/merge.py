"""Merging changes into dimensions, side by side: us, a mere copy of the same files, and the MERGE of others.

Run `python benchmarks/merge.py [--keys=20000000] [--rounds=2] [--who=ours,floor,delta-rs,spark]
[--case=even,backlog,hot,late] [--write=yes]`. Each contestant is a process of its own on a lake of its own,
made of hard links to one that is filled once; they take turns. `--keys` is the size of the first case, of
which the sizes of the others are parts or multiples.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Cost, arguments, machine, middle, table, told, write_section

HERE = Path(__file__).parent
WHOLE = 20_000_000  # keys of the first case


@dataclass(frozen=True)
class Case:
    """A lake and what comes next; sizes are parts of the first case's keys."""

    text: str
    kind: str
    keys: float
    count: float
    who: tuple[str, ...]


CASES = {
    "even": Case("even changes", "even", 1, 0.01, ("floor", "ours", "delta-rs", "spark")),
    "backlog": Case("even changes, a backlog", "even", 3, 0.1, ("floor", "ours")),
    "hot": Case("changes of 5 % of the keys, in one bucket", "hot", 3, 0.01, ("floor", "ours", "delta-rs")),
    "late": Case("late changes of a history, ten versions a key", "late", 0.05, 0.005, ("floor", "ours")),
}
SCRIPTS = {"spark": "spark_merge.py", "delta-rs": "merge_rival.py"}
NAMES = {
    "ours": "Sluice",
    "floor": "the same files read and written back",
    "delta-rs": "delta-rs MERGE",
    "spark": "Spark MERGE, warm",
}


def run(who: str, case: Case, lake: Path, keys: int, count: int) -> tuple[Cost, str]:
    """Run one step or contestant in a process of its own; give its cost, and its profile if it tells one."""
    script = HERE / SCRIPTS.get(who, "merge_contestant.py")
    given = [f"--who={who}", f"--kind={case.kind}", f"--lake={lake}", f"--keys={keys}", f"--count={count}"]
    done = subprocess.run([sys.executable, str(script), *given], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    profile = next((line for line in done.stdout.splitlines() if line.startswith("PROFILE ")), "")
    return told(done.stdout), profile.removeprefix("PROFILE ")


def contest(case: Case, filled: Path, wanted: list[str], sizes: tuple[int, int], rounds: int) -> str:
    """Let all take turns on one case; give its part of the report."""
    keys, count = sizes
    run("send", case, filled, keys, count)
    costs: dict[str, list[Cost]] = {who: [] for who in case.who if who in wanted}
    own = filled.with_name("own")
    for number in range(rounds):
        for who, mine in costs.items():
            shutil.copytree(filled, own, copy_function=os.link)
            mine.append(run(who, case, own, keys, count)[0])
            shutil.rmtree(own)
            cost = mine[-1]
            told_of = f"{case.text}, {who}: {cost.seconds:.1f} s, {cost.cpu:.1f} CPU s"
            print(f"round {number + 1} {told_of}, {cost.peak_mb:,.0f} MB", flush=True)
    _, profile = run("profile", case, filled, keys, count)  # and the next case begins where this one ends
    lines = []
    for who, runs in costs.items():
        low, seconds, high = middle(runs, lambda c: c.seconds)
        _, cpu, _ = middle(runs, lambda c: c.cpu)
        peak = max(cost.peak_mb for cost in runs)
        figures = (
            f"{seconds:.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{count / seconds:,.0f}",
            f"{cpu:.1f}",
            f"{peak:,.0f}",
        )
        lines.append([NAMES[who], *figures])
    rows = keys * 10 if case.kind == "late" else keys
    head = ["who", "s", "least-greatest", "changes/s", "CPU s", "peak MB"]
    title = f"### {count:,} {case.text}, into {rows:,} rows"
    return "\n".join([title, "", table(head, lines), "", *_ratios(costs), f"- where its CPU goes: {profile}"])


def _ratios(costs: dict[str, list[Cost]]) -> list[str]:
    """Tell how many times faster we are, by the clock and by CPU."""
    lines = []
    for other in [who for who in costs if who != "ours" and "ours" in costs]:
        clock, cpu = (
            middle(costs[other], figure)[1] / middle(costs["ours"], figure)[1]
            for figure in (lambda c: c.seconds, lambda c: c.cpu)
        )
        lines.append(f"- against {NAMES[other]}: {clock:.2f} times as fast, {cpu:.2f} by CPU seconds")
    return lines


def main() -> None:
    """Fill each lake once, let all take turns on each case, print and write the report."""
    given = arguments()
    whole, rounds = int(given.get("keys", str(WHOLE))), int(given.get("rounds", "2"))
    peers = ["floor", "ours", "delta-rs", *(["spark"] if importlib.util.find_spec("pyspark") else [])]
    wanted = given["who"].split(",") if "who" in given else peers
    chosen = given["case"].split(",") if "case" in given else list(CASES)
    parts = [
        "## Merging",
        (
            f"Accounts of seven columns (nine as stored), 16 buckets; {rounds} rounds, median. {machine()}. "
            "The mere copy reads and writes, by the same functions, the files that must be written again."
        ),
    ]
    with tempfile.TemporaryDirectory(dir=given.get("place")) as folder:
        filled: dict[tuple[bool, int], Path] = {}
        for name in chosen:
            case = CASES[name]
            keys, count = int(whole * case.keys), int(whole * case.count)
            lake = filled.get((case.kind == "late", keys))
            if lake is None:
                lake = filled[case.kind == "late", keys] = Path(folder) / name / "lake"
                lake.mkdir(parents=True)
                cost, _ = run("fill", case, lake, keys, count)
                print(f"{keys:,} keys filled in {cost.seconds:.0f} s, {cost.peak_mb:,.0f} MB", flush=True)
            parts.append(contest(case, lake, wanted, (keys, count), rounds))
    text = "\n\n".join(parts)
    print(text)
    if given.get("write") == "yes":
        write_section("merge", text)


if __name__ == "__main__":
    main()
