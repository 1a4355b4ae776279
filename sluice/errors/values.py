"""What a value is not."""

from sluice.errors.base import PermanentError


class NotJsonError(PermanentError):
    """A value is not what strict JSON allows; it becomes a failure of stage `decode`."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; the value must be one JSON object in UTF-8")


class NotExtendedJsonError(PermanentError):
    """A value is JSON, but no Extended JSON of MongoDB."""

    def __init__(self, found: str) -> None:
        super().__init__(f"found {found}; Extended JSON of MongoDB is expected")


class PositionError(PermanentError):
    """A column of `sequence` has a type without an order."""

    def __init__(self, column: str, dtype: str) -> None:
        super().__init__(
            f"column {column!r} of `sequence` has type {dtype}, which has no order; "
            "name columns of numbers, text, times or booleans"
        )


class UnreadablePlaceError(PermanentError):
    """A change tells a place in the source's log that is none; it becomes a failure of stage `key`."""

    def __init__(self, member: str, found: object) -> None:
        told = repr(found)[:80]
        super().__init__(f"found {told} in `source.{member}`; a place that orders the change is expected")


class NotAChangeError(PermanentError):
    """A value is JSON, but no Debezium change event; it becomes a failure of stage `decode`."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; a change event of Debezium is expected")
