"""Where is this record? One answer across all tables, by business key or by place in the log.

`python -m assets.trace STREAM --key KEY` or `--at PARTITION:OFFSET`; `make trace` calls it.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import polars as pl

from resources.lake import Lake, lake_from_settings
from resources.streams import load_streams
from sluice import tables
from sluice.contract import Changes, Stream
from sluice.errors import SluiceError, UnknownStreamError


def trace(
    lake: Lake, stream: Stream, *, key: str | None = None, at: str | None = None
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Give, table by table, the rows that tell of a record: nothing is changed.

    `key` is the business key, its parts joined by commas; `at` is `partition:offset`.
    """
    ours, theirs = _by_place(at) if at else (_by_key(stream, key or ""), pl.lit(value=False))
    places = []
    for table, named in ((tables.silver(stream), "_"), (tables.losers(stream), "")):
        rows = lake.read(table).filter(ours if named or not at else theirs).collect()
        places.append(rows.select(pl.col(f"{named}{c}").alias(c) for c in ("tile", *tables.COORDINATES)))
        yield table.name, rows
    refused = tables.quarantine(stream)
    by_kafka_key = pl.col("key") == (key or "").encode()
    wanted = theirs if at else by_kafka_key
    yield refused.name, lake.read(refused).filter(wanted).drop("value", "headers").collect()
    known = pl.concat(places).lazy()
    bronze = lake.read(tables.bronze(stream))
    found = bronze.filter(theirs) if at else bronze.join(known, on=["tile", *tables.COORDINATES], how="semi")
    yield tables.bronze(stream).name, found.drop("headers").collect()
    if isinstance(stream, Changes) and not at:
        yield tables.dimension(stream).name, lake.read(tables.dimension(stream)).filter(ours).collect()


def _by_key(stream: Stream, key: str) -> pl.Expr:
    parts = key.split(",") if len(stream.keys) > 1 else [key]
    return pl.all_horizontal(
        pl.col(name).cast(pl.String) == part for name, part in zip(stream.keys, parts, strict=True)
    )


def _by_place(at: str) -> tuple[pl.Expr, pl.Expr]:
    partition, offset = (int(part) for part in at.split(":"))
    return (
        (pl.col("_partition") == partition) & (pl.col("_offset") == offset),
        (pl.col("partition") == partition) & (pl.col("offset") == offset),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is known; exit 1 where nothing is."""
    parser = argparse.ArgumentParser(prog="make trace", description=__doc__)
    parser.add_argument("stream")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--key")
    which.add_argument("--at")
    given = parser.parse_args(arguments)
    try:
        streams = {stream.name: stream for stream in load_streams()}
        if given.stream not in streams:
            raise UnknownStreamError(given.stream, sorted(streams))
        stream = streams[given.stream]
        found = list(trace(lake_from_settings(), stream, key=given.key, at=given.at))
    except (SluiceError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # a command's output
        return 2
    with pl.Config(tbl_cols=-1, tbl_rows=50, tbl_width_chars=200, fmt_str_lengths=60):
        for table, rows in found:
            print(f"{table}: {rows.height or 'nothing'}")  # noqa: T201
            if rows.height:
                print(rows)  # noqa: T201
    return 0 if any(rows.height for _, rows in found) else 1


if __name__ == "__main__":
    sys.exit(main())
