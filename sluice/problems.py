"""All that is wrong with contracts, told at once: `contract.md` section 1 says what is.

Decides only by looking at what was declared; never raises, never stops at the first. Whether
`partitions` differ from what a lake was built with is for those who can see the lake.
"""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import polars as pl

from sluice.arguments import arguments, shown
from sluice.columns import Column
from sluice.compare.kept import unasked
from sluice.contract import REQUIRED, Changes, Debezium, Stream
from sluice.errors import Problem
from sluice.json.where import where_columns
from sluice.schema_problems import Found, document_problems, first_line, schema_problems
from sluice.sources import Mongo

_DIMENSION = ("valid_from", "valid_to", "is_current", "version")  # with history
_LOSERS = frozenset({"topic", "epoch", "partition", "offset", "verdict", "tile"}) | {
    "winner_epoch",
    "winner_partition",
    "winner_offset",
}
_UNORDERED = (pl.List, pl.Array, pl.Struct, pl.Enum, pl.Categorical, pl.Object, pl.Null)
_NESTED = (pl.List, pl.Array, pl.Struct, pl.Object, pl.Null)


def problems(stream: Stream, file: str) -> list[Problem]:
    """List everything that is wrong with one contract.

    Args:
        stream: as declared.
        file: the module that declares it, as people know it.

    Returns:
        The problems, none if the contract can be used.
    """
    found = list(arguments(stream))
    if stream.schema is not REQUIRED:
        columns, wrong = schema_problems(stream.schema)
        found += wrong
        of_documents = isinstance(stream.value, Debezium) and stream.value.source == "mongodb"
        found += document_problems(columns, of_documents=of_documents)
        if columns:
            found += _source(stream)
            named = {argument for argument, _, _ in found}
            told = (*_references(stream, columns), *_images(stream), *_conditions(stream, columns))
            found += [one for one in told if one[0] not in named]
    return [Problem(file, stream.name or "(without a name)", *one) for one in found]


def _source(stream: Stream) -> list[Found]:
    """Tell of a source whose position changes do not tell, or that cannot be asked for the stream's rows."""
    value = stream.value
    if fix := unasked(stream):
        return [("source", f"{stream.source}, which cannot be asked for the rows of `where`", fix)]
    told = isinstance(value, Debezium) and value.source == "mongodb" and not value.unwrapped
    if told or not isinstance(stream.source, Mongo):
        return []
    return [
        ("source", shown(stream.source), "Mongo(…) with value=Debezium('mongodb'), which tells its place")
    ]


def all_problems(streams: Sequence[tuple[Stream, str]]) -> list[Problem]:
    """List everything that is wrong with many contracts, each given with its file."""
    found = [problem for stream, file in streams for problem in problems(stream, file)]
    first: dict[str, str] = {}
    for stream, file in streams:
        if stream.name in first:
            text = f"{stream.name!r}, which {first[stream.name]} declares too"
            found.append(Problem(file, stream.name, "name", text, "a name of its own for each stream"))
        first.setdefault(stream.name, file)
    return found


def _references(stream: Stream, columns: Sequence[Column]) -> Iterator[Found]:
    """Tell what arguments say of columns that is not so."""
    known = {column.name: column for column in columns}
    for argument, names in _named(stream):
        for name in names:
            if name not in known:
                yield argument, _unknown(name, known), f"columns of the schema: {', '.join(known)}"
            elif wrong := _unfit(argument, known[name]):
                yield argument, *wrong
    if isinstance(stream, Changes) and stream.history:
        for name in known:
            if name.lower() in _DIMENSION:
                yield (
                    f"schema.{name}",
                    f"the name {name!r}",
                    f"names other than the dimension's own: {_DIMENSION}",
                )
    stored = {
        name for argument, names in _named(stream) for name in names if argument in ("key", "event_time")
    }
    for name in sorted(stored & known.keys()):
        if name.lower() in _LOSERS:
            text = f"the name {name!r} in the key or as event time"
            yield f"schema.{name}", text, f"names other than those of the table of losers: {sorted(_LOSERS)}"


def _images(stream: Stream) -> Iterator[Found]:
    """Tell of images that do not come one after the other: what one of them lacks would end at no place."""
    if not (isinstance(stream, Changes) and stream.snapshot and isinstance(stream.sequence, str | tuple)):
        return
    if stream.sequences[:1] != (stream.snapshot,):
        first = (stream.snapshot, *(name for name in stream.sequences if name != stream.snapshot))
        text = f"{shown(stream.sequence)}, by which the images of {stream.snapshot!r} mingle"
        yield "sequence", text, f"{shown(first)}, or none: images come one after the other"


def _conditions(stream: Stream, columns: Sequence[Column]) -> Iterator[Found]:
    """Tell of expressions that cannot be computed, or tell no truth, by the types of what they name."""
    for argument in ("where", "delete_when", "truncate_when"):
        condition = getattr(stream, argument, None)
        if not isinstance(condition, pl.Expr):
            continue
        types = {column.name: column.dtype for column in (*columns, *where_columns(condition, columns))}
        allowed = "an expression that is true or false, over columns, or over members, which are read as text"
        try:
            (told,) = pl.DataFrame(schema=types).select(condition).dtypes
        except pl.exceptions.PolarsError as error:
            yield argument, f"{condition}, which cannot be computed ({first_line(error)})", allowed
            continue
        if told not in (pl.Boolean, pl.Null):
            yield argument, f"{condition}, which is {told}", allowed


def _named(stream: Stream) -> Iterator[tuple[str, Sequence[str]]]:
    """Give each argument that names columns, with the columns named; those of a wrong type name none."""
    for argument in ("key", "event_time", "sequence", "valid_from", "track", "ignore_null", "snapshot"):
        value = getattr(stream, argument, None)
        if isinstance(value, str):
            yield argument, (value,)
        elif isinstance(value, tuple):
            yield argument, value


def _unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"{name!r}, which is no column{f' (do you mean {near[0]!r}?)' if near else ''}"


def _unfit(argument: str, column: Column) -> tuple[str, str] | None:
    """Tell why a column cannot be what the argument makes of it."""
    found = f"{column.name!r}, which is {column.dtype}"
    match argument:
        case "event_time" if not (isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone):
            return found, "a column of type Datetime with a time zone"
        case "event_time" if column.nullable:
            return f"{column.name!r}, which is nullable", "a column that is never null"
        case "sequence" | "valid_from" if isinstance(column.dtype, _UNORDERED):
            return found, "a column with an order: a number, text, time or boolean"
        case "key" | "snapshot" if isinstance(column.dtype, _NESTED):
            return found, "a column of a plain type: no list, array or struct"
    return None
