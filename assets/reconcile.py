"""One reconciliation of a stream: its source against its lake, as of one position of the source.

Decides the order of things: the source's position first, then the lake brought up to it, then the comparison,
then (where asked) the repair, then the verdict. Differences are looked at twice: what still differs after
the lake was brought up to date once more is told. It refuses to run beside another one of the same stream.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from assets.alone import alone
from assets.asked import Asked, Looked, Say, Work
from assets.placing import Moment
from assets.reconcile_database import look_at_database
from assets.reconcile_log import compare_log
from assets.reconcile_tables import look_at_tables
from assets.repair import carry_out, finish, plan
from assets.verdicts import Against, Verdict, keep
from resources.lake import Lake
from sluice.contract import Stream
from sluice.errors import SourceError
from sluice.sources import Mongo, Postgres
from sluice.tables import REPAIR


@dataclass(frozen=True)
class Reconciled:
    """What came of one.

    Attributes:
        verdict: None where it was skipped; after a repair, that of the reconciliation after it.
        told: the differences as they are kept.
        repaired: the verdict that was repaired.
    """

    verdict: Verdict | None
    told: pl.DataFrame
    repaired: Verdict | None = None


def reconcile(
    lake: Lake, stream: Stream, asked: Asked, *, run_id: str, kafka: Any = None, say: Say = print
) -> Reconciled:
    """Reconcile a stream with its source.

    Raises:
        SourceError: the source cannot be used as it is declared.
        SourceUnreachableError: it does not answer.
        ReconciliationRunsError: another one runs, and `overlap` is `fail`.
        LeaseLostError: another one may have begun meanwhile.
        LakeError, RaceLostError: the lake failed.
    """
    against = asked.against or ("source" if stream.source is not None else "log")
    if against == "source" and stream.source is None:
        raise SourceError(f"of {stream.name!r}", "there is none", "declare `source` in the contract")
    with alone(lake, stream, asked.overlap, time.sleep) as mine:
        if mine is None:
            say(f"reconciliation/{stream.name}: another one runs; this one is skipped")
            return Reconciled(None, pl.DataFrame())
        with tempfile.TemporaryDirectory(prefix="sluice-reconcile-") as folder:
            finish(lake, stream, run_id, say)  # what one that died had begun is not repaired again
            return _run(Work(lake, stream, asked, Path(folder), kafka, run_id, say, mine.check), against)


def report_name(now: datetime) -> str:
    """Name a report by when it began; no two have one name."""
    return f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"


def _run(work: Work, against: Against) -> Reconciled:
    """Compare, repair where that is asked, and keep what was found; a repair is reconciled itself."""
    lake, stream, asked = work.lake, work.stream, work.asked
    began, clock = datetime.now(UTC), time.monotonic()
    report = report_name(began)
    looked = _looked(work, against, report)
    repaired, says = False, "no"
    if against == "source" and asked.repair != "no" and not looked.compared.equal:
        planned = plan(lake, stream, report, looked.compared, looked.moment)
        says = f"dry run: {planned}"
        if asked.repair == "yes":
            repaired = bool(planned.records.height)
            says = f"{planned}, in tile {REPAIR}{report}" if repaired else str(planned)
            if repaired:
                work.sure()
                carry_out(lake, stream, report, planned, work.run_id, work.say)
    verdict = Verdict(
        report=report,
        against=against,
        source=looked.source,
        position=looked.position,
        lake_version=looked.version,
        compared=looked.compared,
        began_at=began,
        seconds=time.monotonic() - clock,
        repair=says,
    )
    work.sure()
    done = Reconciled(verdict, keep(lake, stream, verdict, work.run_id))
    if not repaired:
        return done
    again = _run(replace(work, asked=replace(asked, repair="no")), against)
    return replace(again, repaired=verdict)


def _looked(work: Work, against: Against, report: str) -> Looked:
    """Compare."""
    if against == "log":
        most = work.asked.most
        compared, position, version = compare_log(work.lake, work.kafka, work.stream, most=most, say=work.say)
        return Looked(f"topic {work.stream.topic}", position, version, compared, Moment(datetime.now(UTC)))
    if isinstance(work.stream.source, Postgres | Mongo):
        return look_at_database(work, report)
    return look_at_tables(work)
