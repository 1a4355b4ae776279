"""A real Kafka that demands what each of its listeners is named for; certificates and users of its own.

`PLAINTEXT` is for the tests themselves. Its secrets contain `sesame`, so that leaks can be searched for.
"""

from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from demo.broker import EmbeddedKafka
from tests.certificates import Authority, Certificate

USER, PASSWORD, KEY_PASSWORD = "alice", "sesame-of-alice", "sesame-of-the-key"
HOST = "127.0.0.1"
LISTENERS = {
    "SASL": "SASL_PLAINTEXT",
    "BOTH": "SASL_SSL",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "ELSEWHERE": "SSL",
}
_LOGIN = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Credentials:
    """What a client may hold: authorities, certificates."""

    ca: Path
    other_ca: Path
    alice: Certificate
    locked: Certificate
    stranger: Certificate


def secure_kafka(folder: Path) -> tuple[EmbeddedKafka, Credentials]:
    """Make the broker (not started) and what its clients need."""
    ours, others = Authority(folder / "ours"), Authority(folder / "others")
    good = ours.issue("broker", HOST)
    shown = {"both": good, "tls": good, "mutual": good}
    shown |= {"expired": ours.issue("old", HOST, days=-1), "elsewhere": ours.issue("else", "10.9.8.7")}
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
        "listener.name.mutual.ssl.client.auth": "required",
    }
    for listener, certificate in shown.items():
        at = f"listener.name.{listener}.ssl"
        properties |= {f"{at}.keystore.type": "PEM", f"{at}.keystore.location": str(certificate.together())}
        properties |= {f"{at}.truststore.type": "PEM", f"{at}.truststore.location": str(ours.certificate)}
    for listener in ("sasl", "both"):
        at = f"listener.name.{listener}"
        properties[f"{at}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
        properties[f"{at}.plain.sasl.jaas.config"] = (
            f'{_LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        )
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            properties[f"{at}.{mechanism}.sasl.jaas.config"] = f"{_LOGIN}.scram.ScramLoginModule required;"
    held = Credentials(
        ours.certificate,
        others.certificate,
        ours.issue(USER),
        ours.issue("locked", password=KEY_PASSWORD),
        others.issue("stranger"),
    )
    return EmbeddedKafka(folder / "kafka", listeners=LISTENERS, properties=properties), held


def add_user(servers: str) -> None:
    """Let the user prove itself by both kinds of SCRAM."""
    admin = AdminClient({"bootstrap.servers": servers})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        wanted = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
        for future in admin.alter_user_scram_credentials([wanted]).values():
            future.result(30)


def allow(servers: str, topic: str, user: str, operation: AclOperation) -> None:
    """Let a user do something with a topic, and all others nothing that is not allowed so."""
    binding = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_acls([binding]).values():
        future.result(30)
