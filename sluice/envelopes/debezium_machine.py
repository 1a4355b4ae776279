"""The fast way for changes that are surely right: machine code reads envelopes, columns say the rest at once.

Takes what PostgreSQL's and MySQL's connectors commonly write: an envelope, alone or behind a schema block,
with a row in `after` (of a delete in `before`) that has its key. It vouches for a record, or leaves it to
`sluice.envelopes.debezium_rows`, which defines what each says: what is no change of a row, what moved its
key, what was not sent, what does not fit. A value that the code does not read is alone read strictly.
"""

import ctypes
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa

from sluice.columns import REST, Column
from sluice.contract import Changes, Debezium
from sluice.envelopes.debezium import NO_SCHEMA, OLD_KEY, Envelopes, EnvelopeSchema
from sluice.envelopes.debezium_nodes import field_node
from sluice.envelopes.debezium_plans import Plans, block_of, options_of
from sluice.envelopes.sources import COUNTS, TEXTS, of_sources, source_nodes
from sluice.envelopes.told import UTC_TIME, Told
from sluice.envelopes.unavailable import Unavailable
from sluice.json.columns import chunks
from sluice.json.machine import machine_code, read_again, read_raw
from sluice.json.plan import Kind, Node, Plan, Strangers, planned, put
from sluice.json.rows import READ_FAILURES, Read, series_of
from sluice.json.values import Misfit, Reader
from sluice.json.where import where_columns

FEW = 50  # records for which the preparations do not pay
MOST_BLOCKS = 8  # different schema blocks in a batch that are worth a plan each
_BLOCK = b'{"schema":'
_DELETE = b'"op":"d"'
_SIDES = {"after": ("c", "u", "r"), "before": ("d",)}  # where which operations tell their row
_BESIDE_ROW = 1 + len(TEXTS) + len(COUNTS)  # columns that tell of a change and not of its row
_BESIDE = ("source", "op", "ts_ms", "ts_us", "ts_ns", "transaction")


@dataclass(frozen=True)
class _Part:
    """What some records say; `rows` are their places in the batch."""

    rows: pl.Series
    frame: pl.DataFrame
    op: pl.Series
    told: pl.DataFrame
    unknown: dict[str, int]


@dataclass(frozen=True)
class _Form:
    """How values are read: by a plan, those in doubt by the readers; `gone` stands for values not sent."""

    plan: Plan
    readers: Sequence[Reader]
    gone: Sequence[pl.Series | None]
    side: str
    depth: int


def read_sure(stream: Changes, options: Debezium, records: pl.DataFrame) -> Told | None:
    """Read the records that are surely right, in their order; None: there are none."""
    code = machine_code()
    columns = [*stream.columns, *where_columns(stream.where, stream.columns)]
    if code is None or records.height <= FEW or not _common(stream, options, columns):
        return None
    parts = list(_Reading(code, stream, options, columns).parts(records["value"], _candidates(records)))
    return _told(parts, records["timestamp"]) if parts else None


def _common(stream: Changes, options: Debezium, columns: Sequence[Column]) -> bool:
    """Tell whether a contract asks for nothing that only the strict way reads."""
    keys = {c.path[0] for c in columns if c.name in stream.keys}
    odd = any(c.path[0] in (REST, *_SIDES) for c in columns) or keys & set(_BESIDE)
    return not (options.source == "mongodb" or options.unwrapped or odd)


def _candidates(records: pl.DataFrame) -> pl.Series:
    """List the records that have a value and did not change their key."""
    keys = pl.col("headers").list.eval(pl.element().struct.field("key") == OLD_KEY)
    moved = keys.list.any().fill_null(value=False)
    told = records.select((pl.col("value").is_not_null() & ~moved).alias("told")).to_series()
    return told.arg_true().cast(pl.UInt32)


