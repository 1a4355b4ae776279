"""All benchmarks, one after the other; `--write=yes` puts their tables into `docs/benchmarks.md`.

Whole, it takes about an hour on two cores; `--small=yes` takes minutes and proves only that they run.
"""

import subprocess
import sys
from pathlib import Path

from measure import arguments

HERE = Path(__file__).parent
WHOLE = (
    ["kafka_to_delta.py"],
    ["freshness.py"],
    ["growth.py"],
    ["loads.py"],
    ["backfill.py"],
    ["backfill_dagster.py"],
    ["decode.py"],
    ["fold.py"],
    ["merge.py"],
    ["merge_versions.py"],
    ["debezium.py"],
    ["reconcile.py", "--rows=100000000"],
)
SMALL = (
    ["kafka_to_delta.py", "--rows=100000", "--rounds=1"],
    ["freshness.py", "--rates=2000", "--seconds=20"],
    ["growth.py", "--rows=100000", "--commits=300", "--keys=1000000"],
    ["loads.py", "--share=0.01"],
    ["backfill.py"],
    ["backfill_dagster.py"],
    ["decode.py"],
    ["fold.py", "--changes=100000"],
    ["merge.py", "--keys=200000", "--rounds=1"],
    ["merge_versions.py", "--keys=200000", "--versions=1.6.0"],
    ["debezium.py", "--keys=20000", "--changes=10000"],
    ["reconcile.py", "--rows=1000000"],
)


def main() -> None:
    """Run them; the first that fails ends it."""
    given = arguments()
    more = ["--write=yes"] if given.get("write") == "yes" else []
    for name, *options in SMALL if given.get("small") == "yes" else WHOLE:
        if not (HERE / name).exists():
            continue
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, str(HERE / name), *options, *more], check=True)


if __name__ == "__main__":
    main()
