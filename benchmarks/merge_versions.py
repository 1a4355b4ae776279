"""The choice of the merge engine, measured with each version of delta-rs: right, how fast, how much memory.

Run `python benchmarks/merge_versions.py [--versions=1.5.0,1.6.0,…] [--keys=2000000] [--write=yes]`. Each
version is installed into a folder of its own that stands before the installed one on the path. Ours and
delta-rs MERGE take the same changes into the same table; what they make is held against the fold over all of
silver. It fails where, with the version that is installed, ours is wrong, or clearly slower or larger.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Cost, arguments, machine, table, told, write_section

HERE = Path(__file__).parent
VERSIONS = ("1.5.0", "1.5.1", "1.6.0", "1.6.1", "1.6.2", "1.6.3")  # and the one that is installed
KINDS = ("ours", "delta-rs")
_CLEARLY = 0.8  # less is not noise
JUDGED_FROM = 1_000_000  # keys: what is fixed in a merge weighs too much in smaller tables


def installed(number: str, place: Path) -> Path | None:
    """Install a version of delta-rs into a folder; None where it cannot be had."""
    folder, uv = place / number, Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*command, f"deltalake=={number}"], capture_output=True, text=True, check=False)
    return folder if done.returncode == 0 else None


def step(who: str, lake: Path, keys: int, delta: Path | None) -> tuple[Cost | None, str]:
    """Run one step with a version of delta-rs; give its cost (None: it failed), and what it printed."""
    given = [f"--who={who}", "--kind=even", f"--lake={lake}", f"--keys={keys}", f"--count={keys // 20}"]
    script = HERE / ("merge_rival.py" if who == "delta-rs" else "merge_contestant.py")
    path = os.pathsep.join([*([str(delta)] if delta else []), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script), *given],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    return (told(done.stdout) if done.returncode == 0 else None), done.stdout + done.stderr


def digest(lake: Path, keys: int, who: str) -> str:
    """Read what a dimension says (`made`), or what it must say (`wanted`), with the installed version."""
    return next(
        (line for line in step(who, lake, keys, None)[1].splitlines() if line.startswith("DIGEST ")), "?"
    )


@dataclass(frozen=True)
class Verdict:
    """What came of one version: for each engine its cost (None: it failed) and what is to be said of it."""

    costs: dict[str, Cost | None]
    says: dict[str, str]

    def line(self, number: str) -> list[str]:
        """Write a line of the table."""
        ours, theirs = self.costs["ours"], self.costs["delta-rs"]
        compared = ["", ""]
        if ours and theirs:
            compared = [f"{theirs.cpu / ours.cpu:.2f}", f"{ours.peak_mb:,.0f} / {theirs.peak_mb:,.0f}"]
        return [number, self.says["ours"], self.says["delta-rs"], *compared]

    def fault(self, *, judged: bool) -> str | None:
        """Say why the choice of the engine does not hold: where it is not `judged`, only by its rows."""
        ours, theirs = self.costs["ours"], self.costs["delta-rs"]
        if ours is None or self.says["ours"] != "right":
            return "ours is wrong with the installed version"
        if (
            judged
            and theirs
            and (theirs.cpu < ours.cpu * _CLEARLY or theirs.peak_mb < ours.peak_mb * _CLEARLY)
        ):
            return "MERGE takes less time, or less memory, with the installed version"
        return None


def tried(filled: Path, keys: int, delta: Path | None, right: str) -> Verdict:
    """Let both engines take the same changes into copies of a lake, with a version of delta-rs."""
    verdict = Verdict({}, {})
    for who in KINDS:
        lake = filled.with_name("own")
        shutil.copytree(filled, lake, copy_function=os.link)
        verdict.costs[who], said = step(who, lake, keys, delta)
        if verdict.costs[who] is None:
            last = (said.strip().splitlines() or [""])[-1]
            verdict.says[who] = f"fails: {last.split(' (')[0][:80]}"  # without the place of a module
        else:
            verdict.says[who] = "right" if digest(lake, keys, "made") == right else "WRONG"
        shutil.rmtree(lake)
    return verdict


def main() -> None:
    """Try each version; print and write the table."""
    given = arguments()
    keys, own = int(given.get("keys", "2000000")), version("deltalake")
    wanted = given["versions"].split(",") if "versions" in given else [v for v in VERSIONS if v != own]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        filled = Path(folder, "lake")
        filled.mkdir()
        for who in ("fill", "send"):
            if step(who, filled, keys, None)[0] is None:
                raise SystemExit(f"{who} failed")
        right = digest(filled, keys, "wanted")
        for number in wanted:
            delta = installed(number, Path(folder))
            gone = [number, "cannot be had", "", "", ""]
            lines.append(tried(filled, keys, delta, right).line(number) if delta else gone)
            print(lines[-1], flush=True)
        verdict = tried(filled, keys, None, right)
    lines.append(verdict.line(f"{own}, installed"))
    title = "## The merge engine, by version of delta-rs"
    intro = f"{keys // 20:,} even changes into {keys:,} rows. {machine()}"
    head = ["deltalake", "ours", "its MERGE", "ours is so many times faster (CPU)", "peak MB, ours / MERGE"]
    text = "\n\n".join([title, intro, table(head, lines)])
    print(text)
    if given.get("write") == "yes":
        write_section("merge-versions", text)
    if fault := verdict.fault(judged=keys >= JUDGED_FROM):
        raise SystemExit(fault)


if __name__ == "__main__":
    main()
