"""Positions: the source's own order of changes, as texts whose bytes sort as the source orders.

`encode` writes columns, `in_log` a place in the Kafka log, `of_source` what a Debezium connector says of
its log. A source that does not tell its place gives null here, and the caller orders by the Kafka log
instead; a place that is told and cannot be read is refused, and so are types without an order of their own
(lists, structs).
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa

from sluice.envelopes.origins import committed_at, table_of
from sluice.errors import PositionError, UnreadablePlaceError

_SIGN = 1 << 63
_NINES = 10**38 - 1  # the greatest unscaled decimal
# Fixed widths need no end mark; texts get one that sorts below any character (NUL and SOH are escaped).
_ESCAPES = {"\x00": "\x01\x02", "\x01": "\x01\x03"}
_END = "\x01\x01"
_NUMBER = re.compile(r"[0-9]{1,20}")
_SEQUENCE = re.compile(r'\[(?:null|"([0-9]+)"),(?:null|"([0-9]+)")?')  # the last commit, then the LSN
_READ, _DELETE, _CHANGE, _REREAD = range(4)  # at one place: an image, then a key's end, then its next begin
_OPENING = 4  # added where the connector knew of no commit before: its first transaction after a snapshot
OPENING = (str(_DELETE + _OPENING), str(_CHANGE + _OPENING))  # the ranks of such changes
STREAMED = (str(_DELETE), str(_CHANGE), *OPENING)  # and of all that the log told
_PLACES = {  # how many numbers place a change, and what stands behind them: a rank, and what divides equals
    "postgresql": (2, r" [0-9](?: |$)"),
    "mysql": (3, r" [0-9](?: |$)"),
    "mongodb": (2, r" [0-9] [0-9]{20}(?: |$)"),
}
_WIDTH = 21  # of a number and the space behind it
_POSITION = pl.col("_position")
RANK = _POSITION.str.slice(2 * _WIDTH, 1)  # of a position of PostgreSQL
IMAGE = (  # the place of a row that a snapshot read, without its clock: what all rows of the snapshot share
    pl.when(_POSITION.str.slice(2 * _WIDTH - 1, 3) == f" {_READ} ").then(_POSITION.str.head(2 * _WIDTH + 1))
    .when(_POSITION.str.slice(3 * _WIDTH - 1, 3) == f" {_READ} ").then(_POSITION.str.head(3 * _WIDTH + 1))
    .otherwise(_POSITION)
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Give one text a row that sorts, byte by byte, as the tuple of the columns does.

    Args:
        frame: has the columns; integers, decimals, floats (NaN greatest), text, times, booleans, binary.
        columns: the most significant first; of one type for all rows that are to be compared.

    Returns:
        Strings named `_position`; null where any of the columns is null.

    Raises:
        PositionError: a column's type has no order.
    """
    parts = [_part(frame[name]) for name in columns]
    return pl.select(pl.concat_str(parts, separator=" ", ignore_nulls=False).alias("_position")).to_series()


def in_log() -> pl.Expr:
    """Give the position of a record by its place in the Kafka log, unique in its topic.

    Reads `epoch`, `offset`, `partition`.
    """
    widths = {"epoch": 10, "offset": 20, "partition": 10}
    parts = [pl.col(name).cast(pl.String).str.zfill(width) for name, width in widths.items()]
    return pl.concat_str(parts, separator=" ").alias("_position")


def of_source(source: Mapping[str, Any], op: str, within: int = 0) -> str | None:
    """Give the position that the `source` block of a Debezium change tells.

    PostgreSQL: the last commit before, then the LSN; MySQL: binlog file, place, row; MongoDB: cluster time,
    its ordinal, and `within`, the order within a transaction, which has one cluster time. Initial reads sort
    before all that was streamed from their place, a delete before the insert that a change of key makes. The
    first transaction after a snapshot tells no commit (`[null, ...]`): its rank is one of OPENING. What one
    place does not divide follows: of rows that were read their clock, of truncates their table.

    Returns:
        A text, or null where the source does not tell.

    Raises:
        UnreadablePlaceError: it tells something that is no place.
    """
    snapshot = str(source.get("snapshot") or "false")
    initial, of_documents = snapshot not in ("false", "incremental"), source.get("connector") == "mongodb"
    match source.get("connector"):
        case "postgresql":
            place = _postgresql(source, initial=initial)
        case "mysql" | "mariadb":
            place = _mysql(source)
        case "mongodb":
            place = None if source.get("ord") is None else _numbers(source, "ts_ms", "ord")
        case _:
            place = None
    if place is None:
        return None
    if initial:
        rank = _READ
    elif snapshot == "incremental":  # read after what was streamed up to its place
        rank = _REREAD
    else:
        rank = _DELETE if op == "d" and not of_documents else _CHANGE  # ids of documents never change
        rank += _OPENING if _opens(source) else 0
    last = f" {within:020d}" if of_documents else ""
    if op == "t" and (table := table_of(source)):
        last += f" {table}"
    elif rank in (_READ, _REREAD) and not of_documents and (read := committed_at(source)) is not None:
        last = f" {max(0, (read - _EPOCH) // timedelta(microseconds=1)):020d}"
    return " ".join([*(f"{number:020d}" for number in place), str(rank)]) + last


