"""Sluice as someone else runs it: a folder of contracts, a lake, a Kafka, and Dagster over them.

`Project.run` materializes in this process with an ephemeral instance, quick enough for many runs;
`Project.dagster` is the command line in a process of its own. What a run leaves is read by the tables' names
of the contract, never through the engine.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import polars as pl
from deltalake import DeltaTable

from assets import aftermath, equations
from assets.catalog import assets, checks
from assets.jobs import jobs
from demo.client import DemoKafka
from resources.dbt import dbt_resource
from resources.kafka import KafkaResource
from resources.settings import PROJECT, Settings
from resources.storage import LakeResource, lake_resource
from resources.streams import load_streams
from tests.conftest import MadeTopic

CONTRACTS = Path(__file__).parent / "contracts"
TOPIC = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}


@dataclass(frozen=True)
class Outcome:
    """What a run came to: whether it succeeded, its checks that failed, what its steps died of."""

    success: bool
    failed_checks: tuple[str, ...]
    errors: tuple[str, ...]

    def good(self) -> "Outcome":
        """Assert that nothing failed."""
        assert self.success, self
        assert not self.failed_checks, self
        return self


@dataclass
class Project:
    """A lake of its own, and the contracts that fill it."""

    folder: Path
    servers: str
    uri: str = ""
    streams: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the folders."""
        self.uri = self.uri or str(self.folder / "lake")
        self.streams = self.folder / "streams"
        self.streams.mkdir(parents=True, exist_ok=True)
        (self.folder / "home").mkdir(exist_ok=True)

    def declare(self, *names: str) -> "Project":
        """Drop contracts of `tests/contracts` into the folder of contracts."""
        for name in names:
            shutil.copy(CONTRACTS / f"{name}.py", self.streams / f"{name}.py")
        return self

    def write(self, name: str, text: str) -> "Project":
        """Write a contract."""
        (self.streams / f"{name}.py").write_text(text)
        return self

    def stream(self, name: str):
        """Give a stream as the product loads it."""
        return next(s for s in load_streams(self.streams) if s.name == name)

    def lake(self):
        """Give the lake as the product opens it."""
        return self.resource.lake

    @property
    def resource(self) -> LakeResource:
        """Give the lake's resource; how an object store is reached, the environment says."""
        return lake_resource(Settings(lake_uri=self.uri))

    def definitions(self) -> dg.Definitions:
        """Compose what `definitions.py` does, without the environment."""
        streams = load_streams(self.streams)
        return dg.Definitions(
            assets=assets(streams),
            asset_checks=checks(streams),
            jobs=jobs(streams),
            resources={
                "lake": self.resource,
                "kafka": KafkaResource(bootstrap_servers=self.servers, timeout_seconds=5),
                "dbt": dbt_resource(),
            },
            executor=dg.in_process_executor,
        )

    def run(self, selection: str, tiles: str | tuple[str, str] | None = None, **config: object) -> Outcome:
        """Materialize a selection of one tile, of a range of tiles (first, last), or of no tile."""
        made = self.definitions()
        wanted = dg.AssetSelection.from_string(selection).resolve(made.resolve_asset_graph())
        tags = {}
        if isinstance(tiles, tuple):
            tags = {"dagster/asset_partition_range_start": tiles[0]}
            tags["dagster/asset_partition_range_end"] = tiles[1]
        with dg.DagsterInstance.ephemeral() as instance:
            result = made.resolve_implicit_global_asset_job_def().execute_in_process(
                run_config={"ops": config} if config else None,
                instance=instance,
                asset_selection=sorted(wanted),
                partition_key=tiles if isinstance(tiles, str) else None,
                tags=tags,
                raise_on_error=False,
            )
        return outcome(result)

    def both(self, name: str, tiles: str | tuple[str, str]) -> Outcome:
        """Materialize bronze and silver of a stream."""
        return self.run(f'key:"bronze/{name}" or key:"silver/{name}"', tiles)

    def job(self, name: str, config: dict[str, object]) -> Outcome:
        """Execute a job with the config of its one op."""
        job = self.definitions().resolve_job_def(name)
        ops = {node.name: {"config": config} for node in job.nodes}
        with dg.DagsterInstance.ephemeral() as instance:
            return outcome(
                job.execute_in_process(run_config={"ops": ops}, instance=instance, raise_on_error=False)
            )

    @property
    def environment(self) -> dict[str, str]:
        """Give the environment of a process that runs this project."""
        return os.environ | {
            "STREAMS_DIR": str(self.streams),
            "LAKE_URI": self.uri,
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "DAGSTER_HOME": str(self.folder / "home"),
            "DO_NOT_TRACK": "1",
            "PYTHONPATH": str(PROJECT),
        }

    def command(self, selection: str, *more: str) -> list[str]:
        """Write `dagster asset materialize`, as people type it."""
        dagster = str(Path(sys.executable).with_name("dagster"))
        return [dagster, "asset", "materialize", "-m", "definitions", "--select", selection, *more]

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        """Start a command in this project."""
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=self.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def dagster(self, selection: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run `dagster asset materialize` to its end."""
        return self.shell(self.command(selection, *more))

    def shell(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in this project to its end."""
        with self.start(command) as process:
            out, _ = process.communicate(timeout=240)
        return subprocess.CompletedProcess(list(command), process.returncode, out, "")

    def table(self, name: str) -> pl.DataFrame:
        """Read a table of the lake by its path."""
        return pl.scan_delta(f"{self.uri}/{name}").collect()

    def version(self, name: str) -> int:
        """Tell in which version a table is."""
        return int(DeltaTable(f"{self.uri}/{name}").version())

    def silver(self, name: str) -> pl.DataFrame:
        """Give silver's contract columns and coordinates, in the log's order."""
        rows = self.table(f"silver/{name}").sort("_epoch", "_partition", "_offset")
        return rows.drop("_ingested_at")

    def state(self, name: str) -> dict[str, pl.DataFrame]:
        """Give silver, losers and quarantine of a stream without what differs from run to run."""
        at = ["epoch", "partition", "offset"]
        losers = self.table(f"losers/{name}").sort(at)
        refused = self.table(f"quarantine/{name}").sort(at).drop("quarantined_at", "batch_id")
        told = {"silver": self.silver(name), "losers": losers, "quarantine": refused}
        return {layer: rows.select(sorted(rows.columns)) for layer, rows in told.items()}

    def dimension(self, name: str) -> pl.DataFrame:
        """Give a dimension in a fixed order."""
        rows = self.table(f"dimensions/{name}")
        keys = list(self.stream(name).keys)
        return rows.sort([*keys, "version"] if "version" in rows.columns else keys)

    def accounts(self, name: str) -> dict[str, int]:
        """Sum what the ledger says of silver's records."""
        rows = self.table("system/ledger").filter(
            (pl.col("stream") == name) & (pl.col("layer") == "silver") & (pl.col("kind") == "batch")
        )
        last = pl.col("generation") == pl.col("generation").max().over("tile")
        counts = (
            "read",
            "accepted",
            "duplicates",
            "conflicts",
            "quarantined",
            "tombstones",
            "ignored",
            "late",
        )
        return rows.filter(last).select(pl.col(counts).sum()).row(0, named=True)

    def prove(self, *names: str) -> None:
        """Hold the three equations and the ledger against the tables."""
        lake = self.lake()
        for name in names:
            stream = self.stream(name)
            for layer in ("bronze", "silver"):
                assert equations.unbalanced(lake, stream, layer).is_empty()
                assert aftermath.ledger_is_whole(lake, stream, layer), layer
            broken = [equations.bronze_unequal(lake, stream), equations.silver_unequal(lake, stream)]
            assert all(rows.is_empty() for rows in broken), broken


def outcome(result: dg.ExecuteInProcessResult) -> Outcome:
    """Tell what a run came to."""
    failed, errors = [], []
    for event in result.all_events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION" and not event.event_specific_data.passed:
            found = event.event_specific_data
            told = {name: value.value for name, value in found.metadata.items()}
            failed.append(f"{found.asset_key.to_user_string()}:{found.check_name} {told}")
        if event.event_type_value == "STEP_FAILURE":
            data = event.event_specific_data
            told = data.user_failure_data.description if data.user_failure_data else None
            errors.append(told or data.error.to_string())
    return Outcome(result.success, tuple(failed), tuple(errors))


def assert_same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> None:
    """Hold two states against each other, table by table."""
    for layer, rows in one.items():
        assert rows.equals(other[layer]), f"{layer} differs:\n{rows}\n{other[layer]}"


@dataclass(frozen=True)
class Record:
    """A record to produce: where and when."""

    value: bytes | None
    stamp_ms: int
    key: bytes | None = None
    partition: int = 0


def fill(
    servers: str, topic: str, records: Iterable[Record], partitions: int = 1, **config: str
) -> MadeTopic:
    """Make a topic and produce records into it, unless it has some already; stamps are kept."""
    settled = TOPIC | {name.replace("_", "."): value for name, value in config.items()}
    client, made = DemoKafka(servers), MadeTopic(servers, topic)
    client.create_topic(topic, partitions, settled)
    if client.count(topic):
        return made
    by_partition: dict[int, list[Record]] = {}
    for record in records:
        by_partition.setdefault(record.partition, []).append(record)
    for partition, of in by_partition.items():
        made.produce(
            (r.value for r in of),
            keys=(r.key for r in of),
            stamps=(r.stamp_ms for r in of),
            partition=partition,
            **({"message.max.bytes": 32_000_000} if "max_message_bytes" in config else {}),
        )
    return made
