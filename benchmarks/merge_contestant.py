"""One contestant of `merge.py`, in a process of its own, on a lake of its own; says what it cost.

`ours`: the merge as the asset calls it. `floor`: the files that `ours` would write again are read and written
back by the same functions, and committed, with nothing else done. `profile`: `ours`, one bucket at a time,
and where its CPU went. `made`, `wanted`: what a dimension says, and must say, as a digest.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import polars as pl
from measure import arguments, measured, tell
from merge_lake import HOT, contract, fill, send

import assets.folding
import assets.merge
from assets.merge import merge
from resources import new_files
from resources.data_files import DataFiles
from resources.lake import Lake
from sluice import tables
from sluice.history.scd2 import fold


def ours(lake: Lake, kind: str) -> None:
    """Merge what silver has more."""
    merge(lake, contract(history=kind == "late"), say=lambda _: None)


def floor(lake: Lake, kind: str) -> None:
    """Read and write back, two files at a time."""
    handle = lake.ensure(tables.dimension(contract(history=kind == "late")))
    files = DataFiles(lake, handle)
    listed = files.listed()
    touched = listed.filter(value=HOT) if kind == "hot" else listed

    def again(file: dict[str, Any]) -> list[Any]:
        path, size, value = file["path"], file["size"], file["value"]
        rows = files.read([path]).collect()
        return [files.gone(path, size, value), *(new.action for new in files.write(rows, value))]

    with ThreadPoolExecutor(2) as pool:
        actions = [action for done in pool.map(again, touched.to_dicts()) for action in done]
    lake.commit(handle, actions)


def profile(lake: Lake, kind: str) -> None:
    """Merge one bucket after the other, and print the share of CPU that each step took."""
    spent: Counter[str] = Counter()
    inner: list[float] = []

    def watch(owner: Any, name: str, step: str) -> None:
        real = getattr(owner, name)

        def watched(*given: Any, **named: Any) -> Any:
            begin = time.process_time()
            inner.append(0.0)
            try:
                return real(*given, **named)
            finally:
                took = time.process_time() - begin
                spent[step] += took - inner.pop()
                if inner:
                    inner[-1] += took

        setattr(owner, name, watched)

    watch(pl.DataFrame, "write_parquet", "writing Parquet")
    watch(pl.LazyFrame, "collect", "reading Parquet")
    watch(new_files, "_statistics", "statistics for the log")
    watch(pl.DataFrame, "filter", "taking rows out")
    watch(assets.folding, "follow", "folding")
    watch(assets.folding, "fold", "folding")
    assets.merge.AT_ONCE = 1
    begin = time.process_time()
    ours(lake, kind)
    total = time.process_time() - begin
    spent["the rest"] = total - sum(spent.values())
    shares = ", ".join(f"{step} {took / total:.0%}" for step, took in spent.most_common())
    print(f"PROFILE {shares}", flush=True)


def digest(rows: pl.DataFrame) -> None:
    """Print what tells tables of different rows apart, whatever their order."""
    names = sorted(name for name in rows.columns if name != "_bucket")
    print(f"DIGEST {rows.height} {rows.select(names).hash_rows().sort().hash(seed=0).sum()}", flush=True)


def made(lake: Lake, kind: str) -> None:
    """Tell what the dimension says."""
    digest(lake.read(tables.dimension(contract(history=kind == "late"))).collect())


def wanted(lake: Lake, kind: str) -> None:
    """Tell what it must say: the fold over all of silver."""
    stream = contract(history=kind == "late")
    digest(fold(lake.read(tables.silver(stream)).collect(), stream))


WHO: dict[str, Callable[[Lake, str], None]] = {
    "ours": ours,
    "floor": floor,
    "profile": profile,
    "made": made,
    "wanted": wanted,
}


def main() -> None:
    """Run one: `merge_contestant.py --who=ours --kind=even --lake=… --keys=… --count=…`."""
    given = arguments()
    lake, kind, keys = Lake(given["lake"]), given["kind"], int(given["keys"])

    def work() -> int:
        match given["who"]:
            case "fill":
                fill(lake, keys, history=kind == "late")
                return keys
            case "send":
                send(lake, keys, int(given["count"]), kind)
            case who:
                WHO[who](lake, kind)
        return int(given["count"])

    tell(measured(work))


if __name__ == "__main__":
    main()
