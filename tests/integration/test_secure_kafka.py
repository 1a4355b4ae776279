"""Brokers that demand users, certificates and rights: right ones pass, wrong ones fail soon and clearly."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation

from resources.kafka import KafkaResource
from resources.settings import settings
from sluice.errors import (
    KafkaAccessError,
    KafkaAuthenticationError,
    KafkaTlsError,
    KafkaUnreachableError,
    PermanentError,
    SettingsError,
)
from tests.running import Project, Record, fill
from tests.secure_kafka import KEY_PASSWORD, PASSWORD, USER, Credentials, add_user, allow, secure_kafka

pytestmark = pytest.mark.integration
SOON = (
    30  # seconds that a refusal may take at most on a busy machine; the client's own patience is twice that
)
PATIENCE = 60
SASL = {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_USERNAME": USER, "SASL_PASSWORD": PASSWORD}
HOUR = "2026-01-05-00:00"
CONTRACT = '''"""Secret things."""
import pandera.polars as pa
import polars as pl
from sluice import Events, Hourly, Json


class Thing(pa.DataFrameModel):
    thing: int
    at: pl.Datetime("us", "UTC")


things = Events(topic="things", value=Json(), schema=Thing, key="thing", event_time="at",
                partitions=Hourly(start="2026-01-05"))
'''
VALUE = b'{"thing": 1, "at": "2026-01-05T00:00:00Z"}'
Connect = Callable[..., KafkaResource]


class Secure:
    """The broker, and what its clients hold."""

    def __init__(self, folder: Path) -> None:
        self.kafka, self.held = secure_kafka(folder)


@pytest.fixture(scope="module")
def secure(kafka_jars: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """Start the broker once."""
    made = Secure(tmp_path_factory.mktemp("secure"))
    with made.kafka as kafka:
        add_user(kafka.servers)
        stamp = 1_767_571_200_000  # 2026-01-05
        for topic in ("things", "denied", "described", "readable"):
            fill(kafka.servers, topic, [Record(VALUE, stamp)])
        allow(kafka.servers, "denied", "bob", AclOperation.READ)
        allow(kafka.servers, "described", USER, AclOperation.DESCRIBE)
        allow(kafka.servers, "readable", USER, AclOperation.READ)
        yield made


@pytest.fixture
def connect(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Give what sets the environment for a listener, as people do, and makes the resource."""

    def made(listener: str, **given: object) -> KafkaResource:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", secure.kafka.address(listener))
        for name, value in given.items():
            monkeypatch.setenv(f"KAFKA_{name}", str(value))
        return KafkaResource(timeout_seconds=PATIENCE)

    return made


def read(resource: KafkaResource, topic: str = "things") -> list[bytes]:
    found = resource.topic(topic)
    marks = resource.watermarks(topic, found.partitions)
    ranges = {p: (0, mark.stable) for p, mark in marks.items()}
    assert resource.log(topic, 0).offsets_for_times([0]) == [0]
    batches = list(resource.read(topic, ranges, max_rows=10, max_bytes=1 << 20))
    return [value for batch in batches for value in batch.records["value"]]


