"""The shape in which Arrow's JSON reader reads a contract's columns, and what must be so before it may.

Each leaf is read in a type that holds it exactly: text as text, whole numbers as 64 bits, numbers for
decimals as wide decimals. Whether a leaf comes as text or as a number is taken from a sample of the
values: rows that differ are for the strict decoder, so a wrong guess costs time, never truth.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from sluice.columns import Column
from sluice.json.strict import Number
from sluice.json.values import INTEGERS

_PLAIN = re.compile(r"[\w $@:/-]+")  # names that need no escapes in a JSON path
_WHOLE = ("UBIGINT", "BIGINT")
_NUMBER = (*_WHOLE, "HUGEINT", "UHUGEINT", "DOUBLE")
# Arrow wraps silently where digits and scale together exceed its bits: these two can't.
NARROW = pa.decimal128(20, 18)
WIDE = pa.decimal256(38, 38)

Tree = dict[str, "pl.DataType | Tree"]


@dataclass(frozen=True)
class Shape:
    """How to read a set of columns.

    Attributes:
        schema: for Arrow's reader.
        types: by JSON path, the DuckDB names of JSON types that the reader takes rightly.
        nested: the same for paths inside arrays.
        exact: whether `nested` must be looked at even where the reader is content.
    """

    schema: pa.Schema
    types: Mapping[str, tuple[str, ...]]
    nested: Mapping[str, tuple[str, ...]]
    exact: bool


def tree(columns: Sequence[Column]) -> Tree | None:
    """The members that columns take, by path; None where two overlap or a name is too odd for a path."""
    root: Tree = {}
    for column in columns:
        node = root
        for name in column.path[:-1]:
            below = node.setdefault(name, {})
            if not isinstance(below, dict):
                return None
            node = below
        if column.path[-1] in node or not all(map(_PLAIN.fullmatch, [*column.path, *_names(column.dtype)])):
            return None
        node[column.path[-1]] = column.dtype
    return root


def shape(root: Tree, sample: Sequence[Mapping[str, Any]]) -> Shape:
    """Choose how to read, by what a sample of parsed objects holds."""
    types: dict[str, tuple[str, ...]] = {}
    nested: dict[str, tuple[str, ...]] = {}
    fields = _fields(root, list(sample), "$", types, nested)
    exact = any("DOUBLE" in allowed and "VARCHAR" not in allowed for allowed in nested.values())
    return Shape(pa.schema(fields), types, nested, exact)


def _fields(root: Mapping[str, Any], sample: list[Any], path: str, *found: Any) -> list[pa.Field]:
    return [
        pa.field(name, _arrow(node, _members(sample, name), f'{path}."{name}"', *found))
        for name, node in root.items()
    ]


def _arrow(
    node: "pl.DataType | Tree",
    sample: list[Any],
    path: str,
    types: dict[str, tuple[str, ...]],
    nested: dict[str, tuple[str, ...]],
) -> pa.DataType:
    """Give the Arrow type of a node, and note which JSON types it takes."""
    noted = nested if "[*]" in path else types
    if isinstance(node, dict | pl.Struct):
        noted[path] = ("OBJECT",)
        fields: list[tuple[str, Any]] = (
            [(f.name, f.dtype) for f in node.fields] if isinstance(node, pl.Struct) else [*node.items()]
        )
        return pa.struct(_fields(dict(fields), sample, path, types, nested))
    if isinstance(node, pl.List | pl.Array):
        noted[path] = ("ARRAY",)
        below = [item for value in sample if isinstance(value, list) for item in value]
        return pa.list_(_arrow(node.inner, below, f"{path}[*]", types, nested))  # type: ignore[arg-type]
    given = next((type(value) for value in sample if isinstance(value, str)), None)
    result, noted[path] = _leaf(node, is_text=given is str, is_number=given is Number)
    return result


def _leaf(dtype: pl.DataType, *, is_text: bool, is_number: bool) -> tuple[pa.DataType, tuple[str, ...]]:
    if dtype == pl.Boolean:
        return pa.bool_(), ("BOOLEAN",)
    if not is_text:
        if isinstance(dtype, pl.Decimal):
            narrow = dtype.precision <= NARROW.precision and dtype.scale <= NARROW.scale
            return NARROW if narrow else WIDE, _NUMBER
        if type(dtype) in INTEGERS:
            return pa.uint64() if dtype == pl.UInt64 else pa.int64(), _WHOLE
        if dtype.is_float():
            return pa.float64(), _NUMBER
        if isinstance(dtype, pl.Datetime) and is_number:
            return pa.int64(), _WHOLE
    return pa.string(), ("VARCHAR",)


def _members(sample: list[Any], name: str) -> list[Any]:
    return [value.get(name) for value in sample if isinstance(value, dict)]


def _names(dtype: Any) -> list[str]:
    """The member names inside a type."""
    if isinstance(dtype, pl.List | pl.Array):
        return _names(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return [name for f in dtype.fields for name in (f.name, *_names(f.dtype))]
    return []