def pattern(connector: str) -> str:
    """Give the pattern of the positions that `of_source` gives, with a group for each number of the place."""
    count, behind = _PLACES[connector]
    return f"^{' '.join(['([0-9]{20})'] * count)}{behind}"


def numbers(connector: str, position: str) -> tuple[int, ...]:
    """Give the numbers of a position's place; zeros, which are before all, where it tells none."""
    found = re.match(pattern(connector), position)
    return tuple(map(int, found.groups())) if found else (0,) * _PLACES[connector][0]


def block(connector: str, place: Sequence[int]) -> dict[str, Any]:
    """Give the members of a `source` block by which `of_source` finds a place, from its numbers."""
    match connector:
        case "postgresql":
            commit, lsn = place
            return {"lsn": lsn, "sequence": json.dumps([str(commit), str(lsn)])}
        case "mysql":
            return dict(zip(("file", "pos", "row"), (f"binlog.{place[0]:06d}", *place[1:]), strict=True))
        case _:
            return dict(zip(("ts_ms", "ord"), place, strict=True))


def _postgresql(source: Mapping[str, Any], *, initial: bool) -> tuple[int, ...] | None:
    told = _SEQUENCE.match(str(source.get("sequence") or "[null,"))
    place = source.get("lsn")
    if place is None and told:  # a row of an incremental snapshot tells its place in `sequence` only
        place = told[2]
    if place is None:
        return None
    if told is None:
        raise UnreadablePlaceError("sequence", source["sequence"])
    (lsn,) = _numbers({"lsn": place}, "lsn")
    commit = _number(told[1])
    # A transaction that was open during the initial read may have changes before the read's LSN.
    return (lsn, 0) if initial else (lsn if commit is None else commit, lsn)


def _opens(source: Mapping[str, Any]) -> bool:
    told = _SEQUENCE.match(str(source.get("sequence") or ""))
    return source["connector"] == "postgresql" and told is not None and told[1] is None


def _mysql(source: Mapping[str, Any]) -> tuple[int, ...] | None:
    if not source.get("file"):
        return None
    file = _number(str(source["file"]).rpartition(".")[2])
    if file is None:
        raise UnreadablePlaceError("file", source["file"])
    return (file, *_numbers(source, "pos", "row"))


def _numbers(source: Mapping[str, Any], *names: str) -> tuple[int, ...]:
    found = []
    for name in names:
        number = _number(source.get(name))
        if number is None:
            raise UnreadablePlaceError(name, source.get(name))
        found.append(number)
    return tuple(found)


def _number(value: Any) -> int | None:
    text = str(value)
    return int(text) if _NUMBER.fullmatch(text) else None


def _part(series: pl.Series) -> pl.Series:
    """Encode one column; order is kept within a type only."""
    dtype = series.dtype
    if dtype.is_float():
        return _digits(_float_bits(series))
    if dtype.is_decimal():
        return _decimal(series)
    if isinstance(dtype, pl.Boolean):
        return series.cast(pl.Int8).cast(pl.String)
    if isinstance(dtype, pl.Binary):
        return series.bin.encode("hex")  # all digits are above the separator
    if isinstance(dtype, pl.Enum):
        return _digits(series.to_physical())
    if isinstance(dtype, pl.String | pl.Categorical):
        escaped = series.cast(pl.String).str.replace_many(_ESCAPES)
        return pl.select(escaped + _END).to_series()
    if dtype.is_integer() or dtype.is_temporal():
        return _digits(series.to_physical())
    raise PositionError(series.name, str(dtype))


def _digits(series: pl.Series) -> pl.Series:
    """Write integers, moved above zero, in twenty digits."""
    moved = pl.lit(series).cast(pl.Int128) + pl.lit(_SIGN, pl.Int128)
    return pl.select(moved.cast(pl.String).str.zfill(20)).to_series()


def _decimal(series: pl.Series) -> pl.Series:
    """Write a sign and the unscaled digits, which for negatives are counted down."""
    number = pl.lit(series.to_physical()).cast(pl.Int128)
    negative = number < 0
    digits = pl.when(negative).then(number + pl.lit(_NINES, pl.Int128)).otherwise(number)
    sign = pl.when(negative).then(pl.lit("0")).otherwise(pl.lit("1"))
    return pl.select(sign + digits.cast(pl.String).str.zfill(38)).to_series()


def _float_bits(series: pl.Series) -> pl.Series:
    """Map floats to integers of the same order: the bits of negatives are counted down from zero."""
    floats = pl.select(
        pl.lit(series.cast(pl.Float64)).fill_nan(float("nan")) + 0.0
    ).to_series()  # -0.0 is 0.0
    bits = pl.Series(floats.to_arrow().view(pa.int64()), dtype=pl.Int64)
    lowest = pl.lit(-_SIGN, pl.Int64)
    return pl.select(
        pl.when(pl.lit(bits) < 0).then(lowest - pl.lit(bits)).otherwise(pl.lit(bits))
    ).to_series()
