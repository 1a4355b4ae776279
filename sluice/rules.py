"""The rules of a contract's model (`isin`, `ge`, `str_matches`, own checks), judged row by row by pandera.

Types and nulls are decided before, by the decoders; here a null passes the rules of its column.
Whether a rule may see more than its row is judged when the contract is loaded, not here. A rule that
cannot be computed is refused with an error: no row may pass or fail because of it.
"""

from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors

from sluice.decoded import FAILURES_SCHEMA, no_failures
from sluice.errors import RuleError
from sluice.json.values import shortened

_FIELD_NAMES = {
    "equal_to": "eq",
    "not_equal_to": "ne",
    "greater_than": "gt",
    "greater_than_or_equal_to": "ge",
    "less_than": "lt",
    "less_than_or_equal_to": "le",
}


def rule_name(check: Any) -> str:
    """Name a pandera check as the contract writes it: `ge`, `isin`, or the name of an own check."""
    name = str(check.name or "check")
    return _FIELD_NAMES.get(name, name)


def broken_rules(frame: pl.DataFrame, model: Any) -> pl.DataFrame:
    """List the rules that rows break (FAILURES_SCHEMA, `_row` being the place in the frame).

    Args:
        frame: the contract's columns, in their types.
        model: the `pandera.polars.DataFrameModel` (or its schema).

    Raises:
        RuleError: a rule fails by itself, whatever the row.
    """
    schema = model if isinstance(model, pa.DataFrameSchema) else model.to_schema()
    names = list(schema.columns)
    rules = pa.DataFrameSchema(
        {name: pa.Column(checks=schema.columns[name].checks, nullable=True) for name in names},
        checks=schema.checks,
    )
    doubted = _doubted(frame, rules)
    if not doubted.len():
        return no_failures()
    some = doubted.len() < frame.height
    broken = _broken(frame[doubted] if some else frame, rules, names)
    return broken.with_columns(_row=doubted.gather(broken["_row"]))


def _doubted(frame: pl.DataFrame, rules: Any) -> pl.Series:
    """Give the places of the rows that may break a rule; few do, and only they are judged one by one.

    Where a check cannot be asked for a column of answers, every row is in doubt.
    """
    places = pl.int_range(frame.height, dtype=pl.UInt32, eager=True)
    rows = frame.lazy()
    checks = [(name, check) for name, column in rules.columns.items() for check in column.checks]
    asked = [(name, check) for name, check in [*checks, *((None, check) for check in rules.checks)]]
    try:
        told = pl.collect_all(
            check.get_backend(rows)(check).apply(PolarsData(rows, name or "*")) for name, check in asked
        )
    except Exception:  # noqa: BLE001  # it is asked again below, and explained
        return places
    passed = pl.repeat(value=True, n=frame.height, eager=True)
    for (_, check), answers in zip(asked, told, strict=True):
        if answers.height != frame.height:
            return places
        passed &= answers.to_series().fill_null(bool(check.ignore_na))
    return places.filter(~passed)


def _broken(frame: pl.DataFrame, rules: Any, names: list[str]) -> pl.DataFrame:
    """List the rules that rows break, as pandera tells them."""
    try:
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            rules.validate(frame.select(names), lazy=True)
    except SchemaErrors as errors:
        return _failures(errors.failure_cases, rules, names)
    return no_failures()


def _failures(cases: pl.DataFrame, rules: Any, names: list[str]) -> pl.DataFrame:
    """Name the rules of pandera's failure cases, in the order of rows, columns and rules."""
    broken = []
    order = {name: place for place, name in enumerate(names)}
    for (context, column, number, text), group in cases.group_by(
        "schema_context", "column", "check_number", "check", maintain_order=True
    ):
        own = context == "Column"
        if number is None or group["index"].has_nulls():
            raise RuleError(str(text), str(column), str(group["failure_case"][0]))
        checks = rules.columns[column].checks if own else rules.checks
        check = checks[number]
        wanted = str(check.error or check.description or text)
        broken.append(
            group.rechunk().select(  # polars 2.1 panics where it formats an empty chunk
                _row=pl.col("index").cast(pl.UInt32),
                stage=pl.lit("rule"),
                column=pl.lit(column if own else None, pl.String),
                rule=pl.lit(rule_name(check)),
                reason=pl.format(
                    "found {}, which breaks the rule {}",
                    pl.col("failure_case").map_elements(shortened, pl.String),
                    pl.lit(shortened(wanted, 200)),
                ),
                place=pl.lit(order[column] if own else len(order), pl.Int64),
            )
        )
    table = pl.concat(broken).sort("_row", "place", maintain_order=True)
    return table.select(FAILURES_SCHEMA.keys())
