"""The seam at which a process dies: the library of `seam.c`, built, armed, and its log read.

Decides what an event is called and when it ends the process. Every event leaves the lake as the one before
it did, so dying before each of them is dying after each of them; writes are also cut in half. It refuses
nothing: where no compiler is, there is no library, and the tests say so.
"""

import ctypes
import hashlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from sluice.native.build import compiler

SOURCE = Path(__file__).with_name("seam.c")
_FLAGS = ("-std=gnu11", "-O2", "-g0", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror")
Moment = Literal["before", "after", "torn", "full"]
_IDLE = {"create", "write", "folder", "finish"}  # nothing to lose is between them and what came before
_MARKS = {"begin", "finish", "the"}  # change no file


@dataclass(frozen=True)
class Event:
    """Something that a process did: `<what> <table> <kind>`, or a mark; the n-th of its label."""

    label: str
    ordinal: int

    @property
    def is_write(self) -> bool:
        """Whether it can be cut in half."""
        return self.label.startswith("write ")


@dataclass(frozen=True)
class Death:
    """Where a process ends, or (with SIGSTOP) is stopped; or (`full`) from where on its disk is full."""

    event: Event
    moment: Moment = "before"
    signal: int = signal.SIGKILL

    def __str__(self) -> str:
        """Say it for people."""
        return f"{self.moment} {self.event.label} #{self.event.ordinal}"


def built() -> Path | None:
    """Build the library, once a version of its source; None where there is no compiler."""
    command = compiler()
    if command is None:
        return None
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    target = Path(tempfile.gettempdir()) / f"sluice-seam-{os.getuid()}-{digest}.so"
    if not target.exists():
        unfinished = target.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, *_FLAGS, "-o", str(unfinished), str(SOURCE), "-ldl"], check=True)
        unfinished.replace(target)
    return target


@cache
def _loaded() -> ctypes.CDLL | None:
    """Give the library where this process was started with it."""
    here = os.environ.get("LD_PRELOAD")
    return ctypes.CDLL(here) if here else None


def mark(label: str) -> None:
    """Count an event that is no file's."""
    found = _loaded()
    if found:
        found.seam_mark(label.encode())


def arm(root: str, log: Path, death: Death | None) -> None:
    """Count the events below a folder from now on, and die where told; so do programs that are started."""
    event = death.event if death else Event("", 0)
    moment, number = (death.moment[0], death.signal) if death else ("-", 0)
    told = {"ROOT": root, "LOG": log, "LABEL": event.label, "ORDINAL": event.ordinal, "MOMENT": moment}
    os.environ.update({f"SEAM_{name}": str(value) for name, value in (told | {"SIGNAL": number}).items()})
    found = _loaded()
    assert found, "the process was not started with the seam"
    when = ctypes.c_char(moment.encode())
    found.seam_arm(root.encode(), str(log).encode(), event.label.encode(), event.ordinal, when, number)


def read(log: Path) -> list[Event]:
    """Give the events of a log, in order."""
    lines = (line.split(" ", 1) for line in log.read_text().splitlines()) if log.exists() else ()
    return [Event(label, int(ordinal)) for ordinal, label in lines]


def deaths(events: Sequence[Event]) -> list[Death]:
    """Give every way to die in a run that did these events that leaves another lake than the one before it.

    Before an event the lake is as it was after the one before: so it dies before each, but not before a file
    is made or written (nothing has happened yet), not where only marks were passed since the last (nothing
    was done), and with half of each write done.
    """
    found, changed = list[Death](), True
    for event in events:
        what = event.label.split(" ")[0]
        if changed and what not in _IDLE:
            found.append(Death(event))
            changed = False
        changed = changed or what not in _MARKS
    return found + [Death(event, "torn") for event in events if event.is_write]


def fillings(events: Sequence[Event]) -> list[Death]:
    """Give every moment of a run at which the disk may be full: what grows fails from there on."""
    grows = ("create", "write", "folder")
    return [Death(event, "full") for event in events if event.label.split(" ")[0] in grows]
