"""The environment is read at every look-up, and understood only where it has changed."""

import pytest

from resources import settings as module
from resources.settings import Settings, settings
from sluice.errors import SettingsError


@pytest.fixture
def understood(monkeypatch) -> list[None]:
    """Note how often the environment is understood."""
    calls: list[None] = []

    def counting(**given) -> Settings:
        calls.append(None)
        return Settings(**given)

    counting.model_fields = Settings.model_fields  # type: ignore[attr-defined]  # as the class has them
    module._understood.cache_clear()  # what other tests have left
    monkeypatch.setattr(module, "Settings", counting)
    return calls


def test_what_has_not_changed_is_not_understood_again(understood, monkeypatch):
    monkeypatch.setenv("BATCH_ROWS", "7")
    assert {settings().batch_rows for _ in range(1000)} == {7}
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    settings()
    assert len(understood) == 1


def test_what_has_changed_counts_at_once(understood, monkeypatch):
    assert settings().batch_rows == 250_000
    monkeypatch.setenv("BATCH_ROWS", "7")
    assert settings().batch_rows == 7
    monkeypatch.setenv("batch_rows", "8")  # spelled as a field, it is the same variable
    monkeypatch.delenv("BATCH_ROWS")
    assert settings().batch_rows == 8
    monkeypatch.delenv("batch_rows")
    assert settings().batch_rows == 250_000
    assert len(understood) == 4


def test_a_wrong_value_is_told_each_time(monkeypatch):
    monkeypatch.setenv("BATCH_ROWS", "many")
    for _ in range(2):
        with pytest.raises(SettingsError, match="BATCH_ROWS"):
            settings()
