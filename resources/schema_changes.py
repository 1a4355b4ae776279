"""A table follows its contract: new columns are added, types widen, nothing is dropped.

A column that the contract no longer has stays, null in new rows. What cannot become the contract's type
without losing digits is refused by name before anything is written.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import polars as pl
from deltalake import DeltaTable
from deltalake.schema import Field as DeltaField
from deltalake.schema import Schema as DeltaSchema

from resources.data_files import DataFiles
from sluice.errors import TableSchemaError
from sluice.tables import Table

if TYPE_CHECKING:
    from resources.lake import Lake

_INTEGERS: list[type[pl.DataType]] = [pl.Int8, pl.Int16, pl.Int32, pl.Int64]


def adopt_columns(lake: "Lake", handle: DeltaTable, table: Table) -> None:
    """Add the columns that a table lacks and widen those that its contract widened.

    Raises:
        TableSchemaError: a stored type cannot become the contract's.
    """
    wanted = _delta_fields(tuple(table.columns.items()))
    stored = {field.name: field for field in handle.schema().fields}
    missing = [field for name, field in wanted.items() if name not in stored]
    changed = [name for name in wanted if name in stored and wanted[name].type != stored[name].type]
    if not missing and not changed:
        return
    scanned = lake.scan(handle).collect_schema()
    for name in changed:
        if not widens(scanned[name], table.columns[name]):
            raise TableSchemaError(table.name, name, str(scanned[name]), str(table.columns[name]))
    if missing:
        handle.alter.add_columns(missing)
    if changed:
        _widen(lake, handle, {name: wanted[name] for name in changed})


def _widen(lake: "Lake", handle: DeltaTable, changed: Mapping[str, DeltaField]) -> None:
    """Write a table's rows again with some columns in wider types, a piece of a file at a time.

    Delta keeps one type a column, so all files are replaced in one commit. It takes out what it did not see,
    so it follows no other: else rows would be there twice, or in the old type.
    """
    schema = DeltaSchema([changed.get(field.name, field) for field in handle.schema().fields])
    files = DataFiles(lake, handle)
    actions = [
        new.action
        for path, value in files.listed().select("path", "value").iter_rows()
        for piece in files.pieces(path)
        for new in files.write(piece, value, schema)
    ]
    told = {"sluice.widened": ",".join(changed)}
    lake.commit(handle, actions, mode="overwrite", schema=schema, metadata=told)


def widens(stored: pl.DataType, wanted: pl.DataType) -> bool:
    """Tell whether every value of the stored type is a value of the wanted one."""
    match stored, wanted:
        case pl.Decimal(), pl.Decimal():
            room = (wanted.precision or 38) - wanted.scale >= (stored.precision or 38) - stored.scale
            return room and wanted.scale >= stored.scale
        case pl.Float32(), pl.Float64():
            return True
        case ((pl.Int8() | pl.Int16() | pl.Int32() | pl.Int64()), pl.Decimal()):
            digits = {pl.Int8: 3, pl.Int16: 5, pl.Int32: 10, pl.Int64: 19}[type(stored)]
            return (wanted.precision or 38) - wanted.scale >= digits
        case ((pl.Int8() | pl.Int16() | pl.Int32()), (pl.Int16() | pl.Int32() | pl.Int64())):
            return _INTEGERS.index(type(wanted)) > _INTEGERS.index(type(stored))
        case pl.Struct(), pl.Struct():
            names = {field.name: field.dtype for field in wanted.fields}
            return all(
                f.name in names
                and (f.dtype == names[f.name] or widens(_instance(f.dtype), _instance(names[f.name])))
                for f in stored.fields
            )
        case pl.List(), pl.List():
            return stored.inner == wanted.inner or widens(_instance(stored.inner), _instance(wanted.inner))
        case _:
            return False


def _instance(dtype: object) -> pl.DataType:
    instance: pl.DataType = dtype() if isinstance(dtype, type) else dtype  # type: ignore[assignment]  # polars gives either
    return instance


@lru_cache(maxsize=256)
def _delta_fields(columns: tuple[tuple[str, pl.DataType], ...]) -> dict[str, DeltaField]:
    schema = DeltaSchema.from_arrow(pl.DataFrame(schema=dict(columns)).to_arrow().schema)
    return {field.name: field for field in schema.fields}
