"""One held connection to ask Kafka questions: answered while any broker lives, refused at once and clearly.

Decides how long an answer is waited for: questions are asked again while leaders move and brokers come back.
What a broker will never accept (who we are, our certificates, a port that speaks another protocol) is told
within seconds, not after the client's patience; the client itself prints nothing.
"""

import atexit
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import lru_cache
from time import monotonic, sleep
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from resources import kafka_probe
from resources.kafka_probe import Port
from sluice.errors import (
    KafkaAccessError,
    KafkaAuthenticationError,
    KafkaReadError,
    KafkaTlsError,
    KafkaUnreachableError,
    SettingsError,
    SluiceError,
    TopicMissingError,
)

_IN_MEMORY = "mockCluster"  # how librdkafka's broker in memory names its cluster
QUIET: Mapping[str, Any] = {"log_level": 0, "reconnect.backoff.max.ms": 1_000}
_HELD = 4  # connections; a process has one, tests have more
_TRY = 2.0  # seconds after which a question is asked again, perhaps of another broker
_LOOK = 0.05  # seconds between looks at what the client says
_GRACE = 0.5  # seconds that another broker may take to answer after one refused us
_CLOSED = 3  # times that a port closes on us before it is asked why
_RETRIED = {
    KafkaError._TIMED_OUT,  # noqa: SLF001  # its only name, as are those below
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._NOENT,  # noqa: SLF001  # no leader
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.NETWORK_EXCEPTION,
}
_DOUBTFUL = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
}  # or not yet known to a new leader
_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}
_WORDS = re.compile(r"(?:FAIL .*?\]: )?(?:\S+/\w+: )?(.*?)(?: \(after .*)?", re.DOTALL)  # of a text
# A broker that wants a login closes on our first question; one that we know has a number instead.
_REFUSED = re.compile(r"/bootstrap: Disconnected.*\(after \d{1,4}ms in state UP\)")
Thing = TypeVar("Thing", bound=Hashable)


class _Said(NamedTuple):
    at: float
    code: int | None  # None: a line of its log
    text: str

    def __str__(self) -> str:
        """Give the text without the name of its connection and how long that took."""
        found = _WORDS.fullmatch(self.text)
        return found[1] if found else self.text


