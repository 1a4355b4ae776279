"""What is wrong with a contract's model: its columns, their types and names, and its rules.

Decides which types values and Delta can both hold, and finds rules that need more than their row by
running each on a few made-up rows, together and one by one. A rule that fails on those rows for another
reason is given the benefit of the doubt. Nothing is raised here.
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pandera.polars as pa
import polars as pl

from sluice.columns import REST, Column, leaf_dtype, model_columns

Found = tuple[str, str, str]  # argument, what was found, what is allowed

MODEL = "a pandera.polars.DataFrameModel with at least one column"
TYPES = (
    "Int8 to Int64, UInt8 to UInt64, Float32, Float64, Decimal(precision up to 38, scale), String, Boolean, "
    "Binary, Date, Time, Duration, Datetime, Enum, Categorical, and List, Array and Struct of these"
)
_NUMBERS = (
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.UInt8,
    pl.UInt16,
    pl.UInt32,
    pl.UInt64,
    pl.Float32,
    pl.Float64,
)
_TIMES = (pl.Date, pl.Time, pl.Duration, pl.Datetime)
_SCALARS = (*_NUMBERS, *_TIMES, pl.String, pl.Boolean, pl.Binary, pl.Enum, pl.Categorical)
_MOST_DIGITS = 38
_MOST_PLACES = 6  # of a second, as PostgreSQL and MySQL have them
_ONE_ROW = (
    "rules that look at one row; `key` gives one row a key, and whatever sees more rows is an asset check"
)


def schema_problems(model: Any) -> tuple[tuple[Column, ...], list[Found]]:
    """Read a model's columns, and list all that is wrong with it.

    Returns:
        The columns, none where they cannot be read; and the problems.
    """
    if not (inspect.isclass(model) and issubclass(model, pa.DataFrameModel)):
        return (), [("schema", repr(model), MODEL)]
    try:
        columns = model_columns(model)
    except Exception as error:  # noqa: BLE001  # pandera raises whatever the annotations make it raise
        return (), [("schema", f"{model.__name__}, which cannot be read ({first_line(error)})", MODEL)]
    if not columns:
        return (), [("schema", f"{model.__name__} without columns", MODEL)]
    types = [(f"schema.{c.name}", wrong, TYPES) for c in columns if (wrong := _refused(c.dtype))]
    types += list(_precisions(columns))
    rules = [] if types else _wide_rules(model, columns)  # no rows can be made of a refused type
    return columns, [*_names(columns), *types, *_unsupported(model), *rules]


def _names(columns: Sequence[Column]) -> Iterator[Found]:
    count = Counter(column.name.lower() for column in columns)
    for column in columns:
        argument = f"schema.{column.name}"
        if column.name.startswith("_"):
            yield (
                argument,
                "a name that begins with '_'",
                "names that begin otherwise: those are Sluice's own",
            )
        if count[column.name.lower()] > 1:
            yield (
                argument,
                "a name that differs from another only in case",
                "names that differ: Delta ignores case",
            )


def _precisions(columns: Sequence[Column]) -> Iterator[Found]:
    for column in columns:
        timed = isinstance(leaf_dtype(column.dtype), pl.Time | pl.Datetime)
        timed = timed and column.precision in range(_MOST_PLACES + 1)
        if column.precision is not None and not timed:
            yield (
                f"schema.{column.name}",
                f"the precision {column.precision!r} for {column.dtype}",
                f"0 to {_MOST_PLACES} digits of a second, for Time and Datetime",
            )


def document_problems(columns: Sequence[Column], *, of_documents: bool) -> Iterator[Found]:
    """Tell which columns keep documents where there are none, or all members where they cannot."""
    for column in columns:
        if column.document and not of_documents:
            yield (
                f"schema.{column.name}",
                "Document",
                "Document where the value is Debezium('mongodb'); elsewhere JSON is String",
            )
        if column.path == (REST,) and not column.document:
            yield (
                f"schema.{column.name}",
                f"the path {REST!r} for {column.dtype}",
                "this path for Document only",
            )


def _refused(dtype: Any) -> str | None:
    """Name the type inside `dtype` that cannot be stored, if any."""
    match dtype:
        case pl.List() | pl.Array():
            return _refused(dtype.inner)
        case pl.Struct():
            names = [field.name.lower() for field in dtype.fields]
            if not names:
                return "a Struct without fields"
            if len(set(names)) < len(names):
                return "a Struct with two fields of one name"
            return next(filter(None, (_refused(field.dtype) for field in dtype.fields)), None)
        case pl.Decimal():
            return None if (dtype.precision or _MOST_DIGITS) <= _MOST_DIGITS else str(dtype)
        case _:
            scalar = dtype if isinstance(dtype, type) else type(dtype)
            return None if scalar in _SCALARS else str(dtype)


def _unsupported(model: Any) -> Iterator[Found]:
    """Find what pandera offers and a contract cannot honour."""
    schema = model.to_schema()
    for name, column in schema.columns.items():
        argument = f"schema.{name}"
        if column.regex:
            yield argument, "regex=True", "one name a column"
        if not column.required:
            yield argument, "an Optional column", "pa.Field(nullable=True): a missing member is null"
        if column.default is not None:
            yield argument, f"default={column.default!r}", "no default: a missing member is null"
        if column.unique:
            yield argument, "unique=True, which needs more than its row", _ONE_ROW
        if column.parsers:
            yield argument, "a parser", "no parser: values are kept as they came, or refused"
    if schema.unique:
        yield "schema", f"unique={schema.unique!r}, which needs more than its row", _ONE_ROW
    if schema.parsers:
        yield "schema", "a parser", "no parser: values are kept as they came, or refused"
    fields = {name for base in model.__mro__ for name in vars(base).get("__annotations__", ())}
    aliases = Counter(
        str(getattr(model, name, name)) for name in fields
    )  # pandera keeps the last of equal ones
    for name in (name for name in schema.columns if aliases[name] > 1):
        yield f"schema.{name}", "two fields of this name", "one field a column"


def _wide_rules(model: Any, columns: Sequence[Column]) -> Iterator[Found]:
    """Find the rules whose verdict on a row changes with the rows beside it."""
    schema = model.to_schema()
    rows = _made_up(columns)
    rules = [(name, check) for name, column in schema.columns.items() for check in column.checks]
    for column, check in [*rules, *((None, check) for check in schema.checks)]:
        argument = f"schema.{column}" if column else "schema"
        rule = check.name or "a rule"
        try:
            wide = _needs_more(check, rows, column)
        except pl.exceptions.ColumnNotFoundError as error:
            yield (
                argument,
                f"rule {rule!r}, which names an unknown column ({first_line(error)})",
                "the model's columns",
            )
            continue
        except Exception:  # noqa: BLE001  # the made-up rows need not please a rule
            wide = rule == "unique_values_eq"
        if wide:
            yield argument, f"rule {rule!r}, which needs more than its row", _ONE_ROW


def _needs_more(check: Any, rows: pl.DataFrame, column: str | None) -> bool:
    def verdicts(frame: pl.DataFrame) -> list[Any]:
        output: pl.DataFrame = check(frame.lazy(), column).check_output.collect()
        return output.to_series().to_list()

    alone = [verdicts(rows[row]) for row in range(rows.height)]
    return verdicts(rows) != [verdict for (verdict,) in alone]


def _made_up(columns: Sequence[Column]) -> pl.DataFrame:
    """Make three rows, the last two equal: enough to tell sums, uniqueness and order from row-wise rules."""
    return pl.DataFrame([_values(column) for column in columns])


def _values(column: Column) -> pl.Series:
    numbers = pl.Series(column.name, [0, 1, 1])
    try:
        return numbers.cast(column.dtype, strict=False)
    except pl.exceptions.PolarsError:  # a type that numbers cannot become
        return pl.Series(column.name, [None] * 3, dtype=column.dtype)


def first_line(error: BaseException) -> str:
    """Give an error as one line; what follows an empty line tells where in a plan it was."""
    said, _, _ = str(error).partition("\n\n")
    return f"{type(error).__name__}: {' '.join(said.split())}"[:200]
