"""One contestant of `merge.py`, in a process of its own, on a lake of its own; says what it cost.

`ours`: the merge as the asset calls it. `floor`: the files that `ours` would write again are read and written
back by the same functions, and committed, with nothing else done. `delta-rs`: its MERGE of the newest row of
each key, prepared beforehand. `profile`: `ours`, one bucket at a time, and where its CPU went.
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
from deltalake import DeltaTable
from measure import arguments, measured, tell
from merge_lake import HOT, contract, fill, send

import assets.folding
import assets.merge
from assets.merge import merge
from resources import new_files
from resources.data_files import DataFiles
from resources.lake import Lake
from sluice import tables


def ours(lake: Lake, kind: str) -> None:
    """Merge what silver has more."""
    merge(lake, contract(history=kind == "late"), say=lambda _: None)


def floor(lake: Lake, kind: str) -> None:
    """Read and write back, two files at a time."""
    handle = lake.ensure(tables.dimension(contract(history=kind == "late")))
    files = DataFiles(lake, handle)
    listed = files.listed()
    touched = listed.filter(value=HOT) if kind == "hot" else listed

    def again(file: tuple[str, int, int, int]) -> list[Any]:
        path, size, _, value = file
        rows = files.read([path]).collect()
        return [files.gone(path, size, value), *files.write(rows, value)]

    with ThreadPoolExecutor(2) as pool:
        actions = [action for done in pool.map(again, touched.rows()) for action in done]
    lake.commit(handle, actions)


def delta_rs(lake: Lake, kind: str) -> None:
    """Merge by delta-rs, as its documentation writes it."""
    handle = DeltaTable(lake.path(tables.dimension(contract(history=False)).name))
    source = pl.read_parquet(lake.path("source.parquet"))
    among = f" AND t._bucket = {HOT}" if kind == "hot" else ""  # which spares it the others
    (
        handle.merge(source, f"t.id = s.id AND t._bucket = s._bucket{among}", "s", "t")
        .when_matched_delete("s._op = 'd'")
        .when_matched_update_all()
        .when_not_matched_insert_all("s._op <> 'd'")
        .execute()
    )


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


WHO: dict[str, Callable[[Lake, str], None]] = {
    "ours": ours,
    "floor": floor,
    "delta-rs": delta_rs,
    "profile": profile,
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
