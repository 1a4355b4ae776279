"""What reconciliations leave: a verdict each, the rows that differed, and how far they came.

Written once, after the comparison: the differences first, the verdict decides. Personal values are masked.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import polars as pl

from resources.lake import Lake
from sluice.compare.compared import Compared, masked
from sluice.contract import Stream
from sluice.tables import UTC_TIME, Table

Against = Literal["source", "log"]

VERDICTS: dict[str, pl.DataType] = {
    "stream": pl.String(),
    "report": pl.String(),
    "against": pl.String(),  # source, log
    "source": pl.String(),  # what it was, without its address
    "position": pl.String(),  # of the source
    "lake_version": pl.Int64(),
    "equal": pl.Boolean(),
    "ranges": pl.Int64(),
    "differing_ranges": pl.Int64(),
    "lake_rows": pl.Int64(),
    "source_rows": pl.Int64(),
    "missing": pl.Int64(),
    "extra": pl.Int64(),
    "different": pl.Int64(),
    "repair": pl.String(),  # no, dry run, or what was done
    "run_id": pl.String(),
    "began_at": UTC_TIME,
    "seconds": pl.Float64(),
}
DIFFERENCES: dict[str, pl.DataType] = {
    "stream": pl.String(),
    "report": pl.String(),
    "kind": pl.String(),  # missing, extra, different
    "key": pl.String(),  # JSON
    "columns": pl.List(pl.String),
    "lake": pl.String(),  # JSON
    "source": pl.String(),
}
PROGRESS: dict[str, pl.DataType] = {
    "stream": pl.String(),
    "report": pl.String(),
    "bounds": pl.List(pl.String),  # of ranges of keys
    "equal": pl.List(pl.Int64),  # which ranges were found equal
    "position": pl.String(),
    "kept_at": UTC_TIME,
}
PROGRESS_TABLE = Table(
    "system/reconciling", PROGRESS, ("stream",), "How far reconciliations came; for those that go on."
)
VERDICTS_TABLE = Table(
    "system/reconciliations",
    VERDICTS,
    ("stream",),
    "What each reconciliation found: the history of verdicts.",
)
DIFFERENCES_TABLE = Table(
    "system/differences", DIFFERENCES, ("stream",), "Rows that differed, personal values masked."
)


@dataclass(frozen=True)
class Verdict:
    """A reconciliation's outcome, as it is kept."""

    report: str
    against: Against
    source: str
    position: str
    lake_version: int
    compared: Compared
    began_at: datetime
    seconds: float
    repair: str = "no"

    def facts(self) -> dict[str, Any]:
        """Give what people are told first."""
        found = self.compared
        return {
            "report": self.report,
            "source": self.source,
            "position": self.position,
            "lake version": self.lake_version,
            "rows of the lake": found.lake_rows,
            "rows of the source": found.source_rows,
            "missing in the lake": found.missing,
            "extra in the lake": found.extra,
            "different": found.different,
            "ranges, and those that differ": f"{found.ranges}, {found.differing}",
            "repair": self.repair,
            "seconds": round(self.seconds, 1),
        }


def keep(lake: Lake, stream: Stream, verdict: Verdict, run_id: str) -> pl.DataFrame:
    """Write a verdict and its differences; give these as they are kept, masked."""
    found = verdict.compared
    if verdict.against == "source":
        personal = {column.name for column in stream.columns if column.pii}
        told = masked(found.rows, stream.keys, personal)
    else:  # what records hold is not known before they are decoded
        told = masked(found.rows, _PLACE, {"key", "value", "headers"})
    common = {"stream": pl.lit(stream.name), "report": pl.lit(verdict.report)}
    rows = told.with_columns(**common).select(list(DIFFERENCES))
    row = {
        "stream": stream.name,
        "report": verdict.report,
        "against": verdict.against,
        "source": verdict.source,
        "position": verdict.position,
        "lake_version": verdict.lake_version,
        "equal": found.equal,
        "ranges": found.ranges,
        "differing_ranges": found.differing,
        "lake_rows": found.lake_rows,
        "source_rows": found.source_rows,
        "missing": found.missing,
        "extra": found.extra,
        "different": found.different,
        "repair": verdict.repair,
        "run_id": run_id,
        "began_at": verdict.began_at,
        "seconds": verdict.seconds,
    }
    if rows.height:
        lake.retrying(DIFFERENCES_TABLE.name, lambda: lake.commit(lake.ensure(DIFFERENCES_TABLE), rows))
    one = pl.DataFrame([row], schema=VERDICTS, orient="row")
    lake.retrying(VERDICTS_TABLE.name, lambda: lake.commit(lake.ensure(VERDICTS_TABLE), one))
    return told


_PLACE = ("tile", "partition", "offset")


def note(lake: Lake, stream: Stream, report: str, position: str, bounds: list[str], equal: list[int]) -> None:
    """Note which ranges were found equal, for whoever goes on."""
    row = (stream.name, report, bounds, equal, position, datetime.now(UTC))
    one = pl.DataFrame([row], schema=PROGRESS, orient="row")
    lake.retrying(PROGRESS_TABLE.name, lambda: lake.commit(lake.ensure(PROGRESS_TABLE), one))


def unfinished(lake: Lake, stream: Stream) -> tuple[list[str], set[int], str] | None:
    """Give the ranges of the last one if it has no verdict, those found equal, and its position.

    What was stopped before a later one ended has been looked at since.
    """
    mine = pl.col("stream") == stream.name
    notes = lake.read(PROGRESS_TABLE).filter(mine).sort("kept_at").collect()
    if not notes.height:
        return None
    report, bounds, position, kept = notes.select("report", "bounds", "position", "kept_at").row(-1)
    later = (pl.col("source") == str(stream.source)) & (pl.col("began_at") >= kept)
    ended = lake.read(VERDICTS_TABLE).filter(mine & ((pl.col("report") == report) | later))
    if ended.select(pl.len()).collect().item():
        return None
    return bounds, set(notes.filter(pl.col("report") == report)["equal"].explode().drop_nulls()), position


def standing(lake: Lake, stream: Stream) -> pl.DataFrame:
    """Give the last verdict against the source, and against the log, where differences stand."""
    mine = lake.read(VERDICTS_TABLE).filter(pl.col("stream") == stream.name).collect()
    last = mine.sort("began_at").group_by("against").last()
    return last.filter(~pl.col("equal")).select(
        "against", "report", "missing", "extra", "different", "position", "began_at"
    )
