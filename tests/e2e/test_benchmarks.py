"""Benchmarks of the path of the data, small: what we claim can be measured again by anyone.

That of the merge engine fails where the choice of it does not hold any more: its rows, its time, its memory.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(600)]
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
OURS = "read,raw,bronze,flow,bare"


@pytest.mark.usefixtures("kafka_jars")
@pytest.mark.parametrize(
    ("command", "rows"),
    [
        (["kafka_to_delta.py", "--rows=20000", "--rounds=1", f"--who={OURS}"], 5),
        (["growth.py", "--rows=50000", "--commits=120", "--keys=100000"], 3),
        (["fold.py", "--changes=20000"], 6),
        (["merge_versions.py", "--keys=1000000", "--versions=1.5.0"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_small_benchmark_runs(command: list[str], rows: int):
    """The issue's section 5: a small smoke version runs in CI; its table has a row for each contestant."""
    script, *options = command
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    told = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(told) >= rows + 1, done.stdout
