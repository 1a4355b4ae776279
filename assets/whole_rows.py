"""Whole rows by their coordinates: those of a batch and of what it met, else read again from bronze.

Losers are kept without their content; which of them must be read is decided here, and those that break
today's contract are told. Nothing is written.
"""

from collections.abc import Callable

import polars as pl

from sluice.dedupe import WINNER, Identity
from sluice.tables import ROW_COORDINATES

AT = ["_tile", *ROW_COORDINATES]
Contents = Callable[[pl.DataFrame], pl.DataFrame]  # rows of silver for coordinates (columns AT), from bronze


class Rows:
    """Finds whole rows by their coordinates: in the batch, in what was met, else again from bronze."""

    def __init__(self, contents: Contents, whole: pl.DataFrame) -> None:
        self._contents, self._whole = contents, whole
        self.columns = whole.columns
        self._again = whole.clear()  # read again from bronze, under today's contract

    def know(self, whole: pl.DataFrame) -> None:
        """Know these whole rows instead of those before."""
        self._whole = whole

    def at(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Give the rows at coordinates (columns AT), in silver's columns."""
        found = pl.concat([self._whole, self._again]).join(wanted, on=ROW_COORDINATES, how="semi")
        return found.unique(ROW_COORDINATES, keep="first")

    def decided(self, same: Identity, met: pl.DataFrame) -> pl.DataFrame:
        """Decide among rows that met (`assets.meet.Met.rows`), without those that break today's contract.

        Reads the losers whose content decides, or whose lot changed.
        """
        while True:
            decided = same.decide(met, pl.concat([self._whole, self._again]))
            wanted = decided.filter(same.unsure(decided))
            if not wanted.height:
                wanted = decided.filter(
                    (pl.col("_from") == "loser") & (pl.col("_kept") | has_another_winner())
                )
            new = wanted.select(AT).join(self._again, on=ROW_COORDINATES, how="anti")
            if not new.height:
                return decided
            self._again = pl.concat([self._again, self._contents(new).select(self.columns)])
            broken = new.join(
                self._again, on=ROW_COORDINATES, how="anti"
            )  # of tiles that other rules decided
            met = met.join(broken, on=ROW_COORDINATES, how="anti")


def has_another_winner() -> pl.Expr:
    """Tell losers that are new, or whose winner is another than before."""
    return ~pl.col("_kept") & pl.concat_str(*WINNER, separator="/").ne_missing(pl.col("_beaten_by"))