class KafkaClient:
    """A connection to one cluster, with the client's `options`; safe to share between threads."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options, self._servers = options, options["bootstrap.servers"]
        self._said: deque[_Said] = deque(maxlen=200)
        self.in_memory = False  # as far as is known
        log = logging.Logger("sluice.kafka")  # noqa: LOG001  # of this client alone, and known to nobody
        log.addHandler(_Listener(self._said))
        quiet = {**QUIET, "log_level": 6, "logger": log, "error_cb": self._note}
        try:
            self._admin = AdminClient({**options, **quiet})
        except KafkaException as error:
            raise _unusable(error.args[0].str()) from None

    def ask(
        self,
        question: Callable[[AdminClient, Sequence[Thing], float], Mapping[Thing, "Future[Any]"]],
        things: Sequence[Thing],
        *,
        patience: float,
        moving: float = 0,
        doubt: Callable[[], object] | None = None,
    ) -> dict[Thing, Any]:
        """Ask about some things, again until each has its answer.

        `question` gets the client, the things that have none yet, and the seconds that it may take. No
        broker's answer is waited for longer than `patience` seconds; where brokers live, and only a
        partition's leader is missing, `moving` seconds. `doubt` is called before things are asked about
        again, and raises if there is no use in that. An answer without an offset, as while a leader is
        elected, is none: taken for an offset it would be written as a bound.

        Raises:
            KafkaUnreachableError, KafkaAuthenticationError, KafkaTlsError: as they say.
            KafkaException: the broker answered with an error that asking again does not mend, or has not.
        """
        began = monotonic()
        answers: dict[Thing, Any] = {}
        retried = _RETRIED | _DOUBTFUL if doubt else _RETRIED
        while left := [thing for thing in things if thing not in answers]:
            futures = question(self._admin, left, min(_TRY, patience))
            self._wait(list(futures.values()), began)
            trouble = None
            for thing, future in futures.items():
                error = future.exception()
                if error is None and getattr(future.result(), "offset", 0) == OFFSET_INVALID:
                    trouble = KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
                elif error is None:
                    answers[thing] = future.result()
                elif isinstance(error, KafkaException) and error.args[0].code() in retried:
                    trouble = error
                else:
                    raise error
            if trouble is None:
                continue
            spent = monotonic() - began
            if spent >= patience and not self.alive():
                raise KafkaUnreachableError(self._servers, self._last(began, trouble)) from trouble
            if spent >= max(patience, moving):
                raise trouble
            if doubt:
                doubt()
            sleep(_LOOK)
            self.metadata()  # so the client learns who leads now: it may have asked a former leader
        return answers

    def metadata(self) -> Any:
        """Give what any broker tells of the cluster; None where none answers soon."""
        try:
            return self._admin.list_topics(timeout=_TRY / 2)
        except KafkaException:
            return None

    def alive(self) -> bool:
        """Tell whether any broker answers."""
        return self.metadata() is not None

    def refuse_in_memory(self) -> None:
        """Find out whether it is librdkafka's broker in memory, which never answers some questions.

        Raises:
            KafkaUnreachableError: it is, and `in_memory` says so from now on.
        """
        metadata = self.metadata()
        if metadata and (metadata.cluster_id or "").startswith(_IN_MEMORY):
            self.in_memory = True
            raise KafkaUnreachableError(self._servers, "a broker in memory knows no such question")

    def _wait(self, futures: Sequence["Future[Any]"], began: float) -> None:
        """Wait for answers, and listen meanwhile to what brokers say while they refuse us."""
        waiting: Sequence[Future[Any]] = futures
        while waiting:
            waiting = list(wait(waiting, _LOOK).not_done)
            self._admin.poll(0)
            if waiting:
                self._refuse(began)

    def _refuse(self, began: float) -> None:
        """Raise what no patience mends, if a broker has said so a moment ago, and none has answered since."""
        said = [one for one in tuple(self._said) if one.at >= began]
        if said and monotonic() - said[0].at > _GRACE and (error := self._verdict(said)):
            raise error

    def _verdict(self, said: Sequence[_Said]) -> SluiceError | None:
        protocol = self._options.get("security.protocol", "PLAINTEXT").upper()
        encrypted = protocol.endswith("SSL")
        closed = 0
        for one in said:
            if one.code == KafkaError._AUTHENTICATION:  # noqa: SLF001
                return KafkaAuthenticationError(self._servers, str(one))
            if one.code == KafkaError._SSL:  # noqa: SLF001
                problem = kafka_probe.certificate_problem(self._servers, self._options)
                return KafkaTlsError(self._servers, problem or str(one), "KAFKA_SSL_CA, or the certificate")
            if " alert " in one.text:  # the broker's own words, in TLS
                setting = "KAFKA_SSL_CERTIFICATE and KAFKA_SSL_KEY"
                return KafkaTlsError(self._servers, str(one), setting)
            closed += one.code is None and "Disconnected" in one.text
        if closed < _CLOSED:
            return None
        port = kafka_probe.speaks(self._servers)
        if (port is Port.TLS and not encrypted) or (port is Port.PLAIN and encrypted):
            detail = f"the broker speaks {port.value}, and the client {protocol}"
            return KafkaTlsError(self._servers, detail, "KAFKA_SECURITY_PROTOCOL")
        refused = [one for one in said if _REFUSED.search(one.text)]
        if port is not Port.UNKNOWN and not protocol.startswith("SASL") and len(refused) >= _CLOSED:
            detail = f"it demands a user and a password, and the client speaks {protocol}"
            return KafkaAuthenticationError(self._servers, detail)
        self._said.clear()  # it says nothing new: listen again
        return None

    def _last(self, began: float, trouble: KafkaException) -> str:
        """Give the last thing that was said of a connection, else the trouble itself."""
        dull = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
        told = [str(one) for one in tuple(self._said) if one.at >= began and one.code != dull]
        return told[-1] if told else str(trouble.args[0].str())

    def _note(self, error: KafkaError) -> None:
        self._said.append(_Said(monotonic(), error.code(), error.str() or ""))


class _Listener(logging.Handler):
    """Keeps what the client logs of its connections."""

    def __init__(self, said: deque[_Said]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        if "Disconnected" in (text := record.getMessage()):
            self._said.append(_Said(monotonic(), None, text))


def kafka_client(options: Mapping[str, str]) -> KafkaClient:
    """Give the connection with these options that this process holds; made where there is none.

    Raises:
        SettingsError: an option has a value that the client cannot use.
    """
    return _held(os.getpid(), tuple(sorted(options.items())))  # a forked process has no threads of it


@lru_cache(_HELD)
def _held(_process: int, options: tuple[tuple[str, str], ...]) -> KafkaClient:
    atexit.register(_held.cache_clear)  # not while the interpreter falls apart
    return KafkaClient(dict(options))


def refusal(error: KafkaError, topic: str, servers: str) -> SluiceError:
    """Turn a broker's answer about a topic that asking again does not mend into our error."""
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return TopicMissingError(topic, servers)
    if error.code() in _DENIED:
        return KafkaAccessError(topic, servers, str(error.str()))
    return KafkaReadError(topic, str(error.str()))


def _unusable(text: str) -> SettingsError:
    """Say which setting has a value that the client cannot use; its texts never quote a secret."""
    names = {"ssl.ca": "KAFKA_SSL_CA", "ssl.cert": "KAFKA_SSL_CERTIFICATE", "ssl.key": "KAFKA_SSL_KEY"}
    names |= {"sasl.": "KAFKA_SASL_MECHANISM", "SASL": "KAFKA_SASL_MECHANISM"}
    setting = next((name for part, name in names.items() if part in text), "KAFKA_OPTIONS")
    return SettingsError(setting, f"not usable by Kafka's client ({text})", "correct it")
