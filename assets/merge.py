"""From silver to a dimension: the fold over the changes of each key touched, in one commit.

Consumes silver as it grows: a commit tells which version of silver it has seen, by which rules, and how far
the changes reach that it has folded; what changed since is told by the commits after it. Touched buckets are
brought up to date one by one (`assets.folding`), so memory is that of a few files. Fenced: of two runs that
meet, one reads again.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, Literal

import polars as pl
from deltalake import DeltaTable

from assets.folding import PIECE, Folded, folding
from assets.grown import Grown, grown
from assets.linked import ENDING, PARTITIONS, RENAMED, images_ahead, linked
from assets.rewrite import CLOSED
from resources.data_files import DataFiles
from resources.lake import Lake
from resources.transactions import told_by
from sluice import tables
from sluice.contract import Changes, Debezium
from sluice.dedupe import buckets
from sluice.history.follow import Mark
from sluice.tables import EVERY_BUCKET

_SILVER = "sluice.silver_version"
_RULES = "sluice.rules"
_MARKS = "sluice.marks"
_RECENT = 50  # commits searched for the last fold; where none is found all is folded
AT_ONCE = 2  # buckets; more would only cost memory: polars works on all cores anyway

Engine = Literal["anew", "onward"]


@dataclass(frozen=True)
class Merged:
    """What a run did to a dimension: rows after it, buckets folded, silver's version seen."""

    version: int
    silver_version: int
    buckets: int
    rows: int


def merge(lake: Lake, stream: Changes, *, say: Callable[[str], None] = print) -> Merged:
    """Bring a dimension up to silver; it exists afterwards, empty or not.

    Raises:
        LakeError, RaceLostError: the lake failed; the dimension is as it was.
    """

    def step() -> Merged:
        handle = lake.ensure(tables.dimension(stream))
        silver = lake.ensure(tables.silver(stream))
        upto, seen = int(silver.version()), _seen(handle, stream)
        folded: dict[int, Folded] = {}
        if seen.version != upto:
            folded = _folded(stream, DataFiles(lake, handle), DataFiles(lake, silver), silver, seen)
            marks = seen.marks | {bucket: done.mark for bucket, done in folded.items()}
            actions = [action for done in folded.values() for action in done.actions]
            told = {_SILVER: str(upto), _RULES: stream.code_version, _MARKS: _written(marks)}
            lake.commit(handle, actions, fences=["fold"], metadata=told)
            say(f"dimensions/{stream.name}: {len(folded)} buckets folded")
        rows = lake.scan(handle).select(pl.len()).collect().item()
        return Merged(int(handle.version()), upto, len(folded), rows)

    return lake.retrying(f"dimensions/{stream.name}", step)


def engine(changed: int, *, marked: bool) -> Engine:
    """Choose how a bucket is brought up to date: `onward` from what changed, or `anew` from all its changes.

    Both replace, in one commit, the files that hold touched keys by files of our own; delta-rs MERGE is not
    chosen: `docs/decisions/0010` has the reasons and `benchmarks/merge.py` measures them again.

    Args:
        changed: rows of the files that came or went since the last fold; `onward` holds them in memory.
        marked: whether it is known how far the changes reach that were folded before.
    """
    return "onward" if marked and changed <= PIECE else "anew"


def seen_of_silver(handle: DeltaTable, stream: Changes) -> int | None:
    """Give the version of silver that was folded last; None where other rules folded it, or nobody did."""
    version = _seen(handle, stream).version
    return None if version < 0 else version


@dataclass(frozen=True)
class _Seen:
    """What a dimension has seen of silver by today's rules: a version (-1: none), each bucket's mark."""

    version: int
    marks: dict[int, Mark]

    @property
    def reached(self) -> Mark:
        """The mark of all buckets."""
        return reduce(Mark.over, self.marks.values(), Mark())


def _seen(handle: DeltaTable, stream: Changes) -> _Seen:
    recent = told_by(handle, int(handle.version()) - _RECENT, [_SILVER, _RULES, _MARKS])
    last: dict[str, Any] = next((c for c in reversed(recent) if _RULES in c), {})
    if last.get(_RULES) != stream.code_version:
        return _Seen(-1, {})
    marks = json.loads(last.get(_MARKS, "{}"))
    return _Seen(int(last[_SILVER]), {int(bucket): Mark(**mark) for bucket, mark in marks.items()})


def _written(marks: dict[int, Mark]) -> str:
    return json.dumps({str(bucket): asdict(mark) for bucket, mark in marks.items()})


def _folded(
    stream: Changes, dimension: DataFiles, silver: DataFiles, handle: DeltaTable, seen: _Seen
) -> dict[int, Folded]:
    """Bring the touched buckets up to date: write their files."""
    changes = silver.listed([*PARTITIONS, RENAMED])
    stored = dimension.listed([CLOSED])
    new = grown(handle, silver, seen.version) if seen.version >= 0 else None
    images = None
    if new is not None and _concerns_all(stream, new):
        images = images_ahead(stream, silver, changes, new, seen.reached)
        new = new if images is not None else None
    engines: dict[int, Engine] = {}
    if new is not None:
        engines = {b: engine(new.rows(b), marked=b in seen.marks) for b in new.buckets}
    try:
        keys = linked(stream, silver, changes, None if "anew" in engines.values() else new)
    except FileNotFoundError:
        keys, new = linked(stream, silver, changes, None), None
    work = folding(stream, silver, dimension, changes, keys, images)

    def fold(bucket: int) -> Folded:
        mine, old = changes.filter(value=bucket), stored.filter(value=bucket)
        if new is not None and engines.get(bucket, "onward") == "onward":
            with suppress(FileNotFoundError):  # joined with others long ago, and deleted
                found = new.difference(bucket, stream.keys)
                return work.onward(bucket, found, mine, old, seen.marks.get(bucket, Mark()))
        return work.anew(bucket, mine, old)

    touched = {*changes["value"], *stored["value"]} if new is None or images is not None else new.buckets
    touched |= set(buckets(keys, stream.keys))
    wanted = sorted(touched - {EVERY_BUCKET})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(wanted, pool.map(fold, wanted), strict=True))


def _concerns_all(stream: Changes, new: Grown) -> bool:
    """Tell whether what changed may end keys that it does not name."""
    if not new.files.height:
        return False
    if stream.snapshot is not None or EVERY_BUCKET in new.buckets:
        return True
    return isinstance(stream.value, Debezium) and new.any(ENDING)


def files(handle: DeltaTable) -> dict[str, int]:
    """List the files of a table stored by bucket, with their buckets."""
    actions = pl.DataFrame(handle.get_add_actions(flatten=True))
    if not actions.height:
        return {}
    return dict(zip(actions["path"], actions["partition._bucket"].cast(pl.Int32), strict=True))
