"""A run: the hashes of the keys in some immutable data files, each with the file that it came from.

Decides how hashes are looked up and kept: as they came and in memory while they are few, else in order in a
file that is mapped, never loaded. A kept run is derived data: whatever is wrong with its file, by length or
check sum, means that there is none. It refuses to know what was hashed, or how.
"""

import json
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from uuid import uuid4
from zlib import crc32

import polars as pl
import pyarrow as pa

_MAGIC = b"sluice-keys-1\n\0\0"
_HEAD = struct.Struct("<16sQQI")  # magic, hashes, bytes of the paths as JSON, check sum of all that follows
_MANY = 30  # times so many hashes as are asked for are not looked through
_DATA = 64  # where hashes begin
_WIDTHS: dict[pl.DataType, int] = {pl.UInt64(): 8, pl.UInt32(): 4}


@dataclass(frozen=True, eq=False)
class Run:
    """Hashes (UInt64; in order where kept), the number of each one's file (UInt32), and the files' paths."""

    hashes: pl.Series
    numbers: pl.Series
    paths: tuple[str, ...]
    kept: Path | None = None  # the file that it is mapped from
    _mapped: mmap.mmap | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        """How many hashes there are."""
        return self.hashes.len()

    @property
    def size(self) -> int:
        """The bytes of memory that it holds for itself."""
        return 0 if self._mapped else 12 * len(self)

    def hits(self, probes: pl.Series) -> pl.DataFrame:
        """Find hashes: `hash, path`, a row for each file that has it."""
        if not len(self) or not probes.len():
            return pl.DataFrame(schema={"hash": pl.UInt64, "path": pl.String})
        if not self._mapped or len(self) < _MANY * probes.len():  # sooner done than so many searches
            every = pl.DataFrame({"hash": self.hashes, "number": self.numbers})
            every = every.join(probes.alias("hash").to_frame(), on="hash", how="semi")
        else:
            begins = self.hashes.search_sorted(probes, side="left")
            there = self.hashes.gather(begins.clip(upper_bound=len(self) - 1)) == probes
            found = pl.DataFrame({"hash": probes.filter(there), "at": begins.filter(there)})
            ends = self.hashes.search_sorted(found["hash"], side="right")
            every = found.with_columns(pl.int_ranges("at", ends)).explode("at", empty_as_null=False)
            every = every.with_columns(number=self.numbers.gather(every["at"]))
        names = pl.Series(self.paths, dtype=pl.String)
        if self._mapped:
            self._mapped.madvise(mmap.MADV_DONTNEED)  # its pages stay with the system, not with us
        return every.select("hash", path=names.gather(every["number"])).unique()

    def keep(self, folder: Path) -> "Run":
        """Write it to a folder and give it as mapped from there; as it is where that cannot be done."""
        rows = pl.DataFrame({"hash": self.hashes, "number": self.numbers}).sort("hash").rechunk()
        body = [_bytes(rows["hash"]), _bytes(rows["number"]), json.dumps(self.paths).encode()]
        checked = reduce(lambda told, part: crc32(part, told), body, 0)
        head = _HEAD.pack(_MAGIC, len(self), len(body[-1]), checked).ljust(_DATA, b"\0")
        target = folder / f"{uuid4().hex}.keys"
        unfinished = target.with_suffix(".tmp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.writelines([head, *body])
            unfinished.replace(target)
        except OSError:
            unfinished.unlink(missing_ok=True)
            return self
        return opened(target) or self

    def forget(self) -> None:
        """Remove its file; who has it mapped keeps it."""
        if self.kept:
            self.kept.unlink(missing_ok=True)


def of_files(files: Sequence[tuple[str, pl.Series]]) -> Run:
    """Make a run of the hashes (UInt64) of each file."""
    hashes = pl.concat([pl.Series(dtype=pl.UInt64), *(found for _, found in files)])
    numbers = [
        pl.repeat(number, found.len(), dtype=pl.UInt32, eager=True) for number, (_, found) in enumerate(files)
    ]
    return Run(hashes, pl.concat([pl.Series(dtype=pl.UInt32), *numbers]), tuple(path for path, _ in files))


def merged(runs: Sequence[Run]) -> Run:
    """Make one run of several."""
    paths = tuple(path for run in runs for path in run.paths)
    firsts = [sum(len(run.paths) for run in runs[:place]) for place in range(len(runs))]
    numbers = pl.concat(
        [(run.numbers + first).cast(pl.UInt32) for run, first in zip(runs, firsts, strict=True)]
    )
    return Run(pl.concat([run.hashes for run in runs], rechunk=True), numbers.rechunk(), paths)


def opened(path: Path) -> Run | None:
    """Map a kept run; None where the file is not whole."""
    try:
        os.utime(path)  # it is in use: others go first
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        magic, count, told, checked = _HEAD.unpack_from(mapped)
        ends = [_DATA, _DATA + 8 * count, _DATA + 12 * count, _DATA + 12 * count + told]
        if magic != _MAGIC or ends[-1] != len(mapped) or crc32(memoryview(mapped)[_DATA:]) != checked:
            return None
        paths = tuple(json.loads(mapped[ends[2] : ends[3]]))
        hashes = _series(mapped, pa.uint64(), count, ends[0], ends[1])
        numbers = _series(mapped, pa.uint32(), count, ends[1], ends[2])
        mapped.madvise(mmap.MADV_RANDOM)
    except (OSError, ValueError, struct.error):
        return None
    return Run(hashes, numbers, paths, path, mapped)


def _bytes(series: pl.Series) -> bytes:
    array, width = series.to_arrow(), _WIDTHS[series.dtype]
    found: bytes = array.buffers()[1].slice(array.offset * width, len(array) * width).to_pybytes()
    return found


def _series(mapped: mmap.mmap, dtype: pa.DataType, count: int, begin: int, end: int) -> pl.Series:
    buffer = pa.py_buffer(memoryview(mapped)[begin:end])
    found = pl.from_arrow(pa.Array.from_buffers(dtype, count, [None, buffer]))
    return pl.Series(found).set_sorted() if dtype == pa.uint64() else pl.Series(found)
