"""The columns of a contract: what its pandera model says, and how each is stored in Delta.

Delta has no unsigned, time, duration or enum types and no nanoseconds; `storage` names what stands
for them. The rules of the model stay with pandera (`sluice.rules`).
"""

from dataclasses import dataclass, field
from typing import Any

import polars as pl
from pandera.dtypes import immutable
from pandera.engines import polars_engine

_UNSIGNED: dict[type[pl.DataType], pl.DataType] = {
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Decimal(20, 0),
}


REST = "*"  # the path of all members that no column takes


@polars_engine.Engine.register_dtype
@immutable
class Document(polars_engine.String):
    """The type of a column that keeps a MongoDB value whole: as String, in canonical Extended JSON.

    With `pa.Field(metadata={"path": "*"})` it keeps all members that no other column takes.
    """

    def check(self, pandera_dtype: Any, data_container: Any = None) -> bool:  # noqa: ARG002  # pandera's
        """Tell whether data of a type can be of this one."""
        return isinstance(pandera_dtype, polars_engine.String)


@dataclass(frozen=True)
class Column:
    """One column of a contract; `document` marks those of type `Document`."""

    name: str
    dtype: pl.DataType
    nullable: bool
    path: tuple[str, ...]
    description: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    document: bool = False

    @property
    def storage(self) -> pl.DataType:
        """The polars type of this column in Delta."""
        return storage_dtype(self.dtype)

    @property
    def precision(self) -> Any:
        """The digits of a second that the source's column has, where the contract tells."""
        return self.metadata.get("precision")

    @property
    def pii(self) -> bool:
        """Whether the contract marks the column as personal."""
        return bool(self.metadata.get("pii", False))


def storage_dtype(dtype: pl.DataType) -> pl.DataType:
    """Give the type that stands in Delta for a contract's type."""
    match dtype:
        case pl.UInt8() | pl.UInt16() | pl.UInt32() | pl.UInt64():
            return _UNSIGNED[type(dtype)]
        case pl.Enum() | pl.Categorical():
            return pl.String()
        case pl.Time() | pl.Duration():
            return pl.Int64()  # microseconds
        case pl.Datetime():
            return pl.Datetime("us", "UTC" if dtype.time_zone else None)
        case pl.List() | pl.Array():
            return pl.List(storage_dtype(model_dtype(dtype.inner)))
        case pl.Struct():
            return pl.Struct({f.name: storage_dtype(model_dtype(f.dtype)) for f in dtype.fields})
        case _:
            return dtype


def model_dtype(dtype: Any) -> pl.DataType:
    """Turn a dtype class, as pandera gives it and lists and structs keep it, into an instance."""
    match dtype:
        case type():
            instance: pl.DataType = dtype()
            return instance
        case pl.List():
            return pl.List(model_dtype(dtype.inner))
        case pl.Array():
            return pl.Array(model_dtype(dtype.inner), dtype.size)
        case pl.Struct():
            return pl.Struct({f.name: model_dtype(f.dtype) for f in dtype.fields})
        case pl.DataType():
            return dtype
    raise TypeError(f"{dtype!r} is no polars type")


def leaf_dtype(dtype: Any) -> pl.DataType:
    """Give the type of the elements of lists and arrays, however deep; of others the type itself."""
    while isinstance(dtype, pl.List | pl.Array):
        dtype = dtype.inner
    return model_dtype(dtype)


def model_columns(model: Any) -> tuple[Column, ...]:
    """List the columns of a `pandera.polars.DataFrameModel`, in its order."""
    columns = []
    for name, column in model.to_schema().columns.items():
        metadata = dict(column.metadata or {})
        path = tuple(str(metadata.get("path", name)).split(".")) if "path" in metadata else (name,)
        columns.append(
            Column(
                name=name,
                dtype=model_dtype(column.dtype.type),
                nullable=bool(column.nullable),
                path=path,
                description=column.description,
                metadata=metadata,
                document=isinstance(column.dtype, Document),
            )
        )
    return tuple(columns)


def to_storage(frame: pl.DataFrame, columns: tuple[Column, ...]) -> pl.DataFrame:
    """Cast a contract's columns to what Delta stores; other columns stay as they are."""
    casts = [_storing(column) for column in columns if column.name in frame.columns]
    return frame.with_columns(casts) if casts else frame


def _storing(column: Column) -> pl.Expr:
    return _stored(pl.col(column.name), column.dtype).alias(column.name)


def _stored(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Turn a value of a contract's type into what Delta stores, also inside lists and structs."""
    storage = storage_dtype(dtype)
    match dtype:
        case _ if dtype == storage:
            return value
        case pl.Time():
            return value.cast(pl.Int64) // 1000
        case pl.Duration():
            return value.dt.total_microseconds()
        case pl.Datetime() if dtype.time_zone not in (None, "UTC"):
            return value.dt.convert_time_zone("UTC").cast(storage)
        case pl.Array():
            return _stored(value.arr.to_list(), pl.List(dtype.inner))
        case pl.List():
            return value.list.eval(_stored(pl.element(), model_dtype(dtype.inner)))
        case pl.Struct():
            fields = [
                _stored(value.struct.field(f.name), model_dtype(f.dtype)).alias(f.name) for f in dtype.fields
            ]
            return pl.when(value.is_not_null()).then(pl.struct(fields))
        case _:
            return value.cast(storage)
