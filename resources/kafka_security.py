"""How the Kafka client proves who it is: its options, from the settings.

Decides which option carries which setting, and takes user and password from AWS Secrets Manager where a
secret is named. It refuses settings that do not fit together (a password that nothing would send, a
certificate without its key) before any broker is asked; what a broker refuses, its client tells.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from time import monotonic
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from resources.settings import Settings
from sluice.errors import SettingsError

_FRESH = 300  # seconds after which a secret is read again: it may have been rotated
_PEM = "-----BEGIN"
_FILES = {"kafka_ssl_ca": "ssl.ca", "kafka_ssl_certificate": "ssl.certificate", "kafka_ssl_key": "ssl.key"}


def security_options(given: Settings) -> dict[str, str]:
    """Give librdkafka's options for protocol, credentials and certificates; `KAFKA_OPTIONS` is under them.

    Raises:
        SettingsError: settings that need each other do not fit together, or the secret cannot be had.
    """
    options = {name: value.get_secret_value() for name, value in given.kafka_options.items()}
    if given.kafka_security_protocol:
        options["security.protocol"] = given.kafka_security_protocol
    if given.kafka_sasl_mechanism:
        options["sasl.mechanism"] = given.kafka_sasl_mechanism
    if given.kafka_secret_id:
        options |= _from_secrets_manager(given.kafka_secret_id, given.aws_region, int(monotonic() / _FRESH))
    if given.kafka_sasl_username:
        options["sasl.username"] = given.kafka_sasl_username
    if given.kafka_sasl_password:
        options["sasl.password"] = given.kafka_sasl_password.get_secret_value()
    for field, name in _FILES.items():
        if value := getattr(given, field):
            told = value if isinstance(value, str) else value.get_secret_value()
            options[f"{name}.pem" if _PEM in told else f"{name}.location"] = told
    if given.kafka_ssl_key_password:
        options["ssl.key.password"] = given.kafka_ssl_key_password.get_secret_value()
    _refuse_unfit(options)
    return options


def _refuse_unfit(options: dict[str, str]) -> None:
    protocol = options.get("security.protocol", "PLAINTEXT").upper()
    has = {name.removesuffix(".pem").removesuffix(".location") for name, value in options.items() if value}
    mechanism = options.get("sasl.mechanism", options.get("sasl.mechanisms", "")).upper()
    sasl, tls = protocol.startswith("SASL_"), protocol.endswith("SSL")
    if not sasl and has & {"sasl.username", "sasl.password", "sasl.mechanism"}:
        raise SettingsError(
            "KAFKA_SECURITY_PROTOCOL",
            f"{protocol}, which sends no user or password",
            "set it to SASL_SSL (or SASL_PLAINTEXT), or unset KAFKA_SASL_* and KAFKA_SECRET_ID",
        )
    if not tls and has & {"ssl.ca", "ssl.certificate", "ssl.key"}:
        raise SettingsError(
            "KAFKA_SECURITY_PROTOCOL",
            f"{protocol}, which encrypts nothing",
            "set it to SSL or SASL_SSL, or unset KAFKA_SSL_*",
        )
    if sasl and not mechanism:
        raise SettingsError(
            "KAFKA_SASL_MECHANISM", "not set", "set it to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
        )
    if sasl and mechanism.startswith(("PLAIN", "SCRAM")):
        for name in ("username", "password"):
            if f"sasl.{name}" not in has:
                fix = "set it, or name a secret that has it (KAFKA_SECRET_ID)"
                raise SettingsError(f"KAFKA_SASL_{name.upper()}", "not set", fix)
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if f"ssl.{one}" in has and f"ssl.{other}" not in has:
            fix = f"set it: KAFKA_SSL_{one.upper()} means nothing without it"
            raise SettingsError(f"KAFKA_SSL_{other.upper()}", "not set", fix)


@lru_cache(1)
def _from_secrets_manager(secret_id: str, region: str | None, _now: int) -> Mapping[str, str]:
    """Read user and password, as Amazon MSK keeps them: JSON with `username` and `password`."""
    try:
        from dagster_aws.secretsmanager import SecretsManagerResource  # noqa: PLC0415  # takes a second

        client = SecretsManagerResource(region_name=region).get_client()
        secret: Any = json.loads(client.get_secret_value(SecretId=secret_id)["SecretString"])
    except (BotoCoreError, ClientError) as error:
        fix = "name one that exists and that this machine's role may read"
        raise SettingsError("KAFKA_SECRET_ID", f"a secret that cannot be read ({error})", fix) from None
    except (ValueError, KeyError):  # a message of the JSON decoder may quote it
        secret = None
    if not isinstance(secret, dict) or not {"username", "password"} <= set(secret):
        fix = "put both into it as JSON"
        raise SettingsError("KAFKA_SECRET_ID", "a secret without username and password", fix)
    return {f"sasl.{name}": str(secret[name]) for name in ("username", "password")}
