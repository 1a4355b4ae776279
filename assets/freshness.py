"""Freshness: from a record's time in Kafka to the moment when its row can be read.

Decides how ages are kept: counted in steps of five percent, so that a long run keeps a few hundred numbers
whatever it reads. A clock behind its producer's counts as no age; records without a stamp do not count.
"""

from collections import Counter
from datetime import UTC, datetime
from threading import Lock

import polars as pl

_STEP = 1.05
_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Freshness:
    """The ages of rows since it was last told; one thread may add while another asks."""

    def __init__(self) -> None:
        self._steps: Counter[int] = Counter()
        self._lock = Lock()

    def add(self, stamps_ms: pl.Series, readable: datetime | None = None) -> None:
        """Count records by their stamps (milliseconds), readable from a moment on (now)."""
        now_ms = (readable or datetime.now(UTC)).timestamp() * 1000
        ages = (now_ms - stamps_ms.filter(stamps_ms >= 0)).clip(lower_bound=0)
        steps = (ages + 1).log(_STEP).ceil().cast(pl.Int32).value_counts()
        with self._lock:
            self._steps.update(dict(steps.iter_rows()))

    def told(self) -> dict[str, float]:
        """Give the ages in seconds as `p50`, `p95`, `p99`, too high by at most 5 %, and begin anew.

        Empty where no record was counted.
        """
        with self._lock:
            steps, self._steps = self._steps, Counter()
        total, found, seen = steps.total(), dict[str, float](), 0
        for step, count in sorted(steps.items()):
            seen += count
            for name, share in _SHARES.items():
                if name not in found and seen >= share * total:
                    found[name] = round((_STEP**step - 1) / 1000, 3)
        return found
