"""A stream of customers, its lake, and a source beside it, for tests of reconciliation."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pandera.polars as pa
import polars as pl
from deltalake import write_deltalake

from assets.asked import Asked
from assets.reconcile import reconcile
from resources.lake import Lake
from sluice import Changes, Daily, Delta, Json, Parquet
from tests.engine import both
from tests.fake_kafka import FakeKafka

DAY = "2026-01-01"
AT = datetime(2026, 1, 1, 8, tzinfo=UTC)


class Customer(pa.DataFrameModel):
    id: int
    name: str = pa.Field(nullable=True, metadata={"pii": True})
    balance: pl.Decimal(12, 2) = pa.Field(nullable=True)
    score: float = pa.Field(nullable=True)
    seen: pl.Datetime("us", "UTC") = pa.Field(nullable=True)
    seq: int


def customers(source, **arguments) -> Changes:
    """Make the contract."""
    return Changes(
        **{
            "name": "customers",
            "topic": "t",
            "value": Json(),
            "schema": Customer,
            "key": "id",
            "sequence": "seq",
            "partitions": Daily(start=DAY),
            "source": source,
        }
        | arguments
    )


def row(number: int, **values) -> dict:
    return {"id": number, "name": f"n{number}", "balance": f"{number}.50", "score": number / 2} | {
        "seen": AT.isoformat(),
        "seq": number,
        **values,
    }


def filled(tmp_path, stream, rows) -> Lake:
    """Bring rows through Kafka into the lake."""
    kafka, lake = FakeKafka(), Lake(str(tmp_path / "lake"))
    kafka.create("t", 2)
    for number, one in enumerate(rows):
        stamp = int(AT.timestamp() * 1000) + number
        kafka.produce("t", json.dumps(one).encode(), stamp_ms=stamp, partition=one["id"] % 2)
    both(lake, kafka, stream, [DAY])
    return lake


def source_rows(rows) -> pl.DataFrame:
    """Give rows as a source keeps them: other widths, scales, zones."""
    return pl.DataFrame(
        [
            one | {"balance": Decimal(one["balance"]), "seen": datetime.fromisoformat(one["seen"])}
            for one in rows
        ],
        schema={
            "id": pl.Int32,
            "name": pl.String,
            "balance": pl.Decimal(20, 4),
            "score": pl.Float64,
            "seen": pl.Datetime("ns", "UTC"),
            "seq": pl.Int16,
        },
    )


def written(tmp_path, rows, kind):
    """Write a source; give its word."""
    frame = rows if isinstance(rows, pl.DataFrame) else source_rows(rows)
    if kind == "parquet":
        (tmp_path / "files").mkdir(exist_ok=True)
        for number, part in enumerate(frame.iter_slices(40)):
            part.write_parquet(tmp_path / "files" / f"{number}.parquet")
        return Parquet(path=str(tmp_path / "files" / "*.parquet"))
    frame = frame.with_columns(pl.col("seen").dt.cast_time_unit("us"))
    write_deltalake(str(tmp_path / "there"), frame.to_arrow(), mode="overwrite")
    return Delta(uri=str(tmp_path / "there"))


def run(lake, stream, **asked):
    return reconcile(lake, stream, Asked(**asked), run_id="run", say=lambda _: None)
