"""The lake as a Dagster resource: its address, and the credentials of the store that holds it.

Storage options are dagster-deltalake's; S3 credentials come from dagster-aws: from a secret in AWS Secrets
Manager if one is named, else as set, else the machine's own. Secrets never appear in a message or a repr.
"""

import json
from functools import cached_property
from typing import Any

import dagster as dg
from dagster_aws.secretsmanager import SecretsManagerResource
from dagster_deltalake.config import AzureConfig, GcsConfig, LocalConfig, S3Config
from pydantic import Field, SecretStr

from resources.lake import Lake
from resources.settings import Settings, settings
from sluice.errors import SettingsError

# A request that gets no answer ends soon: it is the lake that waits, as long as the settings say.
_CLIENT = {"connect_timeout": "5s", "retry_timeout": "20s"}


class LakeResource(dg.ConfigurableResource[Lake]):
    """Gives assets the lake.

    `uri` is a folder or `s3://bucket/prefix`; `storage` how it is reached; `secret_id` names a secret that
    holds `access_key_id` and `secret_access_key` as JSON.
    """

    uri: str
    storage: LocalConfig | S3Config | AzureConfig | GcsConfig = Field(
        default_factory=LocalConfig, discriminator="provider"
    )
    secret_id: str | None = None
    patience_seconds: float = 120

    @cached_property
    def lake(self) -> Lake:
        """The lake itself, which knows nothing of Dagster."""
        options = {k: v for k, v in self.storage.str_dict().items() if k != "provider"}
        if options:
            options = _CLIENT | options
        if options.get("endpoint", "").startswith("http://"):
            options["allow_http"] = "true"
        if self.secret_id:
            options |= _from_secrets_manager(self.secret_id, options.get("region", ""))
        return Lake(self.uri, options, self.patience_seconds)


def _from_secrets_manager(secret_id: str, region: str) -> dict[str, str]:
    client = SecretsManagerResource(region_name=region or None).get_client()
    secret: dict[str, Any] = json.loads(client.get_secret_value(SecretId=secret_id)["SecretString"])
    try:
        return {name: str(secret[name]) for name in ("access_key_id", "secret_access_key")}
    except KeyError as error:
        raise SettingsError(
            "S3_SECRET_ID", f"a secret without {error}", "put both keys into it as JSON"
        ) from None


def lake_resource(given: Settings | None = None) -> LakeResource:
    """Make the lake's resource from the settings."""
    read = given or settings()
    if not read.lake_uri.startswith(("s3://", "s3a://")):
        return LakeResource(uri=read.lake_uri, patience_seconds=read.store_patience_seconds)
    storage = S3Config(
        access_key_id=read.aws_access_key_id,
        secret_access_key=_revealed(read.aws_secret_access_key),
        token=_revealed(read.aws_session_token),
        region=read.aws_region or "us-east-1",
        endpoint=read.s3_endpoint_url,
    )
    return LakeResource(
        uri=read.lake_uri,
        storage=storage,
        secret_id=read.s3_secret_id,
        patience_seconds=read.store_patience_seconds,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
