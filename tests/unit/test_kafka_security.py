"""The options of Kafka's client: what the settings become, and what is refused before a broker is asked."""

import json

import pytest
from botocore.exceptions import ClientError

from resources import kafka_security
from resources.kafka_security import security_options
from resources.settings import Settings
from sluice.errors import SettingsError

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
USER = {"kafka_sasl_username": "u", "kafka_sasl_password": "sesame"}


def settings(**given: object) -> Settings:
    return Settings(**{f"kafka_{name.removeprefix('kafka_')}": value for name, value in given.items()})


def test_nothing_set_is_no_option():
    assert security_options(Settings()) == {}


def test_what_each_setting_becomes():
    given = settings(
        **USER,
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        ssl_ca=PEM,
        ssl_certificate="/certs/me.pem",
        ssl_key="/certs/me.key",
        ssl_key_password="sesame-key",
        options={"client.rack": "b", "sasl.username": "other"},
    )
    assert security_options(given) == {
        "client.rack": "b",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "sesame",
        "ssl.ca.pem": PEM,
        "ssl.certificate.location": "/certs/me.pem",
        "ssl.key.location": "/certs/me.key",
        "ssl.key.password": "sesame-key",
    }
    assert "sesame" not in repr(given)


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        (USER, "KAFKA_SECURITY_PROTOCOL"),
        ({"sasl_mechanism": "PLAIN"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"security_protocol": "SSL", **USER}, "KAFKA_SECURITY_PROTOCOL"),
        ({"ssl_ca": PEM}, "KAFKA_SECURITY_PROTOCOL"),
        ({"security_protocol": "SASL_SSL", **USER}, "KAFKA_SASL_MECHANISM"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "KAFKA_SASL_USERNAME"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"},
            "KAFKA_SASL_PASSWORD",
        ),
        ({"security_protocol": "SSL", "ssl_certificate": PEM}, "KAFKA_SSL_KEY"),
        ({"security_protocol": "SSL", "ssl_key": "/key"}, "KAFKA_SSL_CERTIFICATE"),
    ],
)
def test_settings_that_do_not_fit_name_the_culprit(given, culprit):
    with pytest.raises(SettingsError, match=rf"^setting {culprit} is ") as caught:
        security_options(settings(**given))
    assert "sesame" not in str(caught.value)


def test_other_mechanisms_come_by_the_options():
    more = {"security.protocol": "SASL_SSL", "sasl.mechanisms": "OAUTHBEARER"}
    assert security_options(settings(options=more)) == more


class Store:
    """Secrets Manager with one answer."""

    def __init__(self, answer: object) -> None:
        self.answer, self.asked = answer, 0

    def __call__(self, **_: object) -> "Store":
        return self

    def get_client(self) -> "Store":
        return self

    def get_secret_value(self, **_: object) -> dict:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"SecretString": self.answer}


@pytest.fixture
def store(monkeypatch):
    kafka_security._from_secrets_manager.cache_clear()

    def made(answer: object) -> Store:
        store = Store(answer)
        monkeypatch.setattr("dagster_aws.secretsmanager.SecretsManagerResource", store)
        return store

    yield made
    kafka_security._from_secrets_manager.cache_clear()


NAMED = {"secret_id": "msk", "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}


def test_a_secret_gives_user_and_password_and_is_not_asked_for_each_time(store):
    manager = store(json.dumps({"username": "u", "password": "sesame"}))
    for _ in range(3):
        options = security_options(settings(**NAMED))
    assert (options["sasl.username"], options["sasl.password"]) == ("u", "sesame")
    assert manager.asked == 1
    assert security_options(settings(**NAMED, sasl_username="mine"))["sasl.username"] == "mine"


@pytest.mark.parametrize(
    "secret", ["sesame, no JSON", '{"username": "u", "pass": "sesame"}', '["sesame"]', "{}"]
)
def test_a_secret_of_another_form_is_named_and_not_quoted(store, secret):
    store(secret)
    with pytest.raises(
        SettingsError, match="KAFKA_SECRET_ID is a secret without username and password"
    ) as caught:
        security_options(settings(**NAMED))
    assert "sesame" not in str(caught.value)


def test_a_secret_that_cannot_be_read_is_named(store):
    store(ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetSecretValue"))
    with pytest.raises(
        SettingsError, match=r"KAFKA_SECRET_ID is a secret that cannot be read .*AccessDenied"
    ):
        security_options(settings(**NAMED))
