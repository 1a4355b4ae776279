"""Every error names its culprit and a fix, and is either permanent or worth another try."""

import inspect
from collections.abc import Sequence
from typing import get_origin

import pytest

from sluice import errors
from sluice.errors import PermanentError, Problem, RetryableError, SluiceError

CLASSES = [
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, SluiceError) and one not in (SluiceError, PermanentError, RetryableError)
]


def argument(name: str, parameter: inspect.Parameter) -> object:
    """Make an argument of the type that the signature asks for, which can be found in the message."""
    if name == "problems":
        return [Problem("streams/x.py", "the-stream", "key", "nothing", "a column")]
    if parameter.annotation in (int, float):
        return 4711
    if get_origin(parameter.annotation) is Sequence:
        return [f"the-{name}", f"other-{name}"]
    return f"the-{name}"


@pytest.mark.parametrize("error", CLASSES, ids=lambda one: one.__name__)
def test_an_error_names_culprit_and_fix(error):
    """(kafka-medallion 4)."""
    parameters = inspect.signature(error.__init__).parameters
    given = {name: argument(name, p) for name, p in parameters.items() if name != "self"}
    message = str(error(**given))
    assert inspect.getdoc(error)
    named = [value for value in given.values() if isinstance(value, str)]
    assert [text for text in named if text not in message] == []
    assert ";" in message or ":" in message  # what was found, and what to do about it
    assert "{" not in message


def test_every_error_is_permanent_or_retryable_and_never_both():
    assert len(CLASSES) > 20
    for error in CLASSES:
        assert issubclass(error, PermanentError) != issubclass(error, RetryableError), error


def test_long_lists_of_tiles_are_shortened():
    tiles = [f"2026-01-01-{hour:02}:00" for hour in range(12)]
    message = str(errors.BronzeMissingError("orders", tiles))
    assert tiles[4] in message
    assert tiles[5] not in message
    assert "7 more" in message
