"""What a failure of the store means, and how long it is waited for.

Decides, by the types and messages of delta-rs, its object store and polars, whether a race was lost, the
store is away for a while (unreachable, overloaded), refuses us, is full, or failed otherwise. Only a store
that is away is waited for, with growing pauses, up to a bound. It never repeats less than a whole action:
what is repeated must read anew, since the answer that was lost may have been "done".
"""

import re
import time
from collections.abc import Callable, Collection, Mapping
from random import uniform
from typing import Any, TypeVar

from deltalake.exceptions import CommitFailedError, DeltaError
from polars.exceptions import ComputeError

from sluice.errors import LakeError, LakeFullError, LakeRefusedError, LakeUnreachableError

T = TypeVar("T")
PATIENCE = 120.0  # seconds, where nobody says otherwise
_LONGEST_PAUSE = 3.0  # seconds


class LostRace(Exception):  # noqa: N818  # a signal between commit and retry, never shown
    """Another commit came between reading and writing: read again.

    Attributes:
        fences: what the commit that lost had looked at; none: all.
    """

    fences: Collection[str] = ()


_RACE = re.compile("Invalid table version|found gap")  # lost to a clean-up; listed while another committed
_FULL = re.compile(r"(os error|Errno) (27|28|122)\b|Insufficient Storage|XMinioStorageFull")
_REFUSED = re.compile(
    r"\b(401|403) [A-Z]|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|NoSuchBucket|InvalidToken"
    r"|ExpiredToken|necessary privileges|valid authentication credentials|(os error|Errno) (1|13|30)\b"
)
_AWAY = re.compile(
    r"\b(408|429|500|502|503|504) [A-Z]|SlowDown|Please reduce your request rate|ServiceUnavailable"
    r"|InternalError|RequestTimeout|error sending request|error decoding response body|connect error"
    r"|connection (refused|reset|closed|error)|broken pipe|timed out|timeout|unexpected EOF"
    r"|incomplete message|dns error|failed to lookup"
    r"|(os error|Errno) (5|101|103|104|107|110|111|112|113|116)\b",
    re.IGNORECASE,
)


def reading(options: Mapping[str, str], patience: float = PATIENCE) -> dict[str, Any] | None:
    """Give polars the options of a store, with patience for one that is away; None for a folder."""
    if not options:
        return None
    waiting = {"max_retries": 10_000, "retry_init_backoff_ms": 100, "retry_max_backoff_ms": 3_000}
    return {**options, **waiting, "retry_timeout_ms": int(patience * 1000)}


def told(name: str, uri: str, error: Exception) -> Exception:
    """Turn what the store's clients raised into what our callers tell apart; give all else as it is."""
    text = str(error)
    if isinstance(error, CommitFailedError) or (isinstance(error, DeltaError) and _RACE.search(text)):
        return LostRace(text)
    if not isinstance(error, DeltaError | OSError | ComputeError):
        return error
    for pattern, failure in (
        (_FULL, LakeFullError),
        (_REFUSED, LakeRefusedError),
        (_AWAY, LakeUnreachableError),
    ):
        if pattern.search(text):
            return failure(name, uri, text)
    return error if isinstance(error, ComputeError) else LakeError(name, uri, text)


def patiently(name: str, uri: str, patience: float, action: Callable[[], T]) -> T:
    """Do something that may be done again, until the store answers; for `patience` seconds at most.

    Raises:
        LakeUnreachableError: the store did not come back in time.
        LostRace, LakeRefusedError, LakeFullError, LakeError: as they say.
    """
    deadline, pause = time.monotonic() + patience, 0.1
    while True:
        try:
            return action()
        except Exception as error:
            failure = told(name, uri, error)
            if not isinstance(failure, LakeUnreachableError) or time.monotonic() > deadline:
                if failure is error:
                    raise
                raise failure from error
        time.sleep(uniform(0.5, 1) * pause)  # noqa: S311  # only spreads those that wait
        pause = min(2 * pause, _LONGEST_PAUSE)
