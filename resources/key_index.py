"""Which data files of a table may hold some keys: asked of hashes kept beside the lake, not of the lake.

For each partition value (event date, bucket) there are a few runs of hashes (`resources.key_runs`), merged as
they grow, so a look costs the batch's keys, not the table's. Data files never change, so what is known of one
stays true; a file that no run covers is read before an answer is given, and files that are gone are left
out. So the answer is the same with an empty cache, an old one, or one that another process writes too. It
refuses to say that a key is there: equal hashes cost a look into the file, which decides.
"""

import hashlib
import platform
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from resources.key_runs import Run, merged, of_files, opened
from resources.lake import Lake
from resources.settings import settings

HELD_BYTES = 128 << 20  # of runs in memory, for one table
KEPT_FROM = 1_000_000  # hashes: smaller runs stay in memory
MERGED_TO = 2_000_000  # hashes: merging more would hold up a commit, and cost memory
_GROWTH = 4  # a run is merged with the one before it, unless that one is so many times longer


def hashed(rows: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Hash the key of each row (UInt64): equal keys have equal hashes; nulls are equal."""
    return rows.select(_hash(keys)).to_series()


def _hash(keys: Sequence[str]) -> pl.Expr:
    return (pl.col(keys[0]) if len(keys) == 1 else pl.struct(keys)).hash(seed=0).alias("_hash")


def _meets(values: pl.Series) -> pl.Expr:
    """Tell whether a file may hold values in the range of some; where the log tells nothing it may."""
    may = (pl.col("least") <= pl.lit(values.max())) & (pl.col("most") >= pl.lit(values.min()))
    return may.fill_null(value=True)


@dataclass(frozen=True)
class Hits:
    """The hashes that stand in some data files, and the files' paths."""

    hashes: pl.Series
    paths: list[str]


@lru_cache(maxsize=64)
def key_index(path: str, keys: tuple[str, ...], by: str | None = None, told: str | None = None) -> "KeyIndex":
    """Give this process's index of a table (its URI) by some columns.

    `by`, a partition column, groups it; by the ends of `told`, one of the keys, files are passed over.
    """
    set_to = settings()
    return KeyIndex(path, keys, by, told, set_to.key_index_dir, set_to.key_index_bytes)


@dataclass
class KeyIndex:
    """The runs of one table's files, by partition value (None: the whole table is one group)."""

    path: str
    keys: tuple[str, ...]
    by: str | None
    told: str | None
    folder: Path
    most_bytes: int
    _groups: OrderedDict[object, list[Run]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def look(self, lake: Lake, handle: DeltaTable, probes: pl.DataFrame) -> Hits:
        """Find the files of the handle's version that may hold some keys.

        Args:
            lake: the lake.
            handle: the table.
            probes: the keys' `hash`; where the index is grouped also the groups, from `low` to `high`, in
                which a key is asked for, and where files are passed over the key's own value, `at`.

        Raises:
            what reading the table raises, where a file is not known yet.
        """
        active = self._active(handle)
        found = [pl.DataFrame(schema={"hash": pl.UInt64, "path": pl.String})]
        with self._lock:
            for (value,), files in active.group_by("value"):
                mine = probes if self.by is None else probes.filter(pl.lit(value).is_between("low", "high"))
                chosen = files if self.told is None else files.filter(_meets(mine["at"]))
                if mine.height and chosen.height:
                    runs = self._covering(lake, handle, value, files, chosen)
                    found += [run.hits(mine["hash"]) for run in runs]
        hits = pl.concat(found).join(active, on="path", how="semi")  # some files may be gone
        return Hits(hits["hash"].unique(), hits["path"].unique().sort().to_list())

    def remember(self, files: Iterable[tuple[object, str, pl.Series]]) -> None:
        """Note what a commit added: each file's partition value, its path, and the hashes of its keys."""
        with self._lock:
            for value, path, hashes in files:
                self._known(value)
                self._add(value, of_files([(path, hashes)]))
            self._let_go()

    def _active(self, handle: DeltaTable) -> pl.DataFrame:
        """List the files of a version: path, records, value; `least` and `most` of what is told."""
        files = pl.DataFrame(handle.get_add_actions(flatten=True))
        if not files.height:
            return pl.DataFrame(schema={"path": pl.String, "records": pl.Int64, "value": pl.Null})
        names = {"records": "num_records", "value": f"partition.{self.by}"}
        names |= {"least": f"min.{self.told}", "most": f"max.{self.told}"}
        told = {name: pl.col(c) if c in files.columns else pl.lit(None) for name, c in names.items()}
        return files.select("path", **told).with_columns(pl.col("records").cast(pl.Int64))

    def _known(self, value: object) -> list[Run]:
        """Give the runs that are there of a value."""
        if value not in self._groups:
            self._groups[value] = self._kept(value)
        self._groups.move_to_end(value)
        return self._groups[value]

    def _covering(
        self, lake: Lake, handle: DeltaTable, value: object, files: pl.DataFrame, chosen: pl.DataFrame
    ) -> list[Run]:
        """Give the runs of a value (its `files`) that cover those chosen; read what no run covers."""
        there = set(files["path"])
        for run in [run for run in self._known(value) if there.isdisjoint(run.paths)]:
            self._groups[value].remove(run)
            run.forget()
        part: list[str] = []
        size = 0
        for path, records in (
            self._uncovered(self._groups[value], chosen).select("path", "records").iter_rows()
        ):
            if part and size + (records or MERGED_TO) > MERGED_TO:
                self._add(value, self._read(lake, handle, part))
                part, size = [], 0
            part.append(path)
            size += records or MERGED_TO
        if part:
            self._add(value, self._read(lake, handle, part))
        runs = list(self._groups[value])
        self._let_go()
        return runs

    def _uncovered(self, runs: Sequence[Run], files: pl.DataFrame) -> pl.DataFrame:
        covered = [path for run in runs for path in run.paths]
        return files.filter(~pl.col("path").is_in(covered))

    def rows(self, lake: Lake, handle: DeltaTable, paths: Sequence[str]) -> pl.LazyFrame:
        """Read all columns of some of the files of the handle's version."""
        schema = lake.scan(handle).collect_schema()
        hive = {name: schema[name] for name in handle.metadata().partition_columns}
        if not paths:
            return pl.LazyFrame(schema=schema)
        return pl.scan_parquet(
            [f"{self.path}/{unquote(path)}" for path in paths],
            glob=False,
            schema={name: dtype for name, dtype in schema.items() if name not in hive},
            hive_partitioning=True,
            hive_schema=hive,
            missing_columns="insert",  # of files that are older than a column
            extra_columns="ignore",
            storage_options=dict(lake.storage_options) or None,
        ).select(schema.names())

    def _read(self, lake: Lake, handle: DeltaTable, paths: Sequence[str]) -> Run:
        frames = [self.rows(lake, handle, [path]).select(_hash(self.keys)) for path in paths]
        found = pl.collect_all(frames)
        return of_files([(path, rows.to_series()) for path, rows in zip(paths, found, strict=True)])

    def _add(self, value: object, run: Run) -> None:
        """Add a run, merged with those before it that are not much longer; keep what is long.

        What is kept is in order, which costs: it is merged with nothing shorter.
        """
        runs = self._groups[value]
        while runs and self._joins(runs[-1], run):
            last = runs.pop()
            run = merged([last, run])
            last.forget()
        if len(run) >= KEPT_FROM:
            run = run.keep(self._folder(value))
            self._sweep()
        runs.append(run)
        runs.sort(key=len, reverse=True)

    @staticmethod
    def _joins(last: Run, run: Run) -> bool:
        alike = len(last) < _GROWTH * len(run) and (not last.kept or len(run) >= KEPT_FROM)
        return alike and len(last) + len(run) <= MERGED_TO

    def _let_go(self) -> None:
        """Forget the values asked for longest ago, until what is in memory is little."""
        held = sum(run.size for runs in self._groups.values() for run in runs)
        while held > HELD_BYTES and len(self._groups) > 1:
            _, runs = self._groups.popitem(last=False)
            held -= sum(run.size for run in runs)

    def _sweep(self) -> None:
        """Remove the files that were not used for longest, of all tables, until the rest is small enough."""
        found = []
        for path in self.folder.rglob("*.keys"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.most_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _kept(self, value: object) -> list[Run]:
        folder = self._folder(value)
        found = {path: opened(path) for path in sorted(folder.glob("*.keys"))}
        for path, run in found.items():
            if run is None:
                path.unlink(missing_ok=True)
        return sorted((run for run in found.values() if run is not None), key=len, reverse=True)

    def _folder(self, value: object) -> Path:
        """Name the folder of a value's runs: another hash, or another type of key, has another one."""
        probe = hashed(pl.DataFrame({"a": ["sluice", None], "b": [1, -2]}), ["a", "b"]).to_list()
        same = (self.path, self.keys, pl.__version__, platform.machine(), probe)
        digest = hashlib.sha256(repr(same).encode()).hexdigest()[:20]
        return self.folder / digest / str(value)
