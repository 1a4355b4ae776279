"""New data files of a Delta table, written before the commit that names them.

Decides where a file lies (below its partition, under a name that nobody else has), how it is written (by
polars, all columns at once: delta-rs takes two to four times the CPU for nested columns), and which
statistics the log keeps of it: least and greatest value wherever they are exact, so that readers skip files
by them, and none where they are not. A file that no commit names is not part of the table: clean-up takes it.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from deltalake.schema import Schema as DeltaSchema
from deltalake.transaction import AddAction
from polars.exceptions import ComputeError

from sluice.errors import LakeError

IN_MEMORY = "sluice.bytes"  # names in a file how many its rows take in memory
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_GROUP_ROWS = 262_144
_GROUP_BYTES = 32 << 20  # in memory; more is no quicker to write, and held several times
_ROOM = 1 << 20  # bytes for which a disk that is not full has room
_LONGEST_TEXT = 64  # bytes of a text that the statistics keep
_EXACT_DIGITS = 15  # of a decimal: a reader may take the log's numbers for floats
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # stored times are UTC, or have no zone


@dataclass(frozen=True)
class NewFile:
    """A file that was written: the action that adds it, its partition's values, its rows without these."""

    action: AddAction
    values: Mapping[str, Any]
    rows: pl.DataFrame


def write_files(
    handle: DeltaTable,
    root: str,
    rows: pl.DataFrame,
    options: Mapping[str, Any] | None,
    schema: DeltaSchema | None = None,
) -> list[NewFile]:
    """Write rows as new files of a table, one a partition; none for no rows.

    Args:
        handle: the table; columns that the rows lack are null.
        root: where it lies.
        rows: of the table's columns.
        options: of the store, for polars; None for a folder.
        schema: in which they are written; None: the table's.

    Returns:
        each file, with what a commit needs to add it.

    Raises:
        LakeError: the rows have columns that the table lacks.
        OSError, ComputeError: the store failed.
    """
    return [
        NewFile(_written(handle, root, values, part, options), values, part)
        for values, part in _parts(handle, rows, stored_types(schema or handle.schema()))
    ]


def stored_schema(handle: DeltaTable) -> dict[str, pl.DataType]:
    """Give a table's columns in the types in which they are stored."""
    return stored_types(handle.schema())


def stored_types(schema: DeltaSchema) -> dict[str, pl.DataType]:
    """Give the columns of a schema of Delta in the types in which they are stored."""
    return dict(pl.DataFrame(pa.schema(schema.to_arrow()).empty_table()).schema)


def _parts(
    handle: DeltaTable, rows: pl.DataFrame, schema: Mapping[str, pl.DataType]
) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
    """Cut rows, in the stored types, by partition; the partition's columns are not in its files."""
    metadata = handle.metadata()
    if unknown := [name for name in rows.columns if name not in schema]:
        raise LakeError(metadata.name or "", handle.table_uri, f"it has no columns {', '.join(unknown)}")
    typed = rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in schema.items()
    )
    by = metadata.partition_columns
    if not by or not typed.height:
        parts = {(): typed}
    elif all(typed[name].n_unique() == 1 for name in by):  # most often, and nothing is copied
        parts = {typed.select(by).row(0): typed.drop(by)}
    else:
        parts = typed.partition_by(by, maintain_order=True, as_dict=True, include_key=False)
    for values, part in parts.items():
        if part.height:
            yield dict(zip(by, values, strict=True)), part


def _written(
    handle: DeltaTable,
    root: str,
    values: dict[str, Any],
    part: pl.DataFrame,
    options: Mapping[str, Any] | None,
) -> AddAction:
    text = {name: None if value is None else str(value) for name, value in values.items()}
    folders = [f"{name}={_NO_PARTITION if t is None else quote(t, safe='')}" for name, t in text.items()]
    path = "/".join([*folders, f"part-00000-{uuid4()}-c000.zstd.parquet"])
    place = f"{root.rstrip('/')}/{path}"
    with nullcontext() if options else _saying_why(Path(place)):
        part.write_parquet(
            place,
            compression="zstd",
            compression_level=1,
            row_group_size=group_rows(part),
            metadata={IN_MEMORY: str(int(part.estimated_size()))},
            storage_options=dict(options) if options else None,
            credential_provider=None,
            mkdir=not options,
        )
    size = _size(handle, path) if options else Path(place).stat().st_size
    return AddAction(
        path, size, text, int(time.time() * 1000), True, _statistics(part)
    )  # it encodes the path


@contextmanager
def _saying_why(place: Path) -> Iterator[None]:
    """Let the system say why a file could not be written: polars calls a full disk a wrong file.

    What was written of it makes room again.
    """
    try:
        yield
    except (ComputeError, OSError) as error:
        try:
            if isinstance(error, ComputeError) and place.exists():
                with place.open("ab") as file:
                    file.write(bytes(_ROOM))  # refused as polars was
        finally:
            place.unlink(missing_ok=True)
        raise


def group_rows(part: pl.DataFrame) -> int:
    """Tell how many rows a row group holds, which whoever reads a part of the file decodes whole."""
    each = int(part.estimated_size()) // max(1, part.height)
    return min(_GROUP_ROWS, max(1, _GROUP_BYTES // max(1, each)))


def _size(handle: DeltaTable, path: str) -> int:
    """Ask the store for a file's bytes, which polars does not tell."""
    store = DeltaStorageHandler.from_table(handle._table)  # noqa: SLF001  # the way that its own writer takes
    return int(store.get_file_info([path])[0].size)


def _statistics(part: pl.DataFrame) -> str:
    """Give the statistics of a file, as the log has them."""
    schema = part.schema
    flat = [name for name, dtype in schema.items() if not dtype.is_nested()]
    ranged = [name for name in flat if not isinstance(schema[name], pl.Binary | pl.Boolean | pl.Null)]
    told = part.select(
        *(pl.col(name).null_count().alias(f"nulls {name}") for name in flat),
        *(pl.col(name).min().to_physical().alias(f"min {name}") for name in ranged),
        *(pl.col(name).max().to_physical().alias(f"max {name}") for name in ranged),
    ).row(0, named=True)
    exact = {
        name: ends
        for name in ranged
        if not (schema[name].is_float() and part[name].is_nan().any())  # which readers order differently
        and None not in (ends := [_shown(told[f"{e} {name}"], schema[name]) for e in ("min", "max")])
    }
    statistics = {
        "numRecords": part.height,
        "minValues": {name: least for name, (least, _) in exact.items()},
        "maxValues": {name: greatest for name, (_, greatest) in exact.items()},
        "nullCount": {name: told[f"nulls {name}"] for name in flat},
    }
    return json.dumps(statistics, separators=(",", ":"))


def _shown(value: Any, dtype: pl.DataType) -> Any:
    """Write a least or greatest value (physical) as the log does; None where it cannot say it exactly."""
    if value is None:
        return None
    try:
        match dtype:
            case pl.Datetime():
                zone = "Z" if dtype.time_zone else ""
                return (_EPOCH + timedelta(microseconds=value)).isoformat(timespec="microseconds") + zone
            case pl.Date():
                return (_EPOCH + timedelta(days=value)).date().isoformat()
            case pl.Decimal():
                return value / 10**dtype.scale if abs(value) < 10**_EXACT_DIGITS else None
            case pl.String():
                return value if len(value.encode()) <= _LONGEST_TEXT else None
            case _:
                return value if isinstance(value, int) or isfinite(value) else None
    except OverflowError:  # a time that has no four-digit year
        return None
