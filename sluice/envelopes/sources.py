"""What the `source` blocks of many changes tell, at once: position, origin and commit time of each.

Decides which of them are common enough to be read so, and says of those what `sluice.envelopes.positions`
and `origins`, which stand for what is right, would say one by one. PostgreSQL and MySQL only.
"""

import polars as pl
import pyarrow as pa

from sluice.envelopes.origins import FIRST, INCREMENTAL, LAST, SOURCE
from sluice.envelopes.positions import OPENING
from sluice.envelopes.told import UTC_TIME
from sluice.json.plan import Kind, Node

TEXTS = ("connector", "snapshot", "db", "schema", "table", "gtid", "sequence", "file")
COUNTS = ("ts_us", "ts_ms", "server_id", "lsn", "pos", "row")
NEVER = ("collection",)
_SNAPSHOTS = ("", "false", "true", *FIRST, *LAST, INCREMENTAL)
_FIRST, _LAST = -62_135_596_800 * 10**6, 253_402_300_800 * 10**6  # years 1 to 9999
_SEQUENCE = r'^\[(?:null|"([0-9]{1,20})"),(?:null|"[0-9]+")\]$'
_FILE = r"^(?:(?s:.)*\.)?([0-9]{1,20})$"
_GTID = r"^(?:([0-9]+-[0-9]+)-[0-9]+|([0-9a-z-]+):[0-9]+)$"  # of one transaction, as both write it


def source_nodes(first: int) -> list[Node]:
    """Give the nodes that read a `source` block, as columns from a number on, in the order of their names."""
    texts = [Node(Kind.STRING, name, pa.string_view(), first + n) for n, name in enumerate(TEXTS)]
    first += len(TEXTS)
    counts = [Node(Kind.COUNT, name, pa.int64(), first + n) for n, name in enumerate(COUNTS)]
    return [*texts, *counts, *(Node(Kind.NEVER, name) for name in NEVER)]


def of_sources(sources: pl.DataFrame, op: pl.Series) -> pl.DataFrame:
    """Tell what source blocks say.

    Args:
        sources: columns TEXTS and COUNTS.
        op: c, r, u or d; null: not to be looked at.

    Returns:
        `sure` (whether the rest is so), `_position`, `_source` (`origins.SOURCE`).
    """
    snapshot = _filled("snapshot", "false")
    initial, streamed = ~snapshot.is_in(["false", "incremental"]), snapshot == "false"
    lsn, commit = pl.col("lsn").cast(pl.String), pl.col("sequence").str.extract(_SEQUENCE)
    is_postgresql = pl.col("connector") == "postgresql"
    opening = is_postgresql & (pl.col("sequence") != "") & commit.is_null()
    rank = (
        pl.when(initial).then(pl.lit("0"))
        .when(~streamed).then(pl.lit("3"))
        .when(opening & (pl.lit(op) == "d")).then(pl.lit(OPENING[0]))
        .when(opening).then(pl.lit(OPENING[1]))
        .when(pl.lit(op) == "d").then(pl.lit("1"))
        .otherwise(pl.lit("2"))
    )  # fmt: skip
    first = pl.when(initial).then(lsn).otherwise(pl.coalesce(commit, lsn))
    second = pl.when(initial).then(pl.lit("0")).otherwise(lsn)
    postgresql = [first, second, rank]
    mysql = [pl.col("file").str.extract(_FILE), pl.col("pos"), pl.col("row"), rank]
    is_mysql = pl.col("connector").is_in(["mysql", "mariadb"])
    read = _committed_at().clip(0).cast(pl.String).str.zfill(20)
    clock = pl.when(~streamed & read.is_not_null()).then(pl.lit(" ") + read).otherwise(pl.lit(""))
    told = sources.select(
        _sure(is_postgresql, is_mysql).fill_null(value=False).alias("sure"),
        pl.when(is_postgresql)
        .then(_place(postgresql))
        .otherwise(_place(mysql))
        .add(clock)
        .alias("_position"),
        *_origin(snapshot),
    )
    return told.select("sure", "_position", pl.struct(f.name for f in SOURCE.fields).alias("_source"))


def _sure(is_postgresql: pl.Expr, is_mysql: pl.Expr) -> pl.Expr:
    """Mark what is common: places that are told in full, and times that can be."""
    sequence = pl.col("sequence").is_null() | pl.col("sequence").str.contains(_SEQUENCE)
    placed = (is_postgresql & (pl.col("lsn") >= 0) & sequence) | (
        is_mysql & pl.col("file").str.contains(_FILE) & (pl.col("pos") >= 0) & (pl.col("row") >= 0)
    )
    at = _committed_at()
    plain = pl.col("gtid").is_null() | pl.col("gtid").str.contains(_GTID)
    plain &= pl.col("snapshot").is_null() | pl.col("snapshot").is_in(_SNAPSHOTS)
    return placed & plain & (at.is_null() | at.is_between(_FIRST, _LAST, closed="left"))


def _committed_at() -> pl.Expr:
    """Give microseconds since 1970; milliseconds too many to be a time stay too many."""
    most = _LAST // 1000
    return pl.coalesce(pl.col("ts_us"), pl.col("ts_ms").clip(-most, most) * 1000)


def _origin(snapshot: pl.Expr) -> list[pl.Expr]:
    server = pl.col("server_id").cast(pl.String)
    server = pl.when(server != "0").then(server)
    names = [pl.when(pl.col(name) != "").then(pl.col(name)) for name in ("db", "schema", "table")]
    table = pl.concat_str(names, separator=".", ignore_nulls=True)
    part = snapshot.str.to_lowercase()
    return [
        pl.coalesce(*(pl.col("gtid").str.extract(_GTID, group) for group in (1, 2)), server).alias("server"),
        pl.when(table != "").then(table).alias("table"),
        pl.when(part != "false").then(part).alias("snapshot"),
        _committed_at().cast(UTC_TIME).alias("committed_at"),
    ]


def _filled(name: str, usual: str) -> pl.Expr:
    """Give a text, or the usual one where it is null or empty."""
    return pl.when(pl.col(name) != "").then(pl.col(name)).otherwise(pl.lit(usual))


def _place(parts: list[pl.Expr]) -> pl.Expr:
    """Write numbers in twenty digits each, and the rank."""
    *numbers, rank = parts
    written = [number.cast(pl.String).str.zfill(20) for number in numbers]
    return pl.concat_str([*written, rank], separator=" ", ignore_nulls=False)
