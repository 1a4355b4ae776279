"""What a long run tells Dagster: materializations by tile and checks, at a rate that the event log bears.

Decides when: at most one set a stream in `seconds`, and one when a tile closes, however many commits there
were. While a tile is open only those checks are told that hold at any moment; the equations that count
several tables are told of tiles that silver has whole.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any

import dagster as dg

from assets import bounds
from assets.bronze import bronze_rules
from assets.checked import Rule, verdict
from assets.flow import Flow
from assets.ingest import position
from assets.refine import Refined
from assets.silver import silver_rules
from resources.lake import Lake
from sluice import tables

Told = dg.AssetMaterialization | dg.AssetCheckEvaluation
_COUNTS = ("read", "accepted", "duplicates", "conflicts", "quarantined", "tombstones", "ignored", "late")
_SETTLED = ("silver", "quarantine", "losers")


@dataclass
class Reports:
    """What there is to tell of one stream since it was told last."""

    lake: Lake
    flow: Flow
    seconds: float = 60.0
    _tally: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _closed: list[str] = field(default_factory=list)
    _last: float = float("-inf")
    _lock: Lock = field(default_factory=Lock)

    def heard(self, done: Refined) -> None:
        """Count what a commit of silver decided, by tile."""
        with self._lock:
            for account in done.accounts:
                self._tally[account.tile].update({name: getattr(account, name) for name in _COUNTS})

    def due(self, closed: Sequence[str] = (), *, last: bool = False) -> Iterator[Told]:
        """Tell what is due: tiles that closed, and at its pace (or as the last word) what was committed."""
        self._closed += closed
        whole = self._whole()
        if not (whole or last or monotonic() - self._last >= self.seconds):
            return
        with self._lock:
            tally, self._tally = self._tally, defaultdict(Counter)
        self._closed = [tile for tile in self._closed if tile not in whole]
        if tally or whole:
            self._last = monotonic()
            yield from self._materialized(tally)
            yield from self._checked(whole)

    def _whole(self) -> list[str]:
        """Give the closed tiles that silver has decided whole."""
        if not self._closed:
            return []
        stream = self.flow.stream
        silver = self.lake.open(tables.silver(stream).name)
        behind = {
            bound.tile
            for bound in bounds.known(self.lake, stream, self._closed)
            if position(silver, stream, bound) < (bound.next_offset or 0)
        }
        return sorted(set(self._closed) - behind)

    def _materialized(self, tally: dict[str, Counter[str]]) -> Iterator[dg.AssetMaterialization]:
        name = self.flow.stream.name
        ages = {f"freshness_{share}": seconds for share, seconds in self.flow.freshness.told().items()}
        for tile, counts in sorted(tally.items()):
            yield dg.AssetMaterialization(
                ["bronze", name], metadata={"new_records": counts["read"]}, partition=tile
            )
            told: dict[str, Any] = dict(counts) | ages
            for layer in _SETTLED:
                mine = told if layer == "silver" else {"new_rows": _rows(layer, counts)}
                yield dg.AssetMaterialization([layer, name], metadata=mine, partition=tile)

    def _checked(self, whole: list[str]) -> Iterator[dg.AssetCheckEvaluation]:
        stream = self.flow.stream
        for layer, rules in (("bronze", bronze_rules(stream)), ("silver", silver_rules(stream))):
            for rule in rules:
                if rule.live or whole:
                    yield self._verdict([layer, stream.name], rule, whole)

    def _verdict(self, key: Sequence[str], rule: Rule, whole: list[str]) -> dg.AssetCheckEvaluation:
        tiles = None if rule.live else whole
        if rule.kind == "standing":
            stored = bounds.stored(self.lake, self.flow.stream)
            tiles = sorted(stored.filter(stored["closed_at"].is_not_null())["tile"].unique())
        found = verdict(key, rule, self.lake, tiles)
        return dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(list(key)),
            check_name=rule.name,
            passed=found.passed,
            metadata=found.metadata,
            severity=found.severity,
            blocking=rule.kind == "blocking",
        )


def _rows(layer: str, counts: Counter[str]) -> int:
    return counts["quarantined"] if layer == "quarantine" else counts["duplicates"] + counts["conflicts"]