def refuses(resource: KafkaResource, kind: type[PermanentError], *words: str, topic: str = "things") -> str:
    """Expect one kind of permanent error with some words, soon, that tells no secret."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        read(resource, topic)
    assert time.monotonic() - began < SOON
    told = str(caught.value)
    assert all(word in told for word in words), told
    assert "sesame" not in f"{told} {resource!r} {settings()!r}"
    return told


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords(connect: Connect, secure: Secure, mechanism: str) -> None:
    assert read(connect("SASL", **SASL, SASL_MECHANISM=mechanism)) == [VALUE]
    wrong = connect("SASL", SASL_PASSWORD="sesame-that-is-wrong")
    refuses(wrong, KafkaAuthenticationError, "Authentication failed", "KAFKA_SASL_PASSWORD")
    stranger = connect("SASL", SASL_USERNAME="nobody", SASL_PASSWORD=PASSWORD)
    refuses(stranger, KafkaAuthenticationError, "Authentication failed")
    secured = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": USER, "SSL_CA": secure.held.ca}
    assert read(connect("BOTH", **secured)) == [VALUE]


def test_certificates(connect: Connect, secure: Secure) -> None:
    """Files and PEM text, keys with a password and without."""
    held = secure.held
    assert read(connect("TLS", SECURITY_PROTOCOL="SSL", SSL_CA=held.ca)) == [VALUE]
    assert read(connect("TLS", SSL_CA=held.ca.read_text())) == [VALUE]
    mine = {"SSL_CERTIFICATE": held.alice.certificate, "SSL_KEY": held.alice.key}
    assert read(connect("MUTUAL", **mine)) == [VALUE]
    texts = {"SSL_CERTIFICATE": held.locked.certificate.read_text(), "SSL_KEY": held.locked.key.read_text()}
    assert read(connect("MUTUAL", **texts, SSL_KEY_PASSWORD=KEY_PASSWORD)) == [VALUE]
    told = refuses(connect("MUTUAL", SSL_KEY_PASSWORD="sesame?"), SettingsError, "KAFKA_SSL_KEY")
    assert held.locked.key.read_text().splitlines()[2] not in told


@pytest.mark.parametrize(
    ("listener", "authority", "words"),
    [
        ("TLS", "other_ca", "unable to get local issuer certificate"),
        ("TLS", None, "self-signed certificate in certificate chain"),
        ("EXPIRED", "ca", "certificate has expired"),
        ("ELSEWHERE", "ca", "IP address mismatch"),
    ],
)
def test_the_brokers_certificate_is_wrong(
    connect: Connect, secure: Secure, listener: str, authority: str | None, words: str
) -> None:
    trusted = {"SSL_CA": getattr(secure.held, authority)} if authority else {}
    told = refuses(connect(listener, SECURITY_PROTOCOL="SSL", **trusted), KafkaTlsError, "KAFKA_SSL_CA")
    assert words in told or not authority, told


def test_our_certificate_is_wrong(connect: Connect, secure: Secure) -> None:
    held: Credentials = secure.held
    none = connect("MUTUAL", SECURITY_PROTOCOL="SSL", SSL_CA=held.ca)
    refuses(none, KafkaTlsError, "certificate required", "KAFKA_SSL_CERTIFICATE")
    stranger = connect("MUTUAL", SSL_CERTIFICATE=held.stranger.certificate, SSL_KEY=held.stranger.key)
    refuses(stranger, KafkaTlsError, "alert", "KAFKA_SSL_CERTIFICATE")
    mixed = connect("MUTUAL", SSL_CERTIFICATE=held.alice.certificate)
    refuses(mixed, SettingsError, "KAFKA_SSL_KEY", "mismatch")
    gone = connect("MUTUAL", SSL_KEY="/no/such/key", SSL_CERTIFICATE=held.alice.certificate)
    refuses(gone, SettingsError, "KAFKA_SSL_KEY")


@pytest.mark.parametrize(
    ("listener", "protocol", "kind", "words"),
    [
        ("TLS", None, KafkaTlsError, "the broker speaks TLS"),
        ("MUTUAL", None, KafkaTlsError, "the broker speaks TLS"),
        ("BOTH", "SASL_PLAINTEXT", KafkaTlsError, "the broker speaks TLS"),
        ("PLAINTEXT", "SSL", KafkaTlsError, "the broker speaks Kafka without TLS"),
        ("SASL", "SASL_SSL", KafkaTlsError, "the broker speaks Kafka without TLS"),
        ("SASL", None, KafkaAuthenticationError, "demands a user and a password"),
        ("BOTH", "SSL", KafkaAuthenticationError, "demands a user and a password"),
        ("PLAINTEXT", "SASL_PLAINTEXT", KafkaAuthenticationError, "mechanism"),
    ],
)
def test_the_port_speaks_another_protocol(
    connect: Connect,
    secure: Secure,
    listener: str,
    protocol: str | None,
    kind: type[PermanentError],
    words: str,
) -> None:
    given: dict[str, object] = {"SECURITY_PROTOCOL": protocol} if protocol else {}
    if protocol and protocol.startswith("SASL"):
        given |= SASL | given | {"SASL_MECHANISM": "PLAIN"}
    if protocol and protocol.endswith("SSL"):
        given["SSL_CA"] = secure.held.ca
    refuses(connect(listener, **given), kind, words, "KAFKA_SECURITY_PROTOCOL")


def test_rights(connect: Connect) -> None:
    alice = connect("SASL", **SASL, SASL_MECHANISM="PLAIN")
    assert read(alice, "readable") == [VALUE], "without the right to see the topic's configuration"
    refuses(alice, KafkaAccessError, "'denied'", "READ", topic="denied")
    refuses(alice, KafkaAccessError, "'described'", "READ", topic="described")


def test_a_dead_port_is_no_verdict(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    connect("SASL", **SASL, SASL_MECHANISM="PLAIN")
    with pytest.raises(KafkaUnreachableError, match="Connection refused"):
        KafkaResource(bootstrap_servers="127.0.0.1:1", timeout_seconds=1).topic("things")


def test_no_secret_in_what_a_run_leaves(
    connect: Connect, secure: Secure, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command line with a wrong password, then a run with the right one: all they said and stored."""
    project = Project(tmp_path, secure.kafka.address("SASL")).write("things", CONTRACT)
    connect("SASL", **SASL | {"SASL_PASSWORD": "sesame-that-is-wrong"}, SASL_MECHANISM="SCRAM-SHA-512")
    failed = project.dagster('key:"bronze/things"', "--partition", HOUR)
    assert failed.returncode != 0
    assert "KAFKA_SASL_PASSWORD" in failed.stdout
    connect("SASL", **SASL)
    project.both("things", HOUR).good()
    assert project.table("silver/things").height == 1
    said = capfd.readouterr()
    assert "sesame" not in failed.stdout + said.out + said.err
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".db" for file in files)
    assert [file for file in files if b"sesame" in file.read_bytes()] == []
