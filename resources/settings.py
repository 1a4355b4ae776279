"""The settings: what the environment may say, with defaults that run on one laptop.

The only module that reads the environment, and only when `settings()` is called. It refuses values that
cannot be used, naming the variable. Variables have the fields' names in capitals (`LAKE_URI`); empty ones
count as unset.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice.errors import SettingsError

PROJECT = Path(__file__).resolve().parents[1]
KAFKA_HOME = PROJECT / ".kafka"  # of the demo's own Kafka
KAFKA_ADDRESS = KAFKA_HOME / "address"  # exists while it runs


class Settings(BaseSettings):
    """What the environment says; each field's description is its row in the README."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    lake_uri: str = Field(
        default=str(PROJECT / ".lake"),
        description="Where the lake's tables are: a folder (relative to the project), or `s3://bucket/path`.",
    )
    kafka_bootstrap_servers: str | None = Field(
        default=None,
        description="Kafka's address, `host:port` and more after commas. Unset: the demo's own Kafka.",
    )
    kafka_options: dict[str, SecretStr] = Field(
        default={},
        description=(
            "More options of the Kafka client as a JSON object, such as "
            '`{"client.rack": "b", "sasl.oauthbearer.config": "…"}`; never shown.'
        ),
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = Field(
        default=None,
        description="How to talk to brokers: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT`, `SASL_SSL`. Unset: plain.",
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How the password is proven: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`."
    )
    kafka_sasl_username: str | None = Field(default=None, description="The user that Kafka knows us by.")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="Its password; never shown.")
    kafka_secret_id: str | None = Field(
        default=None,
        description=(
            "A secret of AWS Secrets Manager with `username` and `password` as JSON, instead of the above."
        ),
    )
    kafka_ssl_ca: str | None = Field(
        default=None,
        description="Who signs the brokers' certificates: a PEM file, or PEM text. Unset: the machine's own.",
    )
    kafka_ssl_certificate: str | None = Field(
        default=None, description="Our own certificate for mutual TLS: a PEM file, or PEM text."
    )
    kafka_ssl_key: SecretStr | None = Field(
        default=None, description="Its private key: a PEM file, or PEM text; never shown."
    )
    kafka_ssl_key_password: SecretStr | None = Field(
        default=None, description="The key's password, where it has one; never shown."
    )
    schema_registry_url: str | None = Field(
        default=None, description="A schema registry with Confluent's API. Unset: formats that need one fail."
    )
    streams_dir: Path = Field(
        default=PROJECT / "streams",
        description="The folder of the contracts (relative to the project).",
    )
    s3_endpoint_url: str | None = Field(
        default=None,
        description="The address of an S3 store that is not AWS, such as `http://127.0.0.1:8333`.",
    )
    aws_region: str | None = Field(default=None, description="The region of the lake's bucket.")
    aws_access_key_id: str | None = Field(
        default=None, description="Access key for the lake's bucket. Unset: the machine's own role."
    )
    aws_secret_access_key: SecretStr | None = Field(default=None, description="Its secret; never shown.")
    aws_session_token: SecretStr | None = Field(
        default=None, description="Its session token, where keys are temporary; never shown."
    )
    s3_secret_id: str | None = Field(
        default=None,
        description="A secret of AWS Secrets Manager with the bucket's keys as JSON, instead of the above.",
    )
    batch_rows: PositiveInt = Field(default=250_000, description="The most records that one batch reads.")
    batch_bytes: PositiveInt = Field(
        default=100_663_296, description="The most bytes (keys, values, headers) that one batch reads."
    )
    key_index_dir: Path = Field(
        default=PROJECT / ".cache" / "keys",
        description="Where hashes of silver's keys are kept, so that look-ups stay quick; may be deleted.",
    )
    key_index_bytes: PositiveInt = Field(
        default=4 << 30, description="The most bytes that these hashes may take; the oldest go first."
    )
    store_patience_seconds: PositiveInt = Field(
        default=120, description="How long a run waits for a store that is away or overloaded, then fails."
    )
    history_retention_hours: PositiveInt = Field(
        default=168, description="How long versions of tables, and the files that only they read, are kept."
    )
    history_commits: PositiveInt = Field(
        default=1_000,
        description="How many commits a busy table keeps; of older ones, one an hour.",
    )
    run_tiles_per_tick: PositiveInt = Field(
        default=24, description="The most tiles that the arrivals sensor asks for at once."
    )

    source_connections: dict[str, SecretStr] = Field(
        default={},
        description=(
            "Addresses of the databases that lakes are reconciled with, by name, as a JSON object such as "
            '`{"shop": "postgresql://…"}`; never shown.'
        ),
    )
    reconcile_overlap: Literal["queue", "skip", "fail"] = Field(
        default="queue",
        description="What a reconciliation does while another of its stream runs: `queue`, `skip`, `fail`.",
    )
    reconcile_rows_per_second: PositiveInt | None = Field(
        default=None, description="The most rows that are asked of a source in a second. Unset: no bound."
    )
    reconcile_parallel: PositiveInt = Field(
        default=1, description="How many ranges of keys a source computes side by side."
    )

    continuous_streams: str | None = Field(
        default=None,
        description="The streams that run continuously, names after commas: the sensor `keepalive` asks.",
    )
    continuous_workers: PositiveInt = Field(
        default=1, description="How many continuous runs share their partitions."
    )
    upkeep_seconds: PositiveFloat = Field(
        default=10,
        description="How often a continuous run folds accounts, closes tiles, brings dimensions up to date.",
    )

    @field_validator("lake_uri")
    @classmethod
    def _absolute(cls, value: str) -> str:
        uri = value if "://" in value else str(PROJECT / Path(value).expanduser())
        if set(uri) & set("%#?*["):  # written by one library, they cannot be read by the other
            raise ValueError(f"{uri!r} has a %, #, ?, * or [, with which Delta tables cannot be read")
        return uri

    @field_validator("streams_dir", "key_index_dir")
    @classmethod
    def _in_project(cls, value: Path) -> Path:
        return PROJECT / value.expanduser()

    @property
    def kafka_servers(self) -> str | None:
        """Give Kafka's address: as set, else that of the demo's own Kafka; None where it does not run."""
        if self.kafka_bootstrap_servers:
            return self.kafka_bootstrap_servers
        return KAFKA_ADDRESS.read_text().strip() if KAFKA_ADDRESS.is_file() else None


def settings() -> Settings:
    """Read the environment now; it is understood anew only where it has changed: every look-up asks.

    Raises:
        SettingsError: a variable has a value that cannot be used.
    """
    return _understood(frozenset((n, v) for n, v in os.environ.items() if n.lower() in Settings.model_fields))


@lru_cache(1)
def _understood(_variables: frozenset[tuple[str, str]]) -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        raise SettingsError(name, "not usable", f"{first['msg']}: correct or unset it") from error
