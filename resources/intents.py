"""Intents: a slow writer that has lost twice asks the fast one to wait for it, once.

Decides who waits for whom. Whoever lost two races of one read-modify-write files an intent with an expiry, on
the fences that it wanted (none: on the whole table), in `system/intents`. A live writer gives way before it
commits: to each intent once, and never longer than a minute, whatever the intent or its clock says. Nothing
rests on it but progress: safety is the fences' own. It refuses to make a run fail.
"""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import polars as pl

from resources.outages import LostRace
from sluice.errors import LakeError, RetryableError
from sluice.tables import INTENTS_TABLE

if TYPE_CHECKING:
    from resources.lake import Lake

LOSSES = 2  # races lost before one asks
LONGEST = 60.0  # seconds that one intent can hold up a live writer
_LOOK = 0.05  # seconds between two looks


@dataclass(frozen=True)
class Intent:
    """What a writer wants to be alone with: fences of a table (none: all), until it expires."""

    id: str
    table: str
    fences: frozenset[str]
    expires_at: datetime

    def meets(self, fences: Collection[str] | None) -> bool:
        """Tell whether it concerns one of some fences (None: any)."""
        return fences is None or not self.fences or not self.fences.isdisjoint(fences)


def ask(
    lake: "Lake", table: str, fences: Collection[str], seconds: float, before: Sequence[Intent] = ()
) -> list[Intent]:
    """Ask live writers to wait for a step that takes about so many seconds, unless `before` still asks.

    Returns:
        the intent that asks now, if any.
    """
    now = datetime.now(UTC)
    if still := [intent for intent in before if intent.expires_at > now]:
        return still
    if table == INTENTS_TABLE.name:
        return []
    until = now + timedelta(seconds=min(2 * seconds + 1, LONGEST))
    intent = Intent(uuid4().hex, table, frozenset(fences), until)
    _write(lake, intent, withdrawn=False)
    return [intent]


def withdraw(lake: "Lake", intent: Intent) -> None:
    """Say that nobody needs to wait any more."""
    _write(lake, intent, withdrawn=True)


def _write(lake: "Lake", intent: Intent, *, withdrawn: bool) -> None:
    row = {
        "id": intent.id,
        "table": intent.table,
        "fences": sorted(intent.fences),
        "expires_at": intent.expires_at,
        "withdrawn": withdrawn,
    }
    rows = pl.DataFrame([row], schema=INTENTS_TABLE.columns, orient="row")
    with suppress(LostRace, LakeError, RetryableError):  # an intent is a courtesy: runs go on without it
        lake.commit(lake.ensure(INTENTS_TABLE), rows)


def standing(lake: "Lake", table: str, fences: Collection[str] | None = None) -> list[Intent]:
    """Give the intents on some fences of a table (None: on any) that neither expired nor were withdrawn."""
    mine = (pl.col("table") == table) & (pl.col("expires_at") > datetime.now(UTC))
    rows = lake.read(INTENTS_TABLE).filter(mine).collect()
    gone = set(rows.filter("withdrawn")["id"])
    found = [
        Intent(row["id"], table, frozenset(row["fences"]), row["expires_at"])
        for row in rows.filter(~pl.col("withdrawn")).iter_rows(named=True)
        if row["id"] not in gone
    ]
    return [intent for intent in found if intent.meets(fences)]


@dataclass
class Courtesy:
    """A live writer's memory of whom it gave way to; one for each table that it writes."""

    lake: "Lake"
    table: str
    _known: int = -1
    _seen: list[Intent] = field(default_factory=list)
    _given: set[str] = field(default_factory=set)

    def give_way(
        self, fences: Collection[str] | None = None, *, stopped: Callable[[], bool] = lambda: False
    ) -> float:
        """Wait, before a commit on some fences, until those that asked for them have had their turn.

        Costs one look at the newest version of `system/intents` where nobody asks. `stopped` ends the wait.

        Returns:
            the seconds waited.
        """
        began = time.monotonic()
        met: set[str] = set()
        while asked := self._asked(fences):
            met |= asked
            if time.monotonic() - began > LONGEST or stopped():
                break
            time.sleep(_LOOK)
        self._given |= met
        return time.monotonic() - began

    def _asked(self, fences: Collection[str] | None) -> set[str]:
        handle = self.lake.open(INTENTS_TABLE.name)
        version = -1 if handle is None else int(handle.version())
        if version != self._known:
            self._seen = standing(self.lake, self.table)
            self._known = version
        now = datetime.now(UTC)
        asked = {i.id for i in self._seen if i.meets(fences) and i.expires_at > now}
        return asked - self._given