class _Reading:
    """Reads the payloads of one batch, form by form."""

    def __init__(
        self, code: ctypes.CDLL, stream: Changes, options: Debezium, columns: Sequence[Column]
    ) -> None:
        self._code = code
        self._options = options
        self._columns = columns
        self._keys = stream.keys
        self._own = [column for column in columns if column.name in stream.keys]
        self._envelopes = Envelopes(options)
        self._plans = Plans(columns, options)
        self._unavailable = Unavailable(options.unavailable)

    def parts(self, values: pl.Series, rows: pl.Series) -> Iterator[_Part]:
        """Read the records of some rows: those without a schema block, then block by block."""
        given = values.gather(rows)
        wrapped = given.bin.starts_with(_BLOCK)
        yield from self._sides(given.filter(~wrapped), rows.filter(~wrapped), NO_SCHEMA, 0)
        given, rows = given.filter(wrapped), rows.filter(wrapped)
        for _ in range(MOST_BLOCKS):
            block = self._envelopes.block(given[0]) if len(given) else None
            if block is None:
                return
            head, schema = block
            same = given.bin.starts_with(head)
            mine = same & given.bin.ends_with(b"}")
            yield from self._sides(_without(given.filter(mine), head), rows.filter(mine), schema, 1)
            given, rows = given.filter(~same), rows.filter(~same)

    def _sides(
        self, payloads: pl.Series, rows: pl.Series, schema: EnvelopeSchema, depth: int
    ) -> Iterator[_Part]:
        """Read payloads of one schema that were cut out from `depth` levels deep."""
        deletes = payloads.bin.contains(_DELETE)  # about: what is read tells
        for side, mine in (("after", ~deletes), ("before", deletes)):
            form = self._form(side, schema, depth) if mine.any() else None
            if form is None:
                continue
            start, places = 0, rows.filter(mine)
            for chunk in chunks(payloads.filter(mine)):
                yield self._part(form, chunk, places[start : start + len(chunk)])
                start += len(chunk)

    def _form(self, side: str, schema: EnvelopeSchema, depth: int) -> _Form | None:
        fields, first = schema.sides[side], len(self._columns)
        root = Node(Kind.PATH, parameters=(Strangers.REFUSED, 0))
        image = Node(Kind.PATH, side, parameters=(Strangers.COUNTED, 0))
        source = Node(Kind.PATH, "source", children=source_nodes(first + 1))
        op = Node(Kind.STRING, "op", pa.string_view(), first)
        root.children += [image, source, op]
        rest = [name for name in (*_SIDES, *_BESIDE) if name not in (side, "source", "op")]
        if side == "after":
            root.children.append(self._before(schema, first + _BESIDE_ROW))
            rest.remove("before")
        root.children += [Node(Kind.ANY, name) for name in rest]
        told, beside = self._plans.of(fields), self._plans.of({})
        readers = []
        for n, column in enumerate(self._columns):
            options = options_of(column, self._options)
            if column.path[0] in _BESIDE:  # such as "source.table"; the row's own member would come first
                put(root, column.path, field_node(column.dtype, None, options), n)
                image.children.append(Node(Kind.NEVER, column.path[0]))
                readers.append(self._sent(beside[n], column))
            else:
                put(image, column.path, field_node(column.dtype, block_of(column, fields), options), n)
                readers.append(self._sent(told[n], column))
        plan = planned(root, "UTC")
        gone = [self._gone(r, c) for r, c in zip(told, self._columns, strict=True)]
        return None if plan is None else _Form(plan, readers, gone, side, depth)

    def _before(self, schema: EnvelopeSchema, first: int) -> Node:
        """Read the key that the row had before, as columns from a number on."""
        image = Node(Kind.PATH, "before", parameters=(Strangers.PASSED, 0))
        for n, column in enumerate(self._own):
            options = options_of(column, self._options)
            node = field_node(column.dtype, block_of(column, schema.sides["before"]), options)
            put(image, column.path, node, first + n)
        return image

    def _sent(self, read: Reader, column: Column) -> Reader:
        """Read what was sent; what was not is for the strict way."""

        def sent(value: Any, path: str, misfits: list[Misfit]) -> Any:
            if self._unavailable(value, column.dtype):
                misfits.append((path, "found no value that was sent"))
                return None
            return read(value, path, misfits)

        return sent

    def _stays(self, columns: Mapping[int, pl.Series], size: int) -> pl.Series:
        """Mark the rows whose key is surely the one before, where that is told."""
        stays = pl.repeat(value=True, n=size, eager=True)
        for n, column in enumerate(self._own, len(self._columns) + _BESIDE_ROW):
            now, before = columns.get(self._columns.index(column)), columns.get(n)
            if now is not None and before is not None:
                stays &= before.is_null() | (now == before).fill_null(value=False)
        return stays

    def _gone(self, read: Reader, column: Column) -> pl.Series | None:
        """Give the values that a column would read from what stands for a value not sent."""
        found = []
        for text in self._unavailable.texts:
            misfits: list[Misfit] = []
            value = read(text, "", misfits)
            found += [] if misfits else [value]
        return series_of(column, found) if found and not column.dtype.is_nested() else None

    def _part(self, form: _Form, values: pl.Series, rows: pl.Series) -> _Part:
        """Read values; what is not sure is left out, also among the unknown members."""
        part = self._once(form, values, rows)
        if part.unknown and len(part.rows) < len(rows):
            values = values.filter(rows.is_in(part.rows.implode()))
            part = self._once(form, values, part.rows)
        return part

    def _once(self, form: _Form, values: pl.Series, rows: pl.Series) -> _Part:
        raw, first = read_raw(self._code, form.plan, values, form.depth), len(self._columns)
        ours = raw.doubts["column"] < first
        told = replace(raw, doubts=raw.doubts.filter(ours))
        series, misfits = read_again(told, values, self._columns, form.readers)
        frame, op = pl.DataFrame(series), raw.columns[first].cast(pl.String)
        names = enumerate((*TEXTS, *COUNTS), first + 1)
        source = of_sources(pl.DataFrame({name: raw.columns[n] for n, name in names}), op)
        present = [pl.col(name).is_not_null() for name in self._keys]
        sent = [~pl.col(s.name).is_in(gone.implode()).fill_null(value=False)
                for s, gone in zip(series, form.gone, strict=True) if gone is not None]  # fmt: skip
        sure = (
            source["sure"]
            & op.is_in(_SIDES[form.side])
            & frame.select(pl.all_horizontal(*present, *sent)).to_series()
        )
        if form.side == "after":
            sure &= self._stays(raw.columns, len(sure))
        doubtful = pl.concat([raw.rest, raw.doubts.filter(~ours)["row"].cast(pl.UInt32), misfits["_row"]])
        sure = sure.fill_null(value=False).scatter(doubtful, False)
        return _Part(rows.filter(sure), frame.filter(sure), op.filter(sure), source.filter(sure), raw.unknown)


