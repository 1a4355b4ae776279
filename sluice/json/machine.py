"""JSON values to typed columns by machine code (`native/json.c`), where it was built.

Decides what becomes of what the code leaves in doubt: of a value, that value alone is read again by the
strict decoder; of a row, the whole row. So the result is what `sluice.json.rows` gives, whatever comes.
"""

import ctypes
import secrets
import weakref
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from typing import Any

import polars as pl
import pyarrow as pa

from sluice.columns import Column
from sluice.contract import Json
from sluice.json.plan import Kind, Node, Plan
from sluice.json.rows import READ_FAILURES, Read, read_rows, series_of
from sluice.json.strict import parse
from sluice.json.values import Misfit, Reader, reader
from sluice.native import library

_HEADER = _PER_NODE = 7  # numbers that the code tells, first of all and of each node
_DOUBT = ("row", "column", "start", "size")
_NAME = ("at", "size", "count", "row")
_BYTES = 8  # of a number
_IN_DOUBT = 1


class _Told:
    """What the code hands back; its memory lives as long as a buffer of it."""

    def __init__(self, code: ctypes.CDLL, handle: int, nodes: int) -> None:
        freed = weakref.finalize(self, code.json_free, handle)
        freed.atexit = False  # type: ignore[misc]  # columns may still be read then; typeshed is wrong
        numbers = array("q", bytes(_BYTES * (_HEADER + _PER_NODE * nodes)))
        code.json_tell(handle, numbers.buffer_info()[0])
        self.header = list(numbers[:_HEADER])
        self.nodes: Iterator[int] = iter(numbers[_HEADER:])

    def buffer(self, place: int, size: int) -> pa.Buffer:
        return pa.foreign_buffer(place, size, self) if size else pa.py_buffer(b"")

    def table(self, place: int, rows: int, names: Sequence[str]) -> pl.DataFrame:
        size = rows * len(names)
        numbers = pa.Array.from_buffers(pa.int64(), size, [None, self.buffer(place, _BYTES * size)])
        flat = _series(numbers)
        return pl.DataFrame({name: flat.gather_every(len(names), n) for n, name in enumerate(names)})


@dataclass(frozen=True)
class Raw:
    """What the code read.

    Attributes:
        columns: by the plan's numbers; null where the value, or the row, is in doubt.
        rest: the rows in doubt as a whole.
        doubts: the values in doubt (`row`, `column`, `start`, `size`), which are valid JSON.
        unknown: how often members were met that no column takes, in rows that are not in doubt.
    """

    columns: dict[int, pl.Series]
    rest: pl.Series
    doubts: pl.DataFrame
    unknown: dict[str, int]


@cache
def machine_code() -> ctypes.CDLL | None:
    """Give the machine code; None where it was not built."""
    code = library("json")
    if code is not None:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        code.json_read.restype = pointer
        code.json_read.argtypes = [*[pointer] * 3, *[number] * 3, *[pointer] * 3, number, number]
        code.json_tell.argtypes = [pointer, pointer]
        code.json_free.argtypes = [pointer]
        code.json_tell.restype = code.json_free.restype = None
    return code


def read_native(
    code: ctypes.CDLL, plan: Plan, values: pl.Series, columns: Sequence[Column], options: Json
) -> Read:
    """Read values (Binary, null: nothing to read) by the plan of these columns and options.

    Raises:
        MemoryError: there is not enough for the columns.
    """
    raw = read_raw(code, plan, values)
    readers = [reader(column.dtype, options) for column in columns]
    series, misfits = read_again(raw, values, columns, readers)
    strict = read_rows(values.gather(raw.rest), columns, options)
    series = [_with(one, raw.rest, strict.frame[one.name]) for one in series]
    failures = strict.failures.with_columns(_row=raw.rest.gather(strict.failures["_row"]))
    return Read(
        pl.DataFrame(series),
        pl.concat([failures, misfits]).sort("_row", maintain_order=True),
        dict(Counter(raw.unknown) + Counter(strict.unknown)),
    )


def read_raw(code: ctypes.CDLL, plan: Plan, values: pl.Series, depth: int = 0) -> Raw:
    """Read values that were cut out from `depth` levels deep.

    Raises:
        MemoryError: there is not enough for the columns.
    """
    told = _run(code, plan, values, depth)
    states, doubts, doubts_size, names, names_size, heap, heap_size = told.header
    arrays: dict[int, pa.Array] = {}
    _array(plan.root, told, arrays)
    state = _series(pa.Array.from_buffers(pa.uint8(), len(values), [None, told.buffer(states, len(values))]))
    text = told.buffer(heap, heap_size).to_pybytes()
    counted = told.table(names, names_size, _NAME).filter(pl.col("count") > 0)
    return Raw(
        {n: _series(array) for n, array in arrays.items()},
        (state == _IN_DOUBT).arg_true().cast(pl.UInt32),
        told.table(doubts, doubts_size, _DOUBT).sort("row", "column"),
        {text[at : at + size].decode(): count for at, size, count, _ in counted.iter_rows()},
    )


