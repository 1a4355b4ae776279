"""Rows of silver for tests of the fold, and the plain model that it is held against."""

import json
from datetime import UTC, datetime

import pandera.polars as pa
import polars as pl

from sluice.contract import Changes, Json
from sluice.decode_changes import decode_changes
from sluice.envelopes.positions import encode, in_log
from sluice.judged import judge
from sluice.partitions import Daily
from sluice.tables import BRONZE, silver


def silver_rows(stream: Changes, rows: list[dict]) -> pl.DataFrame:
    """Complete rows to silver: `_op` is c, `_offset` the place in the list, positions as the decoder's."""
    table = silver(stream).columns
    complete = []
    for number, row in enumerate(rows):
        when = row.get(stream.valid_from) if stream.valid_from else datetime.fromtimestamp(number, UTC)
        ours = {"_op": "c", "_epoch": 1, "_partition": 0, "_offset": number, "_valid_from": when}
        complete.append({"_timestamp": datetime.fromtimestamp(number, UTC)} | ours | row)
    frame = pl.DataFrame(complete, schema_overrides=table, infer_schema_length=None)
    frame = frame.with_columns(pl.lit(None, t).alias(n) for n, t in table.items() if n not in frame.columns)
    if frame["_position"].null_count() == frame.height:
        log = frame.select(epoch="_epoch", offset="_offset", partition="_partition").select(in_log())
        told = encode(frame, stream.sequences) if stream.sequences else log.to_series()
        frame = frame.with_columns(told.alias("_position"))
    return frame.select(pl.col(name).cast(dtype) for name, dtype in table.items())


def model(  # noqa: C901  # one pass by hand is plainer in one piece
    changes: list[dict], stream: Changes, track: tuple[str, ...], values: tuple[str, ...]
) -> list[dict]:
    """Fold the changes as one would by hand: key by key, one change after the other.

    Gives `key, valid_from, valid_to, version` and the values of each version.
    """
    versions = []
    of = {id(c): "t" if c["_op"] == "t" else tuple(c[k] for k in stream.keys) for c in changes}
    ordered = sorted(changes, key=lambda c: (c["_position"], c["_op"] != "t", c["_offset"]))
    last = {(of[id(c)], c["_position"]): c for c in ordered}  # of equal positions the last
    for key in sorted({of[id(c)] for c in ordered} - {"t"}):
        mine = [c for c in last.values() if of[id(c)] in (key, "t")]
        mine.sort(key=lambda c: (c["_position"], c["_op"] != "t"))
        states, image, clock = [], None, None
        for change, began in zip(mine, begins(mine), strict=True):
            clock = began if clock is None else max(clock, began)
            if change["_op"] in "td":
                image = None
            else:
                sent = {name: change[name] for name in values}
                unsent = change.get("_unavailable") or []
                for name in values:
                    if name in unsent or (sent[name] is None and stream.ignore_null is True):
                        sent[name] = (image or {}).get(name)
                image = sent
            if states and states[-1][0] == clock:
                states.pop()
            states.append((clock, image))
        mine_versions = []
        previous = None
        for at, image in states:
            if previous is not None and (image is None or not same(previous, image, track)):
                mine_versions[-1]["valid_to"] = at
            if image is not None:
                if previous is not None and same(previous, image, track):
                    mine_versions[-1].update(image)
                else:
                    mine_versions.append({"key": key, "valid_from": at, "valid_to": None} | image)
            previous = image
        versions += [row | {"version": n + 1} for n, row in enumerate(mine_versions)]
    return versions


def begins(changes: list[dict]) -> list:
    """Give when each change says that it began; what was read, no later than the change after it."""
    found, after = [], None
    for change in reversed(changes):
        at = change["_valid_from"]
        found.append(min(at, after) if change["_op"] == "r" and after is not None else at)
        after = after if change["_op"] in "rt" else at
    return found[::-1]


def same(left: dict, right: dict, names: tuple[str, ...]) -> bool:
    """Compare values; null equals null, NaN equals NaN."""
    return all(left[n] == right[n] or (left[n] != left[n] and right[n] != right[n]) for n in names)


def row_model(columns: dict) -> type:
    """Make a model of nullable columns."""
    fields = {name: pa.Field(nullable=True) for name in columns}
    return type("Row", (pa.DataFrameModel,), {"__annotations__": columns, **fields})


def changes_of(columns: dict, key: str | tuple[str, ...] = "id", **options) -> Changes:
    """Make a stream of changes with nullable columns."""
    defaults = {"name": "rows", "topic": "rows", "value": Json(), "partitions": Daily(start="2020-01-01")}
    return Changes(**(defaults | {"schema": row_model(columns), "key": key} | options))


def bronze(values: list, keys: list | None = None, headers: list | None = None, **columns) -> pl.DataFrame:
    """Make records of values (text, bytes, dicts or null), one second apart."""
    size = len(values)
    rows = {
        "topic": ["rows"] * size,
        "epoch": [1] * size,
        "partition": [0] * size,
        "offset": list(range(size)),
        "timestamp": [datetime.fromtimestamp(n, UTC) for n in range(size)],
        "key": [_bytes(key) for key in keys or [None] * size],
        "value": [_bytes(value) for value in values],
        "headers": headers or [[] for _ in values],
        "tile": ["2020-01-01"] * size,
    } | columns
    return pl.DataFrame({name: rows.get(name, [None] * size) for name in BRONZE}, schema=BRONZE)


def _bytes(value) -> bytes | None:
    if isinstance(value, dict):
        value = json.dumps(value)
    return value.encode() if isinstance(value, str) else value


def decoded_silver(stream: Changes, records: pl.DataFrame) -> pl.DataFrame:
    """Decode and put into silver's columns; every record must be in exactly one place."""
    decoded = decode_changes(stream, records)
    found = [decoded.rows["_row"], decoded.failures["_row"].unique(), decoded.tombstones, decoded.ignored]
    assert sorted(pl.concat(found)) == list(range(records.height))
    return judge(stream, records, decoded).rows