def _without(values: pl.Series, head: bytes) -> pl.Series:
    """Cut payloads out of values: what is behind their schema, and before the last brace."""
    value, size = pl.col("value"), len(head)
    inner = value.bin.slice(size, value.bin.size() - size - 1)
    return values.alias("value").to_frame().select(inner).to_series()


def _told(parts: Sequence[_Part], timestamps: pl.Series) -> Told:
    """Put parts together, in the order of their records."""
    places = pl.concat([part.rows for part in parts])
    order = places.arg_sort()
    places = places.gather(order).alias("_row")
    source = pl.concat([part.told for part in parts]).select(pl.all().gather(order))
    committed = source["_source"].struct.field("committed_at")
    unknown: Counter[str] = Counter()
    for part in parts:
        unknown.update(part.unknown)
    nothing = places.clear()
    return Told(
        places=places,
        read=Read(
            pl.concat([part.frame for part in parts]).select(pl.all().gather(order)),
            pl.DataFrame(schema=READ_FAILURES),
            dict(unknown),
        ),
        op=pl.concat([part.op for part in parts]).gather(order),
        position=source["_position"],
        since=committed.zip_with(committed.is_not_null(), timestamps.gather(places).cast(UTC_TIME)),
        previous_key=pl.repeat(None, len(places), dtype=pl.String, eager=True),
        unavailable=pl.repeat(None, len(places), dtype=pl.List(pl.String), eager=True),
        source=source["_source"],
        tombstones=nothing,
        ignored=nothing,
    )
