"""What a run does that was overtaken: another one did the same work, so it looks again, but not for ever.

Decides how long it pauses before that, randomly and ever longer, so that of two that meet one comes away; and
when it is enough: where a run was overtaken so many times without a commit of its own, nothing tells that its
work was done, so it fails by name rather than end well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import uniform
from time import sleep

from resources.lake import ATTEMPTS
from sluice.errors import RaceLostError, StaleWriterError

_FIRST = 0.05  # seconds, at most, of the first pause; each is twice as long
_LONGEST = 3.0


@dataclass
class Races:
    """The races that one run lost in a row for one table."""

    table: str
    say: Callable[[str], None]
    lost: int = 0
    done: int = 0

    def lose(self, error: StaleWriterError, done: int) -> None:
        """Pause after a race was lost; `done` counts what the run has committed so far.

        Raises:
            RaceLostError: the bound is reached.
        """
        self.lost = 1 if done > self.done else self.lost + 1
        self.done = done
        if self.lost == ATTEMPTS:
            raise RaceLostError(self.table, ATTEMPTS, str(error)) from error
        self.say(f"{self.table}: another run was faster; reading its progress")
        sleep(pause(self.lost))


def pause(lost: int) -> float:
    """Draw how many seconds to wait after so many races lost in a row."""
    return uniform(0, min(_LONGEST, _FIRST * 2 ** (lost - 1)))  # noqa: S311  # nothing secret
