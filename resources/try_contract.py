"""`make try STREAM=orders FILE=samples.jsonl`: what a contract makes of samples, without Kafka or a lake.

A sample is one line of the file, taken as the bytes of one record's value; blank lines are skipped. Every
sample is judged by itself, as silver would judge it, with no record key and now as its Kafka timestamp.
Duplicates are not looked for. The exit status is 1 if anything is refused, 2 if nothing could be tried.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from resources.streams import load_streams
from sluice.contract import Stream
from sluice.decode import decode
from sluice.decoded import Decoded
from sluice.errors import SamplesError, SluiceError, UnknownStreamError
from sluice.tables import BRONZE

MOST_ROWS = 20  # shown; more of a file is counted only


@dataclass(frozen=True)
class Samples:
    """The samples of a file: their records, and the line of the file that each came from."""

    records: pl.DataFrame
    lines: tuple[int, ...]
    blank: int


def read_samples(file: Path, stream: Stream, now: datetime) -> Samples:
    """Read a file of samples as records of a stream.

    Args:
        file: one value a line, as bytes.
        stream: whose records they are to be.
        now: the records' Kafka timestamp, zoned.

    Raises:
        SamplesError: the file cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SamplesError(str(file), error.strerror or type(error).__name__) from error
    lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    if lines[-1] == b"":  # what follows the last line's end
        lines.pop()
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    numbers = tuple(number for number, _ in kept)
    records = pl.DataFrame(
        {"offset": numbers, "value": [line for _, line in kept]},
        schema={"offset": BRONZE["offset"], "value": BRONZE["value"]},
    ).with_columns(
        pl.lit(stream.topic).alias("topic"),
        pl.lit(stream.epoch).alias("epoch"),
        pl.lit(0).alias("partition"),
        pl.lit(round(now.timestamp() * 1000)).alias("timestamp_ms"),
        pl.lit(now).alias("timestamp"),
        pl.lit("CreateTime").alias("timestamp_type"),
        pl.lit(now).alias("ingested_at"),
        pl.lit(stream.partitions.tile_at(now)).alias("tile"),
        *(pl.lit(None).alias(name) for name in ("key", "headers")),
    )
    records = records.select(pl.col(name).cast(dtype) for name, dtype in BRONZE.items())
    return Samples(records, numbers, len(lines) - len(kept))


def report(stream: Stream, samples: Samples, decoded: Decoded) -> str:
    """Write what became of the samples, for a person.

    Returns:
        Text: the rows that passed, each refused line with all its failures, and the counts.
    """
    refused = decoded.failures["_row"].n_unique()
    counts = {
        "passed": decoded.rows.height,
        "refused": refused,
        "tombstones": len(decoded.tombstones),
        "ignored": len(decoded.ignored),
        "blank lines skipped": samples.blank,
    }
    parts = [f"{stream.name}: {len(samples.lines)} samples: {_counts(counts)}"]
    if decoded.rows.height:
        parts += ["", "passes:", _table(stream, samples, decoded.rows)]
    if refused:
        parts += ["", "refused:", *_refusals(samples, decoded.failures)]
    if decoded.unknown:
        parts += ["", f"members that no column takes: {_counts(decoded.unknown)}"]
    return "\n".join(parts)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "nothing"


def _table(stream: Stream, samples: Samples, rows: pl.DataFrame) -> str:
    names = [name for name in ("_op", *(column.name for column in stream.columns)) if name in rows.columns]
    lines = pl.Series("line", samples.lines, pl.UInt32).gather(rows["_row"])
    shown = rows.select(lines, *names).sort("line").head(MOST_ROWS)
    with pl.Config(
        tbl_rows=MOST_ROWS,
        tbl_cols=-1,
        tbl_width_chars=200,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        fmt_str_lengths=40,
    ):
        more = f"\n… and {rows.height - MOST_ROWS} more" if rows.height > MOST_ROWS else ""
        return f"{shown}{more}"


def _refusals(samples: Samples, failures: pl.DataFrame) -> Iterator[str]:
    """Give a line for each refused sample, and one below it for each of its failures."""
    failing = failures.partition_by("_row", as_dict=True, maintain_order=True)
    for (row,), of_row in sorted(failing.items()):
        yield f"  line {samples.lines[row]}:"
        for failure in of_row.iter_rows(named=True):
            where = ", ".join(f"{part} {failure[part]}" for part in ("column", "rule") if failure[part])
            yield f"    {failure['stage']}{f' ({where})' if where else ''}: {failure['reason']}"


def find_stream(name: str, streams: Sequence[Stream]) -> Stream:
    """Find a stream by its name; raises UnknownStreamError."""
    for stream in streams:
        if stream.name == name:
            return stream
    raise UnknownStreamError(name, [stream.name for stream in streams])


def main(arguments: Sequence[str] | None = None) -> int:
    """Try a contract; prints the report and gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m resources.try_contract", description=__doc__)
    parser.add_argument("stream", help="the stream's name")
    parser.add_argument("file", type=Path, help="samples, one value a line")
    parser.add_argument("--streams", type=Path, help="the folder of contracts (default: STREAMS_DIR)")
    given = parser.parse_args(arguments)
    try:
        stream = find_stream(given.stream, load_streams(given.streams))
        samples = read_samples(given.file, stream, datetime.now(UTC))
        decoded = decode(stream, samples.records)
    except SluiceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{report(stream, samples, decoded)}\n")
    return 1 if decoded.failures.height else 0


if __name__ == "__main__":
    sys.exit(main())
