"""Which values are equal: what two sides of a comparison are turned into before they are held together.

Values count, not how they are stored: integers of any width, decimals of any scale, times of any unit and
zone (naive ones are UTC). A float equals a float of the same value; NaN equals NaN, and -0.0 equals 0.0.
Text, UUIDs and enums are compared as text, byte by byte. Types that have nothing in common are compared as
text, so they differ unless they read the same. Lists are compared by their elements, structs by the members
that the lake has: the source may have more, in another order, and what it lacks is null there. Expressions
and types are DuckDB's.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Type(Protocol):
    """A type as DuckDB tells it: `str` writes it."""

    @property
    def id(self) -> str:
        """What kind of type it is."""

    @property
    def children(self) -> list[tuple[str, Any]]:
        """The members of a struct, the element of a list: names and types."""


_SMALL = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
_INTEGERS = (*_SMALL, "UBIGINT", "HUGEINT", "UHUGEINT")
_FLOATS = ("FLOAT", "DOUBLE")
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_DIGITS = 38  # of the widest decimal


def quoted(name: str) -> str:
    """Write a name so that SQL takes it as it is."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Write a text as SQL's literal."""
    return "'" + value.replace("'", "''") + "'"


def alike(
    left: Mapping[str, Type], right: Mapping[str, Type], names: Sequence[tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """Give for both sides the expressions whose values can be held together.

    Args:
        left: types by column of the lake.
        right: those of the source.
        names: pairs of columns, of the lake and of the source.
    """
    pairs = [_pair(quoted(a), left[a], quoted(b), right[b]) for a, b in names]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _pair(left: str, left_type: Type, right: str, right_type: Type, depth: int = 0) -> tuple[str, str]:
    if str(left_type) == str(right_type):
        return left, right
    both = {left_type.id, right_type.id}
    if both == {"struct"}:
        return _structs(left, left_type, right, right_type, depth)
    if both <= {"list", "array"}:
        (_, inner), (_, other) = left_type.children[0], right_type.children[0]
        item = f"item{depth}"
        a, b = _pair(item, inner, item, other, depth + 1)
        return f"list_transform({left}, lambda {item}: {a})", f"list_transform({right}, lambda {item}: {b})"
    return _scalars(left, str(left_type), right, str(right_type))


def _structs(left: str, left_type: Type, right: str, right_type: Type, depth: int) -> tuple[str, str]:
    """Give both sides the members of the left one, in its order."""
    held = dict(right_type.children)
    packed: list[list[str]] = [[], []]
    for name, dtype in left_type.children:
        a, b = f"struct_extract({left}, {text(name)})", "NULL"
        if name in held:
            a, b = _pair(a, dtype, f"struct_extract({right}, {text(name)})", held[name], depth)
        for members, expression in zip(packed, (a, b), strict=True):
            members.append(f"{quoted(name)} := {expression}")
    a, b = (
        f"CASE WHEN {value} IS NOT NULL THEN struct_pack({', '.join(members)}) END"
        for value, members in zip((left, right), packed, strict=True)
    )
    return a, b


def _scalars(left: str, left_type: str, right: str, right_type: str) -> tuple[str, str]:
    kinds = _kind(left_type), _kind(right_type)
    both = set(kinds)
    if both == {"integer"}:
        wide = "BIGINT" if {left_type, right_type} <= set(_SMALL) else "HUGEINT"
        return _cast(left, wide), _cast(right, wide)
    if both <= {"integer", "decimal"}:
        return _decimals(left, left_type, right, right_type)
    if both <= {"integer", "decimal", "float"}:
        return _cast(left, "DOUBLE"), _cast(right, "DOUBLE")
    if both <= {"moment", "date"}:
        return _moment(left, left_type), _moment(right, right_type)
    if both <= {"time", "integer"}:  # the lake keeps times of day as microseconds
        return _clock(left, kinds[0]), _clock(right, kinds[1])
    return _cast(left, "VARCHAR"), _cast(right, "VARCHAR")


def _kind(name: str) -> str:
    if name in _INTEGERS:
        return "integer"
    if name in _FLOATS:
        return "float"
    if _DECIMAL.fullmatch(name):
        return "decimal"
    if name.startswith("TIMESTAMP"):
        return "moment"
    return {"DATE": "date", "TIME": "time", "TIME_NS": "time"}.get(name, "other")


def _decimals(left: str, left_type: str, right: str, right_type: str) -> tuple[str, str]:
    sizes = [_size(left_type), _size(right_type)]
    whole, scale = max(p - s for p, s in sizes), max(s for _, s in sizes)
    if whole + scale <= _DIGITS:
        wide = f"DECIMAL({whole + scale},{scale})"
        return _cast(left, wide), _cast(right, wide)
    return _trimmed(left, sizes[0][1]), _trimmed(right, sizes[1][1])


def _size(name: str) -> tuple[int, int]:
    found = _DECIMAL.fullmatch(name)
    if found:
        return int(found[1]), int(found[2])
    return (19, 0) if name in _SMALL else (_DIGITS, 0)


def _trimmed(value: str, scale: int) -> str:
    digits = _cast(value, "VARCHAR")
    return f"rtrim(rtrim({digits}, '0'), '.')" if scale else digits


def _moment(value: str, name: str) -> str:
    """Count nanoseconds since 1970; microseconds reach further than 64 bits of nanoseconds."""
    return f"epoch_ns({value})::HUGEINT" if name.endswith("_NS") else f"epoch_us({value})::HUGEINT * 1000"


def _clock(value: str, kind: str) -> str:
    return f"epoch_us({value})" if kind == "time" else _cast(value, "BIGINT")


def _cast(value: str, name: str) -> str:
    return f"CAST({value} AS {name})"
