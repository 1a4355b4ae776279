"""What a backfill of hourly tiles costs: `python benchmarks/backfill.py [--tiles=1000] [--dagster-home=DIR]`.

One topic of one partition, twenty records a tile, on the embedded Kafka. Each step is told by itself: bounds
planned, records ingested, silver decided, the equations proven and proven again; and Dagster's own share, one
materialization a tile of an asset that does nothing: on SQLite, and on the storage that `dagster.yaml` in DIR
names (PostgreSQL needs dagster-postgres; with DAGSTER_EVENT_BATCH_SIZE=1000 it takes many events at once).
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dagster as dg
import pandera.polars as pa
import polars as pl
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # forgets to say so
from measure import arguments, machine, measured

from assets import bounds, proofs
from assets.ingest import Limits, ingest
from assets.refine import refine
from demo.broker import EmbeddedKafka
from resources.kafka import KafkaResource
from resources.lake import Lake
from sluice import Events, Hourly, Json
from sluice.accounts import Layer

RECORDS = 20  # a tile
START = datetime(2024, 1, 1, tzinfo=UTC)
LAYERS: tuple[Layer, ...] = ("bronze", "silver")
LIMITS = Limits(500_000, 1 << 28)


class Reading(pa.DataFrameModel):
    """A reading of a meter."""

    id: int
    at: pl.Datetime("us", "UTC")  # type: ignore[valid-type]


STREAM = Events(
    name="readings",
    topic="readings",
    value=Json(),
    schema=Reading,
    key="id",
    event_time="at",
    partitions=Hourly(start="2024-01-01"),
)


def fill(servers: str, tiles: int) -> None:
    """Produce the topic."""
    admin = AdminClient({"bootstrap.servers": servers})
    topic = NewTopic(STREAM.topic, 1, 1, config={"retention.ms": "-1"})
    admin.create_topics([topic])[STREAM.topic].result()
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    for number in range(tiles * RECORDS):
        at = START + timedelta(minutes=60 / RECORDS * number)
        value = f'{{"id": {number}, "at": "{at.isoformat()}"}}'
        producer.produce(STREAM.topic, value, partition=0, timestamp=int(at.timestamp() * 1000))
        if number % 10_000 == 0:
            producer.flush()
    producer.flush()


def engine(lake: Lake, kafka: KafkaResource, tiles: list[str], now: datetime) -> None:
    """Tell what each step of ours costs."""

    def say(_text: str) -> None:
        """Say nothing."""

    def silver() -> None:
        refine(lake, STREAM, tiles, run_id="bench", limits=LIMITS, say=say)

    steps: dict[str, Callable[[], object]] = {
        "planned": lambda: bounds.ensure(lake, kafka, STREAM, tiles, now),
        "ingested": lambda: ingest(
            lake, kafka, STREAM, tiles, run_id="bench", limits=LIMITS, now=now, say=say
        ),
        "decided in silver": silver,
        "proven, equation 2": lambda: proofs.unequal(lake, STREAM, "bronze", tiles),
        "proven, equation 3": lambda: proofs.unequal(lake, STREAM, "silver", tiles),
        "proven again, both": lambda: [
            proofs.unequal(lake, STREAM, "bronze"),
            proofs.unequal(lake, STREAM, "silver"),
        ],
    }
    for name, step in steps.items():
        tell(name, len(tiles), step)


def tell(name: str, tiles: int, step: Callable[[], object]) -> None:
    """Print the tiles a second, and a CPU second, of a step."""

    def work() -> int:
        step()
        return tiles

    cost = measured(work)
    print(
        f"{name:32} {tiles / cost.seconds:9,.0f} tiles/s {tiles / cost.cpu:9,.0f} tiles/CPU s"
        f" {cost.peak_mb:7,.0f} MB at most",
        flush=True,
    )


def dagster_alone(tiles: int, instance: AbstractContextManager[dg.DagsterInstance]) -> None:
    """Materialize as many partitions of an asset that does nothing, in one run over a range."""
    hours = dg.HourlyPartitionsDefinition(start_date=START.strftime("%Y-%m-%d-%H:%M"), timezone="UTC")

    @dg.asset(partitions_def=hours, backfill_policy=dg.BackfillPolicy.single_run())
    def nothing(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        for tile in context.partition_keys:
            context.add_asset_metadata({"dagster/partition_row_count": RECORDS}, partition_key=tile)
        return dg.MaterializeResult()

    tags = {
        "dagster/asset_partition_range_start": START.strftime("%Y-%m-%d-%H:%M"),
        "dagster/asset_partition_range_end": (START + timedelta(hours=tiles - 1)).strftime("%Y-%m-%d-%H:%M"),
    }
    with instance as opened:
        storage = type(opened.event_log_storage).__name__
        tell(
            f"Dagster alone, {storage[:17]}",
            tiles,
            lambda: dg.materialize([nothing], instance=opened, tags=tags),
        )


def main() -> None:
    """Print a line a step."""
    options = arguments()
    count = int(options.get("tiles", "1000"))
    print(machine())
    end = START + timedelta(hours=count)
    tiles = [w.tile for w in STREAM.partitions.windows(end - timedelta(hours=1))]
    with tempfile.TemporaryDirectory() as folder:
        with EmbeddedKafka(Path(folder) / "kafka") as broker:
            fill(broker.servers, count)
            kafka = KafkaResource(bootstrap_servers=broker.servers)
            engine(Lake(f"{folder}/lake"), kafka, tiles, end + timedelta(hours=2))
        dagster_alone(min(count, 200), dg.DagsterInstance.local_temp(folder))
    if "dagster-home" in options:
        dagster_alone(count, dg.DagsterInstance.from_config(options["dagster-home"]))


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"took {time.perf_counter() - began:.0f} s", file=sys.stderr)
