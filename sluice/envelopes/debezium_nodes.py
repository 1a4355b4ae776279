"""What machine code may read of a field as Debezium wrote it: the node of a plan for a type and its schema.

Decides by the same encodings as `sluice.envelopes.debezium_values`, which stands for what is right: a node
takes nothing that the reader there would refuse or read otherwise. What no node reads is left to that reader,
value by value: arrays, objects, intervals, bits, decimals whose scale is not the column's.
"""

from typing import Any

import polars as pl
import pyarrow as pa

from sluice.contract import Debezium, Json
from sluice.envelopes.debezium_values import CLOCKS, DATES, DURATIONS, STAMPS, Schema, parameter, time_units
from sluice.json.plan import BARE, GUESSED, NO_TEXT, Kind, Node, node_of

_PLAIN = Json()
_PLACES = {10**6: 3, 10**3: 6, 1: 9}  # of a second, by nanoseconds of a unit
_COUNTED = {*DATES, *STAMPS, *CLOCKS}
_ODD = {
    *DURATIONS,
    "org.apache.kafka.connect.data.Decimal",
    "io.debezium.data.VariableScaleDecimal",
    "io.debezium.data.Bits",
}


def field_node(dtype: Any, schema: Schema | None, options: Debezium) -> Node:
    """Give the node that reads a field's values into a type.

    Args:
        dtype: the column's type.
        schema: the field's block of the schema; None where the stream carries none.
        options: how the connector is configured.

    Raises:
        ColumnTypeError: no JSON value can become this type.
    """
    found = None
    if not dtype.is_nested():
        found = _written(dtype, schema, options) if schema else _unwritten(dtype, options)
    return found or Node(Kind.UNSURE)


def _written(dtype: Any, schema: Schema, options: Debezium) -> Node | None:
    encoding = str(schema.get("name") or schema.get("type"))
    if encoding == "org.apache.kafka.connect.data.Decimal":
        scale, most = parameter(schema, "scale"), parameter(schema, "connect.decimal.precision")
        return _unscaled(dtype, most) if isinstance(dtype, pl.Decimal) and scale == dtype.scale else None
    if encoding in _ODD and not (encoding in DURATIONS and dtype.is_integer()):
        return None
    if encoding in _COUNTED and not dtype.is_integer():
        return _counted(dtype, encoding)
    if isinstance(dtype, pl.Binary):
        mode = options.binary if schema.get("type") == "string" else "base64"
        return node_of(dtype, _PLAIN) if mode == "base64" else None
    return _text(dtype)


def _unwritten(dtype: Any, options: Debezium) -> Node | None:
    units = time_units(dtype, options)
    match dtype:
        case pl.Decimal():
            digits = options.decimal in ("string", "double")
            return node_of(dtype, _PLAIN) if digits else _unscaled(dtype, None, options.decimal)
        case pl.Date():
            return Node(Kind.DATE, arrow=pa.date32(), parameters=(BARE, -1))
        case pl.Datetime():
            node = _text(dtype)
            if node and units:
                node.parameters = (node.parameters[0] | BARE, _PLACES[units[0]])
            return node
        case pl.Time():
            counted = (BARE | (GUESSED if len(units) > 1 else 0), _PLACES[units[-1]]) if units else (0, 0)
            return Node(Kind.CLOCK, arrow=pa.time64("ns"), parameters=counted)
        case pl.Binary():
            return node_of(dtype, _PLAIN) if options.binary == "base64" else None
        case pl.Duration():
            return None
        case _:
            node = _text(dtype)
            if node and node.kind in (Kind.INTEGER, Kind.FLOAT) and options.decimal in (None, "precise"):
                node.parameters = (node.parameters[0], node.parameters[1] | NO_TEXT)
            return node


def _counted(dtype: Any, encoding: str) -> Node | None:
    """Read times told as counts, and never as text."""
    only = BARE | NO_TEXT
    match dtype:
        case pl.Date() if encoding in DATES:
            return Node(Kind.DATE, arrow=pa.date32(), parameters=(only, -1))
        case pl.Time() if encoding in CLOCKS:
            return Node(Kind.CLOCK, arrow=pa.time64("ns"), parameters=(only, _PLACES[CLOCKS[encoding]]))
        case pl.Datetime() if encoding in STAMPS:
            node = node_of(dtype, _PLAIN)
            node.parameters = (node.parameters[0] | only, _PLACES[STAMPS[encoding]])
            return node
    return None


def _unscaled(dtype: Any, most: int | None, mode: str | None = "precise") -> Node | None:
    """Read unscaled integers of the column's scale; where it must be guessed, what is sure to be one."""
    precision = dtype.precision if most is None else min(dtype.precision, most)
    if precision < 1:
        return None
    parameters = (precision, dtype.scale | (0 if mode else GUESSED))
    return Node(Kind.UNSCALED, arrow=pa.decimal128(dtype.precision, dtype.scale), parameters=parameters)


def _text(dtype: Any) -> Node | None:
    """Read what plain JSON would say; of times, texts only."""
    if isinstance(dtype, pl.Duration):  # may be told by its parts
        return None
    return node_of(dtype, _PLAIN)