def read_again(
    raw: Raw, values: pl.Series, columns: Sequence[Column], readers: Sequence[Reader]
) -> tuple[list[pl.Series], pl.DataFrame]:
    """Give the columns, single values in doubt read strictly; and the failures of those that do not fit."""
    found, misfits = _read_again(raw.doubts, values, columns, readers)
    series = []
    for n, column in enumerate(columns):
        one = raw.columns.get(n)
        one = pl.repeat(None, len(values), dtype=column.dtype, eager=True) if one is None else one
        one = one.cast(column.dtype).alias(column.name)
        if n in found:
            rows, read = zip(*found[n], strict=True)
            one = _with(one, pl.Series(rows, dtype=pl.UInt32), series_of(column, list(read)))
        series.append(one)
    return series, misfits


def _run(code: ctypes.CDLL, plan: Plan, values: pl.Series, depth: int) -> _Told:
    given = values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    valid, views, *heaps = given.buffers()
    numbers, places = array("q", plan.numbers), array("q", [heap.address for heap in heaps])
    zone = array("q", chain.from_iterable(plan.zone))
    handle = code.json_read(
        numbers.buffer_info()[0],
        plan.names,
        zone.buffer_info()[0],
        len(plan.zone),
        len(given),
        given.offset,
        valid and valid.address,
        views.address,
        places.buffer_info()[0],
        secrets.randbits(32),  # so that nobody can choose names that are slow to look up
        depth,
    )
    if not handle:
        raise MemoryError(f"reading {len(given)} JSON values")
    return _Told(code, handle, len(plan.numbers) // _PER_NODE)


def _array(node: Node, told: _Told, arrays: dict[int, pa.Array]) -> pa.Array | None:
    """Wrap the buffers of a node and of those below; keep those that are columns."""
    count, nulls, valid, data, data_size, heap, heap_size = islice(told.nodes, _PER_NODE)
    children = [_array(child, told, arrays) for child in node.children]
    if node.arrow is None:
        return None
    buffers = [told.buffer(valid, -(-count // 8)) if nulls else None]
    if node.kind != Kind.STRUCT:
        buffers.append(told.buffer(data, data_size))
    if heap_size:
        buffers.append(told.buffer(heap, heap_size))
    inner = children if node.kind in (Kind.LIST, Kind.STRUCT) else None
    result = pa.Array.from_buffers(node.arrow, count, buffers, nulls, children=inner)
    if node.column >= 0:
        arrays[node.column] = result
    return result


def _series(array: pa.Array) -> pl.Series:
    return pl.Series(pl.from_arrow(array))


def _read_again(
    doubts: pl.DataFrame, values: pl.Series, columns: Sequence[Column], readers: Sequence[Reader]
) -> tuple[dict[int, list[tuple[int, Any]]], pl.DataFrame]:
    """Read single values strictly: by column, what fits in which row; and the failures of the others."""
    if doubts.is_empty():
        return {}, pl.DataFrame(schema=READ_FAILURES)
    paths = [".".join(column.path) for column in columns]
    texts = doubts.select(
        pl.lit(values).gather(pl.col("row")).bin.slice(pl.col("start"), pl.col("size"))
    ).to_series()
    fits: dict[int, list[tuple[int, Any]]] = {}
    seen: dict[tuple[int, bytes], tuple[Any, list[Misfit]]] = {}  # wrong values are often the same
    found: list[int] = []
    misfits: list[Misfit] = []
    rows = doubts["row"].to_list()
    for place, key in enumerate(zip(doubts["column"].to_list(), texts.to_list(), strict=True)):
        known = seen.get(key)
        if known is None:
            wrong: list[Misfit] = []
            known = seen[key] = (readers[key[0]](parse(key[1]), paths[key[0]], wrong), wrong)
        if known[1]:
            misfits += known[1]
            found += [place] * len(known[1])
        else:
            fits.setdefault(key[0], []).append((rows[place], known[0]))
    names = pl.Series([column.name for column in columns], dtype=pl.String)
    listed = doubts[pl.Series(found, dtype=pl.UInt32)]
    failures = pl.DataFrame(
        {
            "_row": listed["row"],
            "stage": pl.repeat("schema", len(found), dtype=pl.String, eager=True),
            "column": [path for path, _ in misfits],
            "rule": pl.repeat(None, len(found), dtype=pl.String, eager=True),
            "reason": [reason for _, reason in misfits],
            "name": names.gather(listed["column"]),
        },
        schema_overrides=READ_FAILURES,
    )
    return fits, failures.cast(READ_FAILURES)  # type: ignore[arg-type]  # a schema


def _with(series: pl.Series, rows: pl.Series, values: pl.Series) -> pl.Series:
    """Put values into rows of which nothing is known yet."""
    if values.null_count() == len(values):
        return series
    places = pl.int_range(len(series), dtype=pl.UInt32, eager=True)
    places = places.scatter(rows, pl.int_range(len(values), dtype=pl.UInt32, eager=True) + len(series))
    return pl.concat([series, values]).gather(places)
