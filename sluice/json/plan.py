"""The plan by which machine code reads a contract's columns, and the Arrow types in which they come back.

Decides how each type of `contract.md` section 2 is asked for. The plan is a list of numbers, seven a node,
parents before children: kind, column (-1: a part of one), two parameters, place and size of the name in
`Plan.names`, how many children. It refuses what the strict decoder refuses: types that no JSON can become.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import Any

import polars as pl
import pyarrow as pa

from sluice.columns import Column
from sluice.contract import Json
from sluice.errors import ColumnTypeError
from sluice.json.times import PER_SECOND, offsets
from sluice.json.values import FLOATS, INTEGERS

DEEPEST = 64  # levels of a contract's types and paths; JSON may be deeper
NAIVE, BARE, NO_TEXT, GUESSED = 16, 32, 64, 256  # flags, as in `native/json_node.h`
FLOAT_BITS: dict[type[pl.DataType], int] = {pl.Float16: 16, pl.Float32: 32, pl.Float64: 64}


class Kind(IntEnum):
    """What a node reads; in the order of `native/json_node.h`."""

    PATH = 0
    STRUCT = auto()
    LIST = auto()
    NAME = auto()
    BOOLEAN = auto()
    INTEGER = auto()
    DECIMAL = auto()
    FLOAT = auto()
    STRING = auto()
    ENUM = auto()
    BINARY = auto()
    DATETIME = auto()
    DATE = auto()
    CLOCK = auto()
    DURATION = auto()
    UNSCALED = auto()  # a decimal as base64 of its unscaled integer
    COUNT = auto()  # a whole number, bare
    ANY = auto()  # looked over, not kept
    UNSURE = auto()  # whatever it is, the strict reader reads it
    NEVER = auto()  # where it is, the row is in doubt


class Strangers(IntEnum):
    """What a path does with members that no child takes; in the order of `native/json_node.h`."""

    PASSED = 0
    COUNTED = auto()
    REFUSED = auto()


@dataclass
class Node:
    """A node: what it reads, what its values become (`arrow`; None: it has no values of its own)."""

    kind: Kind
    name: str = ""
    arrow: pa.DataType = None
    column: int = -1
    parameters: tuple[int, int] = (0, 0)
    children: "list[Node]" = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """A tree of nodes, and the same as numbers and bytes; the zone of date-times without offset."""

    root: Node
    numbers: list[int]
    names: bytes
    zone: tuple[tuple[int, int, int], ...]


def plan(columns: Sequence[Column], options: Json) -> Plan | None:
    """Plan how to read columns, several of which may take the same member; None: they are too deep.

    Raises:
        ColumnTypeError: a column has a type that no JSON value can become.
    """
    root = Node(Kind.PATH, parameters=(Strangers.COUNTED, 0))
    for place, column in enumerate(columns):
        put(root, column.path, node_of(column.dtype, options), place)
    return planned(root, options.timezone)


def planned(root: Node, timezone: str) -> Plan | None:
    """Write a tree of nodes down; None: it is too deep."""
    if _levels(root) > DEEPEST:
        return None
    numbers: list[int] = []
    names = bytearray()
    _write(root, numbers, names)
    return Plan(root, numbers, bytes(names), offsets(timezone))


def put(root: Node, path: Sequence[str], leaf: Node, column: int = -1) -> None:
    """Put a leaf where a path leads to, as a column or as none."""
    node = root
    for name in path[:-1]:
        found = next((c for c in node.children if c.kind == Kind.PATH and c.name == name), None)
        if found is None:
            found = Node(Kind.PATH, name)
            node.children.append(found)
        node = found
    leaf.name, leaf.column = path[-1], column
    node.children.append(leaf)


def node_of(dtype: Any, options: Json, name: str = "") -> Node:
    """Give the node that reads plain JSON into a type.

    Raises:
        ColumnTypeError: no JSON value can become this type.
    """
    match dtype:
        case pl.List() | pl.Array():
            item = node_of(dtype.inner, options)
            size = dtype.size if isinstance(dtype, pl.Array) else -1
            return Node(Kind.LIST, name, pa.large_list(item.arrow), parameters=(size, 0), children=[item])
        case pl.Struct():
            fields = [node_of(f.dtype, options, f.name) for f in dtype.fields]
            arrow = pa.struct([pa.field(node.name, node.arrow) for node in fields])
            return Node(Kind.STRUCT, name, arrow, children=fields)
        case pl.Enum():
            categories = [Node(Kind.NAME, category) for category in dtype.categories]
            return Node(Kind.ENUM, name, pa.string_view(), children=categories)
    kind, arrow, parameters = _leaf(dtype, options)
    return Node(kind, name, arrow, parameters=parameters)


def _leaf(dtype: Any, options: Json) -> tuple[Kind, pa.DataType, tuple[int, int]]:
    if type(dtype) in INTEGERS:
        low, high = INTEGERS[type(dtype)]
        return Kind.INTEGER, getattr(pa, str(dtype).lower())(), ((high - low).bit_length(), int(low < 0))
    if type(dtype) in FLOATS:
        bits = FLOAT_BITS[type(dtype)]
        return Kind.FLOAT, pa.float32() if dtype == pl.Float32 else pa.float64(), (bits, 0)
    if dtype.is_temporal():
        return _temporal(dtype, options)
    match dtype:
        case pl.String() | pl.Categorical():
            return Kind.STRING, pa.string_view(), (0, 0)
        case pl.Boolean():
            return Kind.BOOLEAN, pa.bool_(), (0, 0)
        case pl.Decimal():
            digits = (dtype.precision, dtype.scale)
            return Kind.DECIMAL, pa.decimal128(*digits), digits
        case pl.Binary():
            return Kind.BINARY, pa.binary_view(), (0, 0)
    raise ColumnTypeError(str(dtype))


def _temporal(dtype: Any, options: Json) -> tuple[Kind, pa.DataType, tuple[int, int]]:
    match dtype:
        case pl.Date():
            return Kind.DATE, pa.date32(), (0, 0)
        case pl.Time():
            return Kind.CLOCK, pa.time64("ns"), (0, 0)
        case pl.Duration():
            return Kind.DURATION, pa.duration(dtype.time_unit), (_places(dtype.time_unit), 0)
    arrow, places = pa.timestamp(dtype.time_unit, dtype.time_zone), _places(dtype.time_unit)
    if dtype.time_zone is None:
        return Kind.DATETIME, arrow, (places | NAIVE, -1)
    return Kind.DATETIME, arrow, (places, -1 if options.epoch is None else _places(options.epoch))


def _places(unit: str) -> int:
    return len(str(PER_SECOND[unit])) - 1


def _levels(node: Node) -> int:
    return 1 + max(map(_levels, node.children), default=0)


def _write(node: Node, numbers: list[int], names: bytearray) -> None:
    name = node.name.encode(errors="surrogatepass")
    plain = not any(byte < ord(" ") or byte in b'"\\' for byte in name)
    numbers += [node.kind, node.column, *node.parameters]
    numbers += [len(names), len(name) if plain else -1, len(node.children)]
    names += name
    for child in node.children:
        _write(child, numbers, names)
