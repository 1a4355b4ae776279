"""Kafka: what its topics are, how far their logs go, and their records.

Decides how this project reads Kafka: by offsets that it keeps itself, never by consumer groups; what is
committed only, except where bounds are looked up. It refuses to wait for a broker that does not answer, and
lets the client print nothing: what went wrong is in the one error raised.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it has them, and forgets to say so
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)
from pydantic import Field

from resources.kafka_log import PartitionLog
from resources.kafka_read import Batch, Reader
from resources.settings import settings
from sluice.errors import KafkaReadError, KafkaUnreachableError, SettingsError, TopicMissingError

__all__ = ["Batch", "KafkaResource", "PartitionLog", "Topic", "Watermarks", "kafka_resource"]

_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_SILENT = logging.getLogger("sluice.kafka.client")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_IN_MEMORY = "mockCluster"  # how librdkafka's broker in memory names its cluster
_UNREACHABLE = {
    KafkaError._TIMED_OUT,  # noqa: SLF001  # its only name
    KafkaError._TRANSPORT,  # noqa: SLF001  # its only name
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001  # its only name
    KafkaError._RESOLVE,  # noqa: SLF001  # its only name
    KafkaError.REQUEST_TIMED_OUT,
}


@dataclass(frozen=True)
class Topic:
    """A topic: its name, the id that it got when it was made, its partitions' numbers."""

    name: str
    id: str
    partitions: tuple[int, ...]


@dataclass(frozen=True)
class Watermarks:
    """How far a partition's log goes: first offset, last stable offset, offset after the last record."""

    low: int
    stable: int
    high: int


