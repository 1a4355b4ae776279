"""The fast way for JSON rows that are surely right: DuckDB vouches for each, Arrow reads them at once.

A row is sure when DuckDB finds one valid object with the expected types in it and Arrow's reader takes
it; all their leniencies are shut out (each accepts some things that the other refuses; what both
accept, `NaN` and numbers so small that Arrow's decimals go wrong, is looked for by pattern). Where
Arrow refuses a lot, the lot is divided. All other rows are left to the strict decoder.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.json as pj

from sluice.columns import Column
from sluice.contract import Json
from sluice.errors import NotJsonError
from sluice.json.leaves import convert
from sluice.json.shape import Shape, Tree, shape
from sluice.json.strict import MAX_DEPTH, parse

_DOUBTFUL = r"[:,\[]\s*-?(?:NaN|Inf)|[0-9][eE]-[0-9]{2,}\s*[,}\]]"
_BLOCK = 1 << 20  # bytes; the fastest of those measured
_LONGEST = _BLOCK // 2  # of a value, since Arrow wants each within two blocks
_SAMPLE = 50
_FEWEST = 32  # rows that are worth another try

Part = tuple[pl.DataFrame, pl.DataFrame]
"""Rows (`row`: their places in the values, `text`), and their columns."""


def read_sure(
    values: pl.Series, columns: Sequence[Column], root: Tree, options: Json
) -> tuple[list[Part], dict[str, int]]:
    """Read the sure rows among values; also count their members that no column takes."""
    rows = _texts(values)
    given = shape(root, _sample(rows["text"]))
    connection = duckdb.connect()
    try:
        rows = _vouched(connection, rows, given.types)
        if given.exact:
            rows = _vouched(connection, rows, given.nested)
        table = _arrow(rows["text"], given, unexpected="error")
        if table is not None:
            return [_part(rows, table, columns, options)], {}
        if not given.exact and _arrow(rows["text"], given) is None:
            rows = _vouched(connection, rows, given.nested)
        parts = [_part(lot, table, columns, options) for lot, table in _divided(rows, given)]
        return parts, _unknown(connection, [known for known, _ in parts], root)
    finally:
        connection.close()


def _texts(values: pl.Series) -> pl.DataFrame:
    """The values that are UTF-8, not too long, not too deep and without what both parsers let pass."""
    frame = pl.DataFrame({"text": _utf8(values)}).with_row_index("row")
    size, text = pl.col("text").str.len_bytes(), pl.col("text")
    brackets = pl.sum_horizontal(text.str.count_matches(b, literal=True) for b in "[{")
    frame = frame.filter(size <= _LONGEST)
    if frame.select((size > 2 * MAX_DEPTH).any()).item():
        frame = frame.filter((size <= 2 * MAX_DEPTH) | (brackets <= MAX_DEPTH))
    hits = frame.filter(text.str.contains_any(["NaN", "Inf", "e-", "E-"]))
    doubtful = hits.filter(text.str.contains(_DOUBTFUL))["row"]
    return frame.filter(~pl.col("row").is_in(doubtful.implode())) if len(doubtful) else frame


def _utf8(values: pl.Series) -> pl.Series:
    """The values as text, null where they are not UTF-8."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:  # says only that there is one that is not
        return pl.Series([_text(value) for value in values.to_list()], dtype=pl.String)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _sample(texts: pl.Series) -> list[dict[str, Any]]:
    sample = []
    for text in texts.gather_every(max(1, len(texts) // _SAMPLE)):
        try:
            parsed = parse(text.encode())
        except NotJsonError:
            continue
        if isinstance(parsed, dict):
            sample.append(parsed)
    return sample


def _vouched(
    connection: duckdb.DuckDBPyConnection, rows: pl.DataFrame, types: Mapping[str, tuple[str, ...]]
) -> pl.DataFrame:
    """Keep the rows that are one object and have the expected types at these paths."""
    single = {path: allowed for path, allowed in types.items() if "[*]" not in path}
    listed = "[" + ", ".join(map(_quoted, ("$", *single))) + "]"
    tests = ["types[1] = 'OBJECT'"]
    for place, allowed in enumerate(single.values(), start=2):
        tests.append(f"coalesce(types[{place}] IN ({_names(allowed)}), true)")
    tests += [
        f"list_has_all([{_names(allowed)}], json_type(text, {_quoted(path)}))"
        for path, allowed in types.items()
        if path not in single
    ]
    query = f"""
        SELECT row, coalesce({" AND ".join(tests)}, false) AS sure
        FROM (SELECT *, CASE WHEN json_valid(text) THEN json_type(text, {listed}) END AS types FROM rows_)
    """  # noqa: S608  # paths are quoted; see _quoted
    connection.register("rows_", _table(rows))
    told = pl.DataFrame(pl.from_arrow(connection.sql(query).to_arrow_table()))  # in any order, measured
    connection.unregister("rows_")
    return rows.join(told.filter("sure"), on="row", how="semi", maintain_order="left")


def _table(rows: pl.DataFrame) -> pa.Table:
    return rows.select("row", "text").to_arrow(compat_level=pl.CompatLevel.newest())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _names(types: Sequence[str]) -> str:
    return ", ".join(map(_quoted, ("NULL", *types)))


def _arrow(texts: pl.Series, given: Shape, unexpected: str = "ignore") -> pa.Table | None:
    """Read objects that are valid one by one; None where one of them does not fit the shape."""
    if texts.is_empty():
        return given.schema.empty_table()
    if texts.str.contains_any(["\r", "\n"]).any():  # of a valid object: between tokens
        texts = texts.str.replace_all("[\r\n]", " ")
    lines = (texts + "\n").rechunk().to_arrow()
    options = pj.ParseOptions(explicit_schema=given.schema, unexpected_field_behavior=unexpected)
    source = pa.BufferReader(lines.buffers()[2].slice(0, texts.str.len_bytes().sum() + len(texts)))
    try:
        table = pj.read_json(source, pj.ReadOptions(block_size=_BLOCK), options)
    except pa.ArrowInvalid:
        return None
    return table.combine_chunks() if table.num_rows == len(texts) else None


def _divided(rows: pl.DataFrame, given: Shape) -> Iterator[tuple[pl.DataFrame, pa.Table]]:
    """Find the lots that Arrow takes, dividing those that it refuses."""
    table = _arrow(rows["text"], given)
    if table is not None:
        yield rows, table
    elif len(rows) > _FEWEST:
        for lot in rows.iter_slices(max(_FEWEST, -(-len(rows) // 8))):
            yield from _divided(lot, given)


def _part(rows: pl.DataFrame, table: pa.Table, columns: Sequence[Column], options: Json) -> Part:
    """Convert the columns; keep the rows that are right in all of them."""
    doubt = pl.repeat(False, len(rows), dtype=pl.Boolean, eager=True)
    series = []
    for column in columns:
        array = _chunk(table.column(column.path[0]))
        for name in column.path[1:]:
            array = array.flatten()[array.type.get_field_index(name)]
        converted, doubtful = convert(array, column.dtype, options)
        doubt |= doubtful
        series.append(pl.Series(column.name, pl.from_arrow(converted)).cast(column.dtype))
    frame = pl.DataFrame(series)
    return (rows.filter(~doubt), frame.filter(~doubt)) if doubt.any() else (rows, frame)


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _unknown(connection: duckdb.DuckDBPyConnection, lots: list[pl.DataFrame], root: Tree) -> dict[str, int]:
    if not lots:
        return {}
    connection.register("rows_", _table(pl.concat(lots)))
    sets = connection.sql("SELECT json_keys(text) AS names, count(*) FROM rows_ GROUP BY ALL").fetchall()
    counts: Counter[str] = Counter()
    for names, count in sets:
        counts.update(dict.fromkeys(set(names) - root.keys(), count))
    return dict(counts)
