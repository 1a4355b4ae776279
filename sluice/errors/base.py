"""What all errors have in common: whether trying again may help."""

from collections.abc import Sequence


class SluiceError(Exception):
    """The base of all errors of this project."""


class PermanentError(SluiceError):
    """Trying again changes nothing: someone has to change something first."""


class RetryableError(SluiceError):
    """The same call may pass later."""


def some(names: Sequence[str], by: str = ", ") -> str:
    """List names, shortened where they are many."""
    shown = by.join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004  # enough to find them
