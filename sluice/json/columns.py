"""JSON values to typed columns: strict, fast, and aligned with the records.

Decides which way values are read: by machine code where it was built (`sluice.json.machine`), else many
together where that is surely right (`sluice.json.fast`), else one by one (`sluice.json.rows`, which defines
the meaning). Nullability, keys and rules are decided by the callers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import polars as pl

from sluice.columns import Column
from sluice.contract import Json
from sluice.json.fast import read_sure
from sluice.json.machine import machine_code, read_native
from sluice.json.plan import plan
from sluice.json.rows import Read, read_rows
from sluice.json.shape import Tree, tree

CHUNK = 32 << 20  # bytes read at once: bounds memory
FEW = 500  # values for which the fast way's preparations do not pay
FEW_NATIVE = 50  # the same for machine code


def read_columns(
    values: pl.Series,
    columns: Sequence[Column],
    options: Json,
    *,
    few: int | None = None,
    native: bool = True,
) -> Read:
    """Read a series of JSON objects (Binary, null: nothing to read) into the columns of a contract.

    Args:
        values: any number of values; they are read in chunks.
        columns: of one contract; several may take members of one object, by their paths.
        options: how date-times without offset, and as numbers, are read.
        few: up to how many values are read one by one; None: as is fastest.
        native: whether machine code may be used where it was built.

    Raises:
        ColumnTypeError: a column has a type that no JSON value can become.
    """
    code = machine_code() if native else None
    planned = plan(columns, options) if code else None
    root = None if planned else tree(columns)
    if few is None:
        few = FEW_NATIVE if planned else FEW
    if len(values) <= few:
        return read_rows(values, columns, options)
    if code and planned:
        reads = [read_native(code, planned, chunk, columns, options) for chunk in chunks(values)]
    elif root:
        reads = [_chunk(chunk, columns, root, options) for chunk in chunks(values)]
    else:
        return read_rows(values, columns, options)
    starts = [0]
    for read in reads:
        starts.append(starts[-1] + len(read.frame))
    unknown: Counter[str] = Counter()
    for read in reads:
        unknown.update(read.unknown)
    failures = [
        read.failures.with_columns((pl.col("_row") + start).cast(pl.UInt32))
        for read, start in zip(reads, starts, strict=False)
    ]
    return Read(pl.concat([read.frame for read in reads]), pl.concat(failures), dict(unknown))


def chunks(values: pl.Series) -> Iterator[pl.Series]:
    """Cut values after so many bytes, a single one being the least."""
    ends = values.bin.size().fill_null(0).cast(pl.Int64).cum_sum()
    start, base = 0, 0
    while start < len(values):
        end = max(start + 1, int(ends.search_sorted(base + CHUNK, side="right")))
        yield values[start:end]
        start, base = end, int(ends[end - 1])


def _chunk(values: pl.Series, columns: Sequence[Column], root: Tree, options: Json) -> Read:
    parts, unknown = read_sure(values, columns, root, options)
    places = pl.Series("row", range(len(values)), pl.UInt32)
    sure = pl.concat([places.clear(), *(rows["row"] for rows, _ in parts)])
    rest = places.filter(~places.is_in(sure.implode()))
    strict = read_rows(values.gather(rest), columns, options)
    order = pl.concat([sure, rest]).arg_sort()
    frame = pl.concat([*(part for _, part in parts), strict.frame])
    back = pl.DataFrame({"_row": pl.Series(range(len(rest)), dtype=pl.UInt32), "place": rest})
    failures = (
        strict.failures.join(back, on="_row", maintain_order="left").with_columns(_row="place").drop("place")
    )
    return Read(
        frame[order] if len(rest) or len(parts) > 1 else frame,
        failures,
        dict(Counter(unknown) + Counter(strict.unknown)),
    )
