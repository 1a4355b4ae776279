"""All settings, read from the environment in this one place, when asked and never at import.

The README's table of settings is made from the descriptions here.
"""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

PROJECT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """What can be set from outside, by environment variables of the same names."""

    LAKE_URI: str = Field(
        default=str(PROJECT / ".lake"),
        description="Where the tables live: a folder, or `s3://bucket/prefix`.",
    )
    KAFKA_BOOTSTRAP_SERVERS: str | None = Field(
        default=None, description="Kafka's address; unset: the demo's own Kafka, if it runs."
    )
    SCHEMA_REGISTRY_URL: str | None = Field(default=None, description="The schema registry's address.")
    STREAMS_DIR: Path = Field(default=PROJECT / "streams", description="The folder of contracts.")
    BATCH_ROWS: int = Field(default=500_000, ge=1, description="Most records in one commit.")
    BATCH_BYTES: int = Field(
        default=256 * 2**20, ge=1, description="Most bytes of keys and values in one commit."
    )
    TILES_PER_RUN: int = Field(
        default=240, ge=1, description="Most tiles that the arrivals sensor asks of a run."
    )
    RUNS_PER_TICK: int = Field(default=4, ge=1, description="Most runs that a sensor asks for at once.")
    S3_ENDPOINT_URL: str | None = Field(default=None, description="An S3 server other than Amazon's.")
    S3_REGION: str = Field(default="us-east-1", description="The region of the bucket.")
    S3_ACCESS_KEY_ID: str | None = Field(default=None, description="Unset: the machine's own credentials.")
    S3_SECRET_ACCESS_KEY: SecretStr | None = Field(default=None, description="The key's secret.")
    S3_SECRET_ID: str | None = Field(
        default=None,
        description="A secret in AWS Secrets Manager that holds `access_key_id` and `secret_access_key` as JSON.",
    )

    @property
    def kafka_address(self) -> str | None:
        """Kafka's address: as set, or where the demo's own Kafka says it is."""
        if self.KAFKA_BOOTSTRAP_SERVERS:
            return self.KAFKA_BOOTSTRAP_SERVERS
        address = PROJECT / ".kafka" / "address"
        return address.read_text().strip() if address.exists() else None


def settings() -> Settings:
    """Read the settings from the environment."""
    return Settings()
