"""Changes inside a value: what MongoDB's `updateDescription` and `patch` say, and how they are applied.

An edit names a path of dots (`a.b.0.c`): numbers are places in arrays, and members elsewhere. Not covered,
since the source does not tell them apart: members whose own names have dots, or are numbers inside an array.
A path through what is neither array nor object makes an object of it, as replaying an older edit on a newer
image may ask for; a later edit then tells what stands.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import polars as pl

from sluice.columns import model_dtype
from sluice.envelopes.bson_types import Typed, is_reserved, typed
from sluice.envelopes.extended_json import DEEPEST, document
from sluice.errors import NotAChangeError
from sluice.json.strict import Number, is_unicode
from sluice.json.values import shown

FARTHEST = 1 << 22  # places in an array: no document of 16 MB has more
Action = Literal["set", "remove", "cut"]


class Edit(NamedTuple):
    """One change of one path; `value` is what is set, or the length to which an array is cut."""

    path: str
    action: Action
    value: Any = None


def edits_of(payload: dict[str, Any]) -> tuple[Edit, ...] | None:
    """Read the edits that an envelope tells, in the order in which they apply; None: it tells none.

    Raises:
        NotAChangeError: they are not written as the connector writes them.
        NotJsonError: a text in them is no JSON.
    """
    edits = _edits(payload)
    for edit in edits or ():
        parts = edit.path.split(".")
        if len(parts) > DEEPEST or not is_unicode(edit.path) or any(map(is_reserved, parts)):
            raise NotAChangeError(f"found a change of {shown(edit.path)}, which is no path")
    return edits


def _edits(payload: dict[str, Any]) -> tuple[Edit, ...] | None:
    told = payload.get("updateDescription")
    if isinstance(told, dict):
        updated = _object(told.get("updatedFields"), "updatedFields")
        removed = _names(told.get("removedFields"))
        return (*_cuts(told.get("truncatedArrays")), *removed, *_sets(updated))
    patch = payload.get("patch")
    if patch is None:
        return None
    operators = _object(patch, "patch")
    if not operators.keys() <= {"$v", "$set", "$unset"}:
        raise NotAChangeError(f"found a patch with {', '.join(operators)}")
    unset = _object(operators.get("$unset"), "$unset")
    return (*(Edit(name, "remove") for name in unset), *_sets(_object(operators.get("$set"), "$set")))


def replacement(payload: dict[str, Any]) -> dict[str, Any] | None:
    """Give the whole document that a `patch` without operators is."""
    if payload.get("patch") is None:
        return None
    found = _object(payload["patch"], "patch")
    return None if any(name.startswith("$") for name in found) else found


def concerning(edits: Sequence[Edit], path: str) -> tuple[Edit | None, list[Edit]]:
    """Sort out what edits say of the value at a path.

    Returns:
        The edit that sets or removes the value, or something that holds it; and the edits inside it, their
        paths relative to it.
    """
    whole, parts = None, []
    for edit in edits:
        if edit.path == path and edit.action == "cut":
            parts.append(edit._replace(path=""))
        elif edit.path.startswith(f"{path}."):
            parts.append(edit._replace(path=edit.path[len(path) + 1 :]))
        elif edit.action != "cut" and (edit.path == path or path.startswith(f"{edit.path}.")):
            whole = edit
    return whole, parts


def edited(
    base: Any, path: Sequence[str], action: Action, value: Any, dtype: pl.DataType | None = None
) -> Any:
    """Give what a value is after an edit; `base` itself is left as it is.

    Args:
        base: lists, dicts and scalars.
        path: the parts of the edit's path.
        action: what is done there.
        value: the value set, or the length.
        dtype: the type of `base`, whose members all exist; None: a document, which has what it has.
    """
    if not path:
        if action == "cut":
            return base[:value] if isinstance(base, list) else base
        return value if action == "set" else None
    if base is None and action != "set":
        return None
    head, rest = path[0], path[1:]
    if isinstance(base, list) or (base is None and isinstance(dtype, pl.List | pl.Array)):
        return _in_array(base or [], head, rest, action, value, dtype)
    is_object = isinstance(base, dict) and (dtype is not None or isinstance(typed(base), dict))
    members = dict(base) if is_object else {}
    inner = None
    if isinstance(dtype, pl.Struct):
        members = {field.name: members.get(field.name) for field in dtype.fields}
        inner = {field.name: model_dtype(field.dtype) for field in dtype.fields}.get(head)
    elif action != "set" and head not in members:
        return base
    elif action == "remove" and not rest:
        del members[head]
        return members
    members[head] = edited(members.get(head), rest, action, value, inner)
    return members


def _in_array(
    base: list[Any], head: str, rest: Sequence[str], action: Action, value: Any, dtype: pl.DataType | None
) -> list[Any]:
    place = place_of(head)
    if place is None or (action != "set" and place >= len(base)):
        return base
    items = [*base, *[None] * (place + 1 - len(base))]
    inner = model_dtype(dtype.inner) if isinstance(dtype, pl.List | pl.Array) else None
    items[place] = edited(items[place], rest, action, value, inner)
    return items


def place_of(part: str) -> int | None:
    """Read a part of a path as a place in an array."""
    short = part.isascii() and part.isdecimal() and len(part) <= len(str(FARTHEST))
    return int(part) if short and int(part) < FARTHEST else None


def _object(value: Any, name: str) -> dict[str, Any]:
    """Read an object, or the text of one; null is empty."""
    if value is None:
        return {}
    found = document(value) if isinstance(value, str) and not isinstance(value, Number) else value
    if not isinstance(found, dict):
        raise NotAChangeError(f"found `{name}` with {shown(value)}")
    return found


def _sets(updated: dict[str, Any]) -> list[Edit]:
    return [Edit(name, "set", value) for name, value in updated.items()]


def _names(value: Any) -> list[Edit]:
    found = document(value) if isinstance(value, str) else value
    if found is None:
        return []
    if not isinstance(found, list) or not all(type(name) is str for name in found):
        raise NotAChangeError(f"found `removedFields` with {shown(value)}")
    return [Edit(name, "remove") for name in found]


def _cuts(value: Any) -> list[Edit]:
    cuts = []
    for item in value if isinstance(value, list) else []:
        told = item if isinstance(item, dict) else {}
        size = typed(told.get("size", told.get("newSize")))
        if not isinstance(told.get("field"), str) or not isinstance(size, Typed) or size.kind != "int32":
            raise NotAChangeError(f"found `truncatedArrays` with {shown(item)}")
        cuts.append(Edit(told["field"], "cut", max(size.value, 0)))
    return cuts
