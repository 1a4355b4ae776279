"""A database's life with Debezium behind it: a workload, and everything that can happen to its connectors.

Decides the order of events: what is there before the snapshot, what is written while it is read, deaths of
Connect and of Kafka in the middle of changes, offsets set back, offsets lost, rows read again by a signal. It
asserts nothing; what came of it is in Kafka and in the database's own audit.
"""

import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from demo.broker import EmbeddedKafka
from demo.connect import Connect
from demo.postgres import Postgres
from tests.integration.workload import ALTERS, TABLES, Workload
from tests.running import Project

JSON = {f"{side}.converter": "org.apache.kafka.connect.json.JsonConverter" for side in ("key", "value")}
SCHEMAS = {f"{side}.converter.schemas.enable": "true" for side in ("key", "value")}
# `manual`: PostgreSQL keeps its log, so that the connectors can be sent back in it.
KEPT = {"lsn.flush.mode": "manual", "signal.data.collection": "public.signal"}
CONNECTORS = {
    "plain": KEPT | {"topic.prefix": "plain", "slot.name": "plain", "publication.name": "sluice"},
    "block": KEPT
    | JSON
    | SCHEMAS
    | {"topic.prefix": "block", "slot.name": "block", "decimal.handling.mode": "precise"},
}
_MEANWHILE = 400  # statements, at most, while something takes its time
_CONTRACT = """\
import pandera.polars as pa
import polars as pl

from sluice import Changes, Daily, Debezium


class Row(pa.DataFrameModel):
{columns}


shared = dict(
    topic="{prefix}.public.{table}", value=Debezium(source="postgresql", decimal="{decimal}"),
    schema=Row, key={keys},
    partitions=Daily(start="{start}"), max_quarantined=0.0,
)
{table} = Changes(**shared, history=True)
{table}_now = Changes(**shared)
"""


@dataclass
class Story:
    """The servers, the workload, and what is called when a chapter ends (`told`)."""

    folder: Path
    transactions: int
    seed: int
    told: Callable[[str], None] = lambda _chapter: None
    start: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d"))
    lost: datetime | None = None  # from here to their new snapshot the connectors were blind

    def __enter__(self) -> Self:
        """Start PostgreSQL and Kafka; Connect is only made."""
        self._open = ExitStack()
        self.postgres = self._open.enter_context(Postgres())
        self.kafka = self._open.enter_context(EmbeddedKafka(self.folder / "kafka"))
        connect = Connect(self.folder / "connect", self.kafka.servers, self.postgres, CONNECTORS)
        self.connect = connect
        self._open.callback(connect.stop)
        self.workload = Workload(self.postgres, self.seed, self.settle)
        self._open.callback(self.workload.close)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all."""
        self._open.close()

    def settle(self) -> None:
        """Wait until Kafka has all that was committed so far."""
        self.workload.quiesce()
        self.connect.wait_until_stored(self.workload.place())

    def live(self) -> None:
        """Let everything happen, once."""
        for chapter in (
            self._snapshot,
            self._connect_killed,
            self._kafka_killed,
            self._offsets_set_back,
            self._rows_read_again,
            self._offsets_lost,
        ):
            chapter()
            self.settle()
            self.workload.mark()
            self.told(chapter.__name__)

    def _snapshot(self) -> None:
        """Rows are there before the connectors, and are written while these read them."""
        self.workload.create()
        self.workload.run(self._part)
        self._while_working(self.connect.start)
        self.settle()  # a table truncated or rewritten before the snapshot reads it would look empty
        self.workload.run(self._part // 2, alters=2, truncates=1)
        self.settle()
        shutil.copy(self.connect.offsets, self.folder / "offsets")

    def _connect_killed(self) -> None:
        self.workload.run(self._part, alters=2)
        self.connect.kill()
        self.workload.run(self._part // 2, truncates=1)
        self.workload.mark()
        self._while_working(self.connect.start)

    def _kafka_killed(self) -> None:
        self.workload.run(self._part // 2)
        self.kafka.nodes[1].kill()
        self.workload.run(self._part // 2)
        self.workload.mark()
        self.kafka.start_node(1)
        self._while_working(self.kafka.wait_until_ready)

    def _offsets_set_back(self) -> None:
        """All is told again since the end of the first chapter."""
        self.connect.stop()
        shutil.copy(self.folder / "offsets", self.connect.offsets)
        self.workload.run(self._part // 2)
        self._while_working(self.connect.start)

    def _rows_read_again(self) -> None:
        """The connectors are asked to read tables again beside the log (an incremental snapshot)."""
        tables = ", ".join(f'"public.{name}"' for name in TABLES)
        self.workload.everything(
            "INSERT INTO signal (id, type, data) VALUES "
            f"('again', 'execute-snapshot', '{{\"data-collections\": [{tables}]}}')"
        )
        self.workload.run(self._part // 2, truncates=1)

    def _offsets_lost(self) -> None:
        """A new snapshot tells what became of all that was changed since the old offsets."""
        self.lost = self.workload.markers[-1].at
        self.connect.stop()
        self.workload.run(self._part // 4)
        # A snapshot of fewer than two rows does not say that it is whole.
        self.workload.everything("INSERT INTO scratch SELECT generate_series(100, 102), 'many'")
        self.connect.offsets.unlink()
        with self.postgres.connect() as session:  # its transaction is open while the snapshot is read
            session.execute("UPDATE scratch SET v = 'written before, committed after the snapshot'")
            self.connect.start()
            self.connect.wait_until_stored(1)
        self.settle()
        # The last changes of columns come here: what was told before them can't be told again.
        self.workload.run(self._part // 2, alters=len(ALTERS) - 4)

    @property
    def _part(self) -> int:
        return self.transactions // 6

    def _while_working(self, wait: Callable[[], None]) -> None:
        """Let transactions go on while something takes its time."""
        done = threading.Event()
        failed: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(_MEANWHILE):
                    if done.wait(0.02):
                        return
                    self.workload.step()
                self.workload.quiesce()  # a new slot waits for the transactions that are open
            except BaseException as error:  # noqa: BLE001  # raised where it is waited for
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            wait()
        finally:
            done.set()
            thread.join()
        if failed:
            raise failed[0]

    def declare(self, prefix: str) -> Project:
        """Make a project: a history and a latest image of each table that a connector tells of."""
        project = Project(self.folder / prefix, self.kafka.servers)
        decimal = CONNECTORS[prefix].get("decimal.handling.mode", "string")
        for name, table in TABLES.items():
            columns = [f"    {key}: {of.dtype}" for key, of in table.keys.items()]
            columns += [
                f"    {column}: {of.dtype} = pa.Field(nullable=True, metadata={of.metadata})"
                for column, of in table.columns.items()
            ]
            told = {"prefix": prefix, "table": name, "keys": tuple(table.keys), "decimal": decimal}
            project.write(name, _CONTRACT.format(columns="\n".join(columns), start=self.start, **told))
        return project

    def materialize(self, project: Project) -> None:
        """Bring the lake up to Kafka, and the dimensions up to it."""
        tiles = (self.start, datetime.now(UTC).strftime("%Y-%m-%d"))
        project.run("group:bronze or group:silver", tiles).good()
        project.run("group:dimensions").good()
