"""Changes inside a column's value, which silver keeps (`_patch`) and the fold applies.

A patch is JSON text: `{column: [[path, action, value], ...]}`, the paths relative to the column, values in
Extended JSON. It applies to the value that the column had before, in the life of its key; so whatever order
changes arrive in, the fold gives the value that the source had. Rules of the model do not see what it gives.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from sluice.columns import Column, model_dtype, to_storage
from sluice.contract import Changes
from sluice.envelopes.edits import Edit, edited, place_of
from sluice.envelopes.extended_json import canonical, document
from sluice.envelopes.mongodb_values import value_reader
from sluice.errors import NotExtendedJsonError
from sluice.json.rows import series_of
from sluice.json.values import Misfit

_GONE = ("d", "t")


def checked(edits: Sequence[Edit], column: Column, misfits: list[Misfit]) -> list[list[Any]]:
    """Give the edits inside a column as a patch has them; what its type has no place for is left out.

    What cannot be in the column is listed in `misfits`.
    """
    kept: list[list[Any]] = []
    base = ".".join(column.path)
    for edit in edits:
        where = f"{base}.{edit.path}" if edit.path else base
        parts = edit.path.split(".") if edit.path else []
        if column.document:
            text = _text(edit.value, len(parts), where, misfits) if edit.action == "set" else None
        else:
            found = _inside(column.dtype, parts)
            if isinstance(found, str):
                misfits.append((where, f"found a change inside; {found}"))
                continue
            if found is None:
                continue
            if edit.action == "set":
                value_reader(found)(edit.value, where, misfits)
            if edit.action == "cut" and not isinstance(found, pl.List):
                misfits.append((where, f"found an array that is cut; {found} is expected"))
            text = canonical(edit.value) if edit.action == "set" and not misfits else None
        kept.append([edit.path, edit.action, edit.value if edit.action == "cut" else text])
    return kept


def _text(value: Any, depth: int, where: str, misfits: list[Misfit]) -> str | None:
    """Write a value that is set so deep in a document that the document can be written with it."""
    try:
        return canonical(value, depth)
    except NotExtendedJsonError as error:
        misfits.append((where, str(error)))
        return None


def _inside(dtype: pl.DataType, parts: Sequence[str]) -> pl.DataType | str | None:
    """Find the type at a path; None: the type has no such member; a text: why there can be none."""
    for part in parts:
        match dtype:
            case pl.Struct():
                inner = {field.name: field.dtype for field in dtype.fields}.get(part)
                if inner is None:
                    return None
            case pl.List() | pl.Array():
                size = dtype.size if isinstance(dtype, pl.Array) else None
                place = place_of(part)
                if place is None or (size is not None and place >= size):
                    return f"{part!r} is no place in {dtype}"
                inner = dtype.inner
            case _:
                return f"{dtype} has nothing inside"
        dtype = model_dtype(inner)
    return dtype


def grounded(states: pl.DataFrame) -> pl.DataFrame:
    """Leave out changes of what is not there: they wait for the image that they change.

    Args:
        states: sorted by key (`_id`) and order, with `_op` and `_patch` (null: an image, or a delete).
    """
    row, gone = pl.int_range(pl.len()), pl.col("_op").is_in(_GONE)
    image = pl.when(pl.col("_patch").is_null() & ~gone).then(row).forward_fill().over("_id")
    end = pl.when(gone).then(row).forward_fill().over("_id")
    stands = pl.col("_patch").is_null() | gone | (image > end.fill_null(-1)).fill_null(value=False)
    return states.filter(stands)


def patched(
    filled: pl.DataFrame, states: pl.DataFrame, missing: Mapping[str, pl.Expr], stream: Changes
) -> pl.DataFrame:
    """Apply the patches of changes to what their columns were before.

    Args:
        filled: states sorted by key (`_id`) and order, in which values that were not sent are carried.
        states: the same rows with `_patch`.
        missing: tells of each column where it was not sent.
        stream: the contract.
    """
    patches = {
        row: json.loads(text) for row, text in enumerate(states["_patch"].to_list()) if text is not None
    }
    columns = []
    for name in sorted({name for patch in patches.values() for name in patch} & missing.keys()):
        of_column = {row: patch[name] for row, patch in patches.items() if name in patch}
        unsent = states.select(missing[name]).to_series()
        columns.append(_column(filled, of_column, unsent, stream.column(name)))
    return filled.with_columns(columns)


def _column(
    filled: pl.DataFrame, patches: Mapping[int, Sequence[Sequence[Any]]], unsent: pl.Series, column: Column
) -> pl.Series:
    """Give one column with its patches applied, and carried on."""
    known = filled[column.name]
    ids, ops = filled["_id"], filled["_op"]
    touched = ids.gather(list(patches)).unique().implode()
    rows = pl.int_range(filled.height, eager=True).filter(ids.is_in(touched))
    new: dict[int, Any] = {}
    before = last = None  # the row before, of the same life, if its value is new; its key
    for row, key, op, carried in zip(
        rows, ids.gather(rows), ops.gather(rows), unsent.gather(rows), strict=True
    ):
        base: int | None = before if key == last and carried else None
        last, before = key, None
        if op in _GONE:
            continue
        if row in patches:
            new[row] = _applied(known[row] if base is None else new[base], patches[row], column)
            before = row
        elif base is not None:
            new[row] = new[base]
            before = row
    made = pl.Series(column.name, list(new.values()), dtype=known.dtype, strict=False)
    places = pl.int_range(filled.height, eager=True).scatter(
        list(new), pl.int_range(filled.height, filled.height + len(new), eager=True)
    )
    return pl.concat([known, made]).gather(places)


def _applied(base: Any, patch: Sequence[Sequence[Any]], column: Column) -> Any:
    """Apply a patch to a value as silver stores it."""
    value = base.to_list() if isinstance(base, pl.Series) else base
    if column.document and value is not None:
        value = document(str(value))
    for path, action, told in patch:
        parts = path.split(".") if path else []
        if column.document:
            value = edited(value, parts, action, document(told) if action == "set" and told else told)
        else:
            leaf = _stored(told, _inside(column.dtype, parts)) if action == "set" else told
            value = edited(value, parts, action, leaf, column.dtype)
    return canonical(value) if column.document and value is not None else value


def _stored(text: str | None, dtype: Any) -> Any:
    """Read a value of a patch as silver stores values of its type."""
    if text is None:
        return None
    column = Column("value", dtype, nullable=True, path=("value",))
    read = value_reader(dtype)(document(text), "value", [])
    return to_storage(series_of(column, [read]).to_frame(), (column,)).to_series().to_list()[0]