class KafkaResource(dg.ConfigurableResource[None]):
    """Reads Kafka; more of the client's options come from the setting `KAFKA_OPTIONS`."""

    bootstrap_servers: str = Field(
        default="", description="Kafka's address; empty: as the settings say when it is used."
    )
    timeout_seconds: float = Field(default=10, description="How long an answer is waited for.")
    stall_seconds: float = Field(default=30, description="How long records are waited for.")

    def topic(self, name: str) -> Topic:
        """Look a topic up.

        Raises:
            TopicMissingError: there is none of this name.
            KafkaUnreachableError: no broker answers.
        """
        admin = self._admin()
        try:
            found = self._ask(name, admin.describe_topics(TopicCollection([name]), **self._wait)[name])
        except KafkaUnreachableError as error:
            metadata = self._in_memory(admin, error)
            if name not in metadata.topics:
                raise TopicMissingError(name, self._servers) from None
            partitions = metadata.topics[name].partitions  # it knows no ids, and forgets all when it ends
            return Topic(name, metadata.cluster_id, tuple(sorted(partitions)))
        return Topic(name, str(found.topic_id), tuple(sorted(p.id for p in found.partitions)))

    def watermarks(self, name: str, partitions: Sequence[int]) -> dict[int, Watermarks]:
        """Tell how far the logs of some partitions go.

        Raises:
            TopicMissingError, KafkaUnreachableError: as they say.
            KafkaReadError: the broker does not tell.
        """
        low = self._offsets(name, partitions, _EARLIEST)
        stable = self._offsets(name, partitions, _LATEST, IsolationLevel.READ_COMMITTED)
        high = self._offsets(name, partitions, _LATEST)
        return {p: Watermarks(low[p], stable[p], high[p]) for p in partitions}

    def log(self, name: str, partition: int) -> PartitionLog:
        """Give a partition's log as it is now, for `sluice.tiles`; read uncommitted.

        Raises:
            TopicMissingError, KafkaUnreachableError, KafkaReadError: as they say.
        """
        admin = self._admin()
        resource = ConfigResource(ResourceType.TOPIC, name)
        try:
            asked = self._ask(name, admin.describe_configs([resource], **self._wait)[resource])
            broker_stamps = asked["message.timestamp.type"].value == "LogAppendTime"
        except KafkaUnreachableError as error:
            self._in_memory(admin, error)
            broker_stamps = False
        marks = self.watermarks(name, [partition])[partition]
        return PartitionLog(
            self._config,
            (name, partition),
            (marks.low, marks.high),
            broker_stamps=broker_stamps,
            timeout=self.timeout_seconds,
        )

    def read(
        self, name: str, ranges: Mapping[int, tuple[int, int]], *, max_rows: int, max_bytes: int
    ) -> Iterator[Batch]:
        """Read the offsets `[first, stop)` of each partition in batches; read committed.

        A batch has at most `max_rows` records and about `max_bytes` bytes of keys, values and headers.
        Each `stop` must not be beyond the last stable offset.

        Raises:
            TopicMissingError, KafkaUnreachableError: as they say.
            KafkaReadError: the broker refuses, or nothing comes for `stall_seconds`.
        """
        with closing(self._reader(name)) as reader:
            firsts, stops = ({p: pair[at] for p, pair in ranges.items()} for at in (0, 1))
            reader.add(firsts, stops)
            yield from reader.batches(max_rows, max_bytes, self.stall_seconds)

    def tail(self, name: str, places: Mapping[int, int]) -> Reader:
        """Give a reader that follows partitions, each from an offset on, never beyond the last stable offset.

        A broker that does not answer looks like a quiet topic there: `watermarks` tells them apart.
        """
        reader = self._reader(name)
        reader.add(places)
        return reader

    def _reader(self, name: str) -> Reader:
        return Reader(
            self._config,
            name,
            lambda partitions: self._offsets(name, partitions, _EARLIEST),
            lambda: self.topic(name).id,
        )

    def open_transactions(self, name: str, partition: int) -> str:
        """Describe what holds back a partition's last stable offset.

        The client cannot list producers: the text has the transaction's first offset and stamp, and the
        command that names its producer.
        """
        marks = self.watermarks(name, [partition])[partition]
        if marks.stable >= marks.high:
            return "it has ended by now"
        first = self.log(name, partition).stamps(marks.stable, marks.stable + 1)
        when = "at an unknown time"
        if first.height and first["stamp"][0] >= 0:
            when = f"at {datetime.fromtimestamp(first['stamp'][0] / 1000, UTC).isoformat()}"
        return (
            f"begun {when}; `kafka-transactions.sh --bootstrap-server {self._servers} find-hanging "
            f"--topic {name} --partition {partition}` names it"
        )

    @property
    def _servers(self) -> str:
        servers = self.bootstrap_servers or settings().kafka_servers
        if not servers:
            raise SettingsError(
                "KAFKA_BOOTSTRAP_SERVERS",
                "not set, and the demo's own Kafka does not run",
                "set it, or start the demo's: python -m demo.kafka start",
            )
        return servers

    @property
    def _config(self) -> dict[str, Any]:
        options = {name: secret.get_secret_value() for name, secret in settings().kafka_options.items()}
        return {
            **options,
            "bootstrap.servers": self._servers,
            "log_level": 0,
            "logger": _SILENT,
            "error_cb": lambda _: None,  # what matters is raised
            "reconnect.backoff.max.ms": 1_000,
            "socket.connection.setup.timeout.ms": int(self.timeout_seconds * 1_000),
        }

    @property
    def _wait(self) -> dict[str, float]:
        return {"request_timeout": self.timeout_seconds}

    def _admin(self) -> AdminClient:
        return AdminClient(self._config)

    def _in_memory(self, admin: AdminClient, error: KafkaUnreachableError) -> Any:
        """Give the metadata of a broker in memory, which answers few requests; of others, raise the error."""
        try:
            metadata = admin.list_topics(timeout=1)
        except KafkaException:
            raise error from None
        if not (metadata.cluster_id or "").startswith(_IN_MEMORY):
            raise error
        return metadata

    def _offsets(
        self,
        name: str,
        partitions: Sequence[int],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        admin = self._admin()
        places = {TopicPartition(name, partition): spec for partition in partitions}
        futures = admin.list_offsets(places, isolation_level=isolation, **self._wait) if places else {}
        return {place.partition: self._ask(name, future).offset for place, future in futures.items()}

    def _ask(self, name: str, answer: "Future[Any]") -> Any:
        """Wait for an answer about a topic, and turn the client's failures into ours."""
        try:
            return answer.result()
        except KafkaException as error:
            failure = error.args[0]
            if failure.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicMissingError(name, self._servers) from error
            if failure.code() in _UNREACHABLE:
                raise KafkaUnreachableError(self._servers, failure.str()) from error
            if failure.code() == KafkaError._NOENT:  # noqa: SLF001  # its only name; no leader, or no topic
                self.topic(name)
            raise KafkaReadError(name, str(failure.str())) from error


def kafka_resource() -> KafkaResource:
    """Make the resource that assets ask for; its address is looked up when it is used."""
    return KafkaResource()
