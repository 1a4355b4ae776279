"""Changes of Debezium as typed rows: each value read by its schema, or by its column's type.

A change tells its row's members (a delete those before), the Kafka key tells key columns that it leaves out.
Of a delete only what names and orders it must fit. Records that tell no row are tombstones (the echo of a
delete) or ignored.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from sluice.columns import REST, Column
from sluice.contract import Changes, Debezium
from sluice.envelopes.debezium import DELETE, OLD_KEY, Change, Envelopes
from sluice.envelopes.debezium_machine import read_sure
from sluice.envelopes.debezium_plans import Plans, inside
from sluice.envelopes.debezium_values import Fields
from sluice.envelopes.edits import Edit, concerning
from sluice.envelopes.mongodb import applied, ordinal
from sluice.envelopes.mongodb_values import document_reader
from sluice.envelopes.origins import NOWHERE, Origin, origin_of, origins
from sluice.envelopes.patches import checked
from sluice.envelopes.positions import of_source
from sluice.envelopes.previous import quoted, written
from sluice.envelopes.told import UTC_TIME, Told, joined
from sluice.envelopes.unavailable import Unavailable
from sluice.envelopes.unwrapped import MARK
from sluice.errors import NotAChangeError, NotJsonError, UnreadablePlaceError
from sluice.json.rows import READ_FAILURES, Read
from sluice.json.values import Misfit, Reader, physical, printable
from sluice.json.where import where_columns


def read_debezium(stream: Changes, records: pl.DataFrame, *, native: bool = True) -> Told:
    """Read a batch of change events; see `sluice.decode_changes.decode_changes`."""
    if not isinstance(stream.value, Debezium):
        raise TypeError(f"{stream.value!r} is no Debezium")
    sure = read_sure(stream, stream.value, records) if native else None
    batch = _Batch(stream, stream.value)
    rest = records.select("value", "key", "headers", "offset").with_row_index("_row")
    if sure is not None:
        rest = rest.filter(~pl.col("_row").is_in(sure.places.implode()))
    for row, value, key, headers, offset in rest.iter_rows():
        batch.add(row, value, key, headers, offset)
    strict = batch.told(records["timestamp"])
    return strict if sure is None else joined(sure, strict)


class _Batch:
    """Collects what records tell, one after the other."""

    def __init__(self, stream: Changes, options: Debezium) -> None:
        asked = where_columns(stream.where, stream.columns)
        columns = [*stream.columns, *asked]
        self._of_documents = options.source == "mongodb"
        self._columns = columns
        self._keys = [column for column in columns if column.name in stream.keys]
        # A document may lack any member: what it lacks is looked for beside it only where that can be meant.
        beside = [not self._of_documents or len(c.path) > 1 or c in asked for c in columns]
        self._places = [
            (c, c.name in stream.keys, ".".join(c.path), b) for c, b in zip(columns, beside, strict=True)
        ]
        self._taken = frozenset(column.path[0] for column in columns)
        self._named = frozenset(column.path[0] for column in columns if len(column.path) == 1)
        self._options = options
        self._envelopes = Envelopes(options)
        self._unavailable = Unavailable(options.unavailable)
        self._plans = Plans(columns, options)
        self._data: list[list[Any]] = [[] for _ in columns]
        self._failures: list[tuple[int, str, str | None, None, str, str | None]] = []
        self._unknown: Counter[str] = Counter()
        self._rows: list[tuple[int, str | None, str | None, list[Any] | None, list[str] | None, Origin]] = []
        self._patches: dict[int, str] = {}  # by place among the rows
        self._tombstones: list[int] = []
        self._ignored: list[int] = []

    def add(self, row: int, value: bytes | None, key: bytes | None, headers: Any, offset: int) -> None:
        """Read one record."""
        if value is None and not self._options.unwrapped:
            self._tombstones.append(row)
            return
        try:
            change = DELETE if value is None else self._envelopes.change(value)
        except (NotJsonError, NotAChangeError) as error:
            self._failures.append((len(self._rows), "decode", None, None, str(error), None))
            self._rows.append((row, None, None, None, None, NOWHERE))
            for collected in self._data:
                collected.append(None)
            return
        if change is None:
            self._ignored.append(row)
            return
        unavailable = self._read(change, key)
        try:
            position = of_source(change.source, change.op, self._within(change, offset))
        except UnreadablePlaceError as error:
            self._failures.append((len(self._rows), "key", None, None, str(error), None))
            position = None
        previous = self._previous(headers, len(self._rows)) or self._moved(change)
        origin = origin_of(change.source)
        if change.edits is not None:
            self._patches.setdefault(len(self._rows), "{}")
        self._rows.append((row, change.op, position, previous, unavailable or None, origin))

    def _within(self, change: Change, offset: int) -> int:
        return ordinal(change.payload, offset) if self._of_documents else 0

    def _read(self, change: Change, key: bytes | None) -> list[str]:
        """Read the columns of one change; returns the names of the unavailable ones."""
        place = len(self._rows)
        told, told_fields = self._told_key(change, key)
        untold: frozenset[str] = frozenset()
        if change.edits is not None:
            change, untold = self._partial(change, change.edits, place)
        unavailable = []
        strange = change.image.keys() - self._taken
        if "op" not in change.payload:  # what the transformation added
            strange = {name for name in strange if not name.startswith(MARK)}
        self._unknown.update(map(printable, strange))
        image, readers = change.image, self._plans.of(change.fields, is_document=change.document)
        for number, (column, _, path, _) in enumerate(self._places):
            value, read = image.get(column.path[0]), readers[number]
            if value is None:
                value, read = self._beside(number, change, (told, told_fields))
            misfits: list[Misfit] = []
            if len(column.path) > 1:
                value = inside(value, column.path, misfits)
            if column.name in untold or self._unavailable(value, column.dtype):
                unavailable.append(column.name)
                value = None
            found = None if value is None else read(value, path, misfits)
            if misfits:
                found = None
                self._failed(place, column, misfits)
            self._data[number].append(found)
        return unavailable

    def _beside(self, number: int, change: Change, key: tuple[dict[str, Any], Fields]) -> tuple[Any, Reader]:
        """Give what a column has where the image has nothing for it, and how it is read."""
        column, is_key, _, beside = self._places[number]
        name = column.path[0]
        if is_key:
            told, fields = key
            return told.get(name), self._plans.of(fields, is_document=self._of_documents)[number]
        if beside and name not in change.image:  # such as "source.table"
            return change.payload.get(name), self._plans.of({})[number]
        rest = None
        if name == REST and change.image:
            rest = {n: v for n, v in change.image.items() if n not in self._named}
        return rest, document_reader

    def _partial(self, change: Change, edits: Sequence[Edit], place: int) -> tuple[Change, frozenset[str]]:
        """Give what edits tell as an image, and the names of the columns that it does not tell.

        What changed inside the value of a column is kept for the fold.
        """
        untold, patch = set(), {}
        for column, is_key, path, beside in self._places:
            if is_key or (beside and column.path[0] in change.payload):
                continue
            whole, parts = concerning(edits, path)
            if column.path == (REST,):
                parts = [edit for edit in edits if edit.path.partition(".")[0] not in self._named]
            if whole is None:
                untold.add(column.name)
                misfits: list[Misfit] = []
                if kept := checked(parts, column, misfits):
                    patch[column.name] = kept
                self._failed(place, column, misfits)
        if patch:
            self._patches[place] = json.dumps(patch)
        sets = tuple(edit for edit in edits if edit.action == "set")
        return replace(change, image={**change.image, **applied({}, sets)}), frozenset(untold)

    def _failed(self, place: int, column: Column, misfits: Sequence[Misfit]) -> None:
        self._failures += [(place, "schema", where, None, reason, column.name) for where, reason in misfits]

    def _told_key(self, change: Change, key: bytes | None) -> tuple[dict[str, Any], Fields]:
        """Read the Kafka key, where the change does not name its row."""
        if change.op == "t" or all(change.image.get(c.path[0]) is not None for c in self._keys):
            return {}, {}
        try:
            return self._envelopes.key(key)
        except NotJsonError:  # then the key column is missing, and its record goes to quarantine for that
            return {}, {}

    def _previous(self, headers: Any, place: int) -> list[Any] | None:
        """Give the old key of a change of key: a value for each key column, null where it is not told."""
        header = next((h for h in headers or () if h["key"] == OLD_KEY), None)
        if header is None:
            return None
        try:
            members, fields = self._envelopes.key(quoted(header["value"]))
        except NotJsonError as error:
            self._failures.append((place, "key", OLD_KEY, None, str(error), None))
            return None
        told, misfits = self._key_of(members, fields)
        self._failures += [
            (place, "key", f"{OLD_KEY}.{where}", None, reason, None) for where, reason in misfits
        ]
        return None if misfits else told

    def _moved(self, change: Change) -> list[Any] | None:
        """Give the key of the row before an update of it, which is no key of the source's; null: the same."""
        before = change.payload.get("before")
        if change.op != "u" or self._of_documents or not isinstance(before, dict):
            return None
        told, misfits = self._key_of(before, change.fields)
        now = [self._data[number][-1] for number, place in enumerate(self._places) if place[1]]
        is_told = not misfits and None not in told
        moved = any(old != new and old == old for old, new in zip(told, now, strict=True))  # noqa: PLR0124  # NaN
        return told if is_told and moved else None

    def _key_of(self, members: dict[str, Any], fields: Fields) -> tuple[list[Any], list[Misfit]]:
        """Read the key columns of a row; null where it is not told."""
        readers, misfits = self._plans.of(fields, is_document=self._of_documents), list[Misfit]()
        told = []
        for (column, is_key, path, _), read in zip(self._places, readers, strict=True):
            if is_key:
                value = inside(members.get(column.path[0]), column.path, misfits)
                told.append(None if value is None else read(value, path, misfits))
        return told, misfits

    def told(self, timestamps: pl.Series) -> Told:
        """Give all that was collected."""
        frame = pl.DataFrame(
            [
                pl.Series(column.name, collected, dtype=physical(column.dtype)).cast(column.dtype)
                for column, collected in zip(self._columns, self._data, strict=True)
            ]
        )
        failures = pl.DataFrame(self._failures, schema=READ_FAILURES, orient="row")
        row, op, position, previous, unavailable, origin = (
            zip(*self._rows, strict=True) if self._rows else [()] * 6
        )
        places = pl.Series("_row", row, pl.UInt32)
        source = origins(list(origin))
        committed = source.struct.field("committed_at")
        return Told(
            places=places,
            read=Read(frame, failures, dict(self._unknown)),
            op=pl.Series(op, dtype=pl.String),
            position=pl.Series(position, dtype=pl.String),
            since=committed.zip_with(committed.is_not_null(), timestamps.gather(places).cast(UTC_TIME)),
            previous_key=written(self._keys, previous),
            unavailable=pl.Series(unavailable, dtype=pl.List(pl.String)),
            source=source,
            tombstones=pl.Series("_row", self._tombstones, pl.UInt32),
            ignored=pl.Series("_row", self._ignored, pl.UInt32),
            patch=pl.Series([self._patches.get(n) for n in range(len(places))], dtype=pl.String)
            if self._of_documents
            else None,
        )
