"""Kafka: what its topics are, how far their logs go, and their records.

Decides how this project reads Kafka: by offsets that it keeps itself, never by consumer groups; what is
committed only, except where bounds are looked up. It refuses to wait without end; while any broker
lives, it waits for leaders that move.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg
from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it has them, and forgets to say so
    ConfigResource,
    OffsetSpec,
    ResourceType,
)
from pydantic import Field

from resources.kafka_client import QUIET, KafkaClient, kafka_client, refusal
from resources.kafka_log import PartitionLog
from resources.kafka_read import Batch, Reader
from resources.kafka_security import security_options
from resources.settings import settings
from sluice.errors import (
    KafkaAccessError,
    KafkaUnreachableError,
    SettingsError,
    TopicMissingError,
)

__all__ = ["Batch", "KafkaResource", "PartitionLog", "Topic", "Watermarks", "kafka_resource"]

_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]


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
            KafkaAuthenticationError, KafkaTlsError, KafkaAccessError: the brokers refuse us.
        """

        def question(admin: Any, names: Sequence[str], seconds: float) -> Any:
            return admin.describe_topics(TopicCollection(list(names)), request_timeout=seconds)

        found = self._described(name, question, name)
        if found is None:  # it knows no ids, and forgets all when it ends
            metadata = self._client.metadata()
            if name not in metadata.topics:
                raise TopicMissingError(name, self._servers)
            return Topic(name, metadata.cluster_id, tuple(sorted(metadata.topics[name].partitions)))
        return Topic(name, str(found.topic_id), tuple(sorted(p.id for p in found.partitions)))

    def watermarks(self, name: str, partitions: Sequence[int]) -> dict[int, Watermarks]:
        """Tell how far the logs of some partitions go.

        Raises:
            TopicMissingError, KafkaUnreachableError: as they say.
            KafkaAuthenticationError, KafkaTlsError, KafkaAccessError: the brokers refuse us.
            KafkaReadError: the broker does not tell.
        """
        low = self._offsets(name, partitions, _EARLIEST)
        stable = self._offsets(name, partitions, _LATEST, IsolationLevel.READ_COMMITTED)
        high = self._offsets(name, partitions, _LATEST)
        return {p: Watermarks(low[p], stable[p], high[p]) for p in partitions}

    def log(self, name: str, partition: int) -> PartitionLog:
        """Give a partition's log as it is now; as `logs`."""
        return self.logs(name, [partition])[partition]

    def logs(self, name: str, partitions: Sequence[int]) -> dict[int, PartitionLog]:
        """Give the logs of some partitions as they are now, for `sluice.tiles`; read uncommitted.

        What concerns all of them is asked once.

        Raises:
            TopicMissingError, KafkaUnreachableError, KafkaReadError: as they say.
        """
        if not partitions:
            return {}
        low, high = (self._offsets(name, partitions, spec) for spec in (_EARLIEST, _LATEST))
        ask, broker_stamps = (
            partial(self._ask, name, doubt=partial(self.topic, name)),
            self._broker_stamps(name),
        )
        config = self._config
        return {
            partition: PartitionLog(
                config,
                (name, partition),
                (low[partition], high[partition]),
                ask,
                broker_stamps=broker_stamps,
                timeout=self.stall_seconds,
            )
            for partition in partitions
        }

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
        """Make a reader; while it reads, a broker's answer is waited for as long as records are."""
        patient = self.model_copy(update={"timeout_seconds": max(self.timeout_seconds, self.stall_seconds)})
        return Reader(
            self._config,
            name,
            lambda partitions: patient._offsets(name, partitions, _EARLIEST),  # noqa: SLF001  # a copy of us
            lambda: patient.topic(name).id,
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
    def _options(self) -> dict[str, str]:
        return {**security_options(settings()), "bootstrap.servers": self._servers}

    @property
    def _config(self) -> dict[str, Any]:
        """The options of a client that reads; what goes wrong on the way there, the held one tells."""
        return {**self._options, **QUIET, "error_cb": lambda _: None}

    @property
    def _client(self) -> KafkaClient:
        return kafka_client(self._options)

    def _broker_stamps(self, name: str) -> bool:
        """Tell whether the broker stamps a topic's records; where we may not know, it is not relied on."""
        return self._configured(name, "message.timestamp.type") == "LogAppendTime"

    def compacts(self, name: str) -> bool:
        """Tell whether a topic's log is compacted, as far as we may know: then records leave it anywhere."""
        return "compact" in (self._configured(name, "cleanup.policy") or "")

    def _configured(self, name: str, option: str) -> str | None:
        """Give an option of a topic; None where it is not told."""
        resource = ConfigResource(ResourceType.TOPIC, name)

        def question(admin: Any, wanted: Sequence[Any], seconds: float) -> Any:
            return admin.describe_configs(list(wanted), request_timeout=seconds)

        try:
            found = self._described(name, question, resource)
        except KafkaAccessError:  # reading a topic does not include its configuration
            return None
        return None if found is None else str(found[option].value)

    def _described(self, name: str, question: Any, thing: Any) -> Any:
        """Ask for a description of one thing; None from a broker in memory, which has none to give."""
        client = self._client
        try:
            return (
                None
                if client.in_memory
                else self._ask(name, question, [thing], client.refuse_in_memory)[thing]
            )
        except KafkaUnreachableError:
            if client.in_memory:
                return None
            raise

    def _offsets(
        self,
        name: str,
        partitions: Sequence[int],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        def question(admin: Any, wanted: Sequence[int], seconds: float) -> Any:
            places = {TopicPartition(name, partition): spec for partition in wanted}
            futures = admin.list_offsets(places, isolation_level=isolation, request_timeout=seconds)
            return {place.partition: future for place, future in futures.items()}

        found = self._ask(name, question, list(partitions), doubt=partial(self.topic, name))
        return {partition: answer.offset for partition, answer in found.items()}

    def _ask(
        self, name: str, question: Any, things: Sequence[Any], doubt: Callable[[], object] | None = None
    ) -> dict[Any, Any]:
        """Ask about a topic, and turn the client's failures into ours."""
        try:
            return self._client.ask(
                question, things, patience=self.timeout_seconds, moving=self.stall_seconds, doubt=doubt
            )
        except KafkaException as error:
            raise refusal(error.args[0], name, self._servers) from error


def kafka_resource() -> KafkaResource:
    """Make the resource that assets ask for; its address is looked up when it is used."""
    return KafkaResource()
