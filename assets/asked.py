"""What a reconciliation is asked for, what it works with, and what one look at both sides came to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assets.alone import Overlap
from assets.placing import Moment
from assets.verdicts import Against
from resources.lake import Lake
from sluice.compare.compared import Compared
from sluice.contract import Stream

Repair = Literal["no", "dry_run", "yes"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What a reconciliation is to do.

    Attributes:
        against: the source or the Kafka log; None: the source, where one is declared.
        repair: whether rows that differ are repaired, or what would be done is told.
        overlap: what happens where another one of the stream runs.
        upto: a value of the first `sequence` column, as of which lake and source are held together.
        most: the most differences that are listed.
        rows_per_second: the most rows that are asked of a database in a second; None: no bound.
        parallel: how many ranges a database computes side by side.
        resume: whether to go on where the last one was stopped; what it found equal counts as of then.
    """

    against: Against | None = None
    repair: Repair = "no"
    overlap: Overlap = "queue"
    upto: str | None = None
    most: int = 10_000
    rows_per_second: int | None = None
    parallel: int = 1
    resume: bool = False


@dataclass(frozen=True)
class Work:
    """What a reconciliation works with.

    `folder` is for what must be copied to be read; `sure` fails where another reconciliation may have begun.
    """

    lake: Lake
    stream: Stream
    asked: Asked
    folder: Path
    kafka: Any
    run_id: str
    say: Say
    sure: Callable[[], None]


@dataclass(frozen=True)
class Looked:
    """What a comparison came to: with what, as of what, of which version of the lake's table."""

    source: str
    position: str
    version: int
    compared: Compared
    moment: Moment
