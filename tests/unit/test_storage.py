"""Credentials of the lake's store: from settings, or from a secret in AWS Secrets Manager."""

import json

import pytest
from dagster_aws.secretsmanager import SecretsManagerResource

from resources.settings import Settings
from resources.storage import lake_resource
from sluice.errors import SettingsError


class _Manager:
    def __init__(self, secret: dict) -> None:
        self.secret = secret

    def get_secret_value(self, SecretId):  # noqa: N803  # as AWS names it
        assert SecretId == "lake/keys"
        return {"SecretString": json.dumps(self.secret)}


def _lake(monkeypatch, secret: dict):
    monkeypatch.setattr(SecretsManagerResource, "get_client", lambda _self: _Manager(secret))
    return lake_resource(Settings(lake_uri="s3://b/p", s3_secret_id="lake/keys")).lake


def test_keys_come_from_the_secret(monkeypatch):
    lake = _lake(monkeypatch, {"access_key_id": "k", "secret_access_key": "s3cr3t"})
    assert (lake.storage_options["access_key_id"], lake.storage_options["secret_access_key"]) == (
        "k",
        "s3cr3t",
    )
    assert "s3cr3t" not in repr(lake)


def test_a_secret_without_a_key_is_named(monkeypatch):
    with pytest.raises(SettingsError, match="secret_access_key"):
        _lake(monkeypatch, {"access_key_id": "k"})


def test_a_folder_needs_no_credentials(tmp_path):
    lake = lake_resource(Settings(lake_uri=str(tmp_path))).lake
    assert lake.uri == str(tmp_path)
    assert not lake.storage_options


@pytest.mark.parametrize("folder", ["100%", "a#b", "a?b", "a*", "a[1]"])
def test_a_folder_that_delta_tables_cannot_be_read_from_is_named(folder):
    with pytest.raises(ValueError, match="with which Delta tables cannot be read"):
        Settings(lake_uri=f"/lakes/{folder}")
