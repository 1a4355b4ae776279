"""One reconciliation of a stream: its source against its lake, as of one position of the source.

Decides the order of things: the source's position first, then the lake brought up to it, then the comparison,
then (where asked) the repair, then the verdict. Differences are looked at twice: what still differs after
the lake was brought up to date once more is told. It refuses to run beside another one of the same stream.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import polars as pl

from assets.as_of import catch_up, ends_after_marker, later
from assets.images import beyond, image
from assets.reconcile_log import compare_log
from assets.repair import Moment, carry_out, plan
from assets.verdicts import Against, Overlap, Verdict, alone, keep, note, unfinished
from resources.lake import Lake
from resources.settings import settings
from resources.source_postgres import PostgresSnapshot, snapshot_of
from resources.table_compare import compare
from resources.table_sides import Side, source_side
from resources.text_compare import LakeTexts, Progress, differing, rows_of
from sluice import sources, tables
from sluice.compare.canonical import Texts, comparable
from sluice.compare.compared import Compared
from sluice.contract import Changes, Stream
from sluice.errors import SettingsError, SourceError
from sluice.sources import Postgres
from sluice.tables import REPAIR

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
        LakeError, RaceLostError: the lake failed.
    """
    against = asked.against or ("source" if stream.source is not None else "log")
    if against == "source" and stream.source is None:
        raise SourceError(f"of {stream.name!r}", "there is none", "declare `source` in the contract")
    with alone(lake, stream, asked.overlap, time.sleep) as mine:
        if not mine:
            say(f"reconciliation/{stream.name}: another one runs; this one is skipped")
            return Reconciled(None, pl.DataFrame())
        with tempfile.TemporaryDirectory(prefix="sluice-reconcile-") as folder:
            return _Work(lake, stream, asked, Path(folder), kafka, run_id, say).run(against)


def report_name(now: datetime) -> str:
    """Name a report by when it began; no two have one name."""
    return f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"


@dataclass(frozen=True)
class _Looked:
    """What a comparison came to: with what, as of what, of which version of the lake's table."""

    source: str
    position: str
    version: int
    compared: Compared
    moment: Moment


@dataclass(frozen=True)
class _Work:
    lake: Lake
    stream: Stream
    asked: Asked
    folder: Path
    kafka: Any
    run_id: str
    say: Say

    def run(self, against: Against) -> Reconciled:
        """Compare, repair where that is asked, and keep what was found; a repair is reconciled itself."""
        began, clock = datetime.now(UTC), time.monotonic()
        report = report_name(began)
        looked = self._looked(against, report)
        repaired, says = False, "no"
        if against == "source" and self.asked.repair != "no" and not looked.compared.equal:
            planned = plan(self.lake, self.stream, report, looked.compared, looked.moment)
            says = f"dry run: {planned}"
            if self.asked.repair == "yes":
                repaired = bool(planned.records.height)
                says = f"{planned}, in tile {REPAIR}{report}"
                if repaired:
                    carry_out(self.lake, self.stream, report, planned, self.run_id, self.say)
        seconds = time.monotonic() - clock
        verdict = Verdict(
            report=report,
            against=against,
            source=looked.source,
            position=looked.position,
            lake_version=looked.version,
            compared=looked.compared,
            began_at=began,
            seconds=seconds,
            repair=says,
        )
        done = Reconciled(verdict, keep(self.lake, self.stream, verdict, self.run_id))
        if not repaired:
            return done
        again = replace(self, asked=replace(self.asked, repair="no")).run(against)
        return replace(again, repaired=verdict)

    def _looked(self, against: Against, report: str) -> _Looked:
        """Compare."""
        if against == "log":
            compared, position, version = compare_log(
                self.lake, self.kafka, self.stream, most=self.asked.most, say=self.say
            )
            return _Looked(
                f"topic {self.stream.topic}", position, version, compared, Moment(datetime.now(UTC))
            )
        return self._database(report) if isinstance(self.stream.source, Postgres) else self._files()

    def _files(self) -> _Looked:
        """Compare with a table or files, quiescent or up to a value of the sequence."""
        source, names = self.stream.source, [column.name for column in self.stream.columns]
        if not isinstance(source, sources.Delta | sources.Parquet):
            raise SourceError(repr(source), "no table", "name one")
        moment = Moment(datetime.now(UTC))
        there, position = source_side(self.lake, source, names, self.folder)
        here, version = image(self.lake, self.stream, names, self.folder)
        if self.asked.upto is not None:
            if not isinstance(self.stream, Changes) or not self.stream.sequences:
                raise SourceError(f"of {self.stream.name!r}", "`upto` asks for a `sequence`", "name one")
            keys = beyond(self.lake, self.stream, there, self.asked.upto)
            here, there = _without(here, self.stream, keys), _without(there, self.stream, keys)
            position += f", {self.stream.sequences[0]} up to {self.asked.upto}"
        found = compare(here, there, self.stream.keys, folder=self.folder, most=self.asked.most)
        return _Looked(str(source), position, version, found, moment)

    def _database(self, report: str) -> _Looked:
        """Compare with a table of PostgreSQL as of one snapshot; look twice at what differs."""
        source, stream, say = self.stream.source, self.stream, self.say
        if not isinstance(source, Postgres) or not isinstance(stream, Changes):
            raise SourceError(str(source), "it tells changes", "declare `Changes`")
        texts = Texts(stream.keys, tuple(c for c in stream.columns if comparable(c)))
        dsn = connection(source)
        pace, sessions = self.asked.rows_per_second, self.asked.parallel
        with snapshot_of(source, texts, dsn, rows_per_second=pace, parallel=sessions) as there:
            ends = ends_after_marker(self.kafka, stream, source, dsn)
            position = f"snapshot {there.visible.snapshot}, after {there.visible.lsn}"
            progress = Progress(kept=partial(note, self.lake, stream, report, position))
            if self.asked.resume and (begun := unfinished(self.lake, stream)):
                progress.bounds, progress.equal, before = begun
                position += f"; {len(progress.equal)} ranges as of {before}"
                note(self.lake, stream, report, position, progress.bounds, sorted(progress.equal))
            here, version = self._as_of(texts, there, ends)
            with closing(here):
                ranges, total = differing(here, there, progress, say)
                rows, counts = rows_of(here, there, ranges, self.asked.most)
            if ranges:  # records may have been on their way when the marker came
                here, version = self._as_of(texts, there, ends)
                with closing(here):
                    rows, counts = rows_of(here, there, ranges, self.asked.most)
        found = replace(total, **counts, rows=rows, listed_all=rows.height == sum(counts.values()))
        if left := sorted({c.name for c in stream.columns} - set(texts.names)):
            position += f"; not compared: {', '.join(left)}"
        silver = self.lake.scan(self.lake.ensure(tables.silver(stream)))  # before it is told what is later
        hidden = later(self.lake, stream, there.visible)
        seen = silver.join(hidden.lazy(), on=tables.ROW_COORDINATES, how="anti")
        moment = Moment(there.visible.taken, seen)
        return _Looked(str(source), position, version, found, moment)

    def _as_of(self, texts: Texts, there: PostgresSnapshot, ends: Mapping[int, int]) -> tuple[LakeTexts, int]:
        """Give the lake's side as of the snapshot."""
        catch_up(self.lake, self.kafka, self.stream, self.run_id, ends, self.say)
        hidden = partial(later, self.lake, self.stream, there.visible)
        side, version = image(self.lake, self.stream, texts.names, self.folder, hidden)
        return LakeTexts(side, texts, self.folder), version


def connection(source: Postgres) -> str:
    """Give the address that the settings have under a source's name.

    Raises:
        SettingsError: they have none.
    """
    known = settings().source_connections
    if source.connection not in known:
        found = f"without {source.connection!r}"
        raise SettingsError("SOURCE_CONNECTIONS", found, "add the address under this name")
    return known[source.connection].get_secret_value()


def _without(side: Side, stream: Stream, keys: pl.DataFrame) -> Side:
    """Leave some keys out of a comparison."""
    nothing = pl.DataFrame(schema={name: stream.column(name).storage for name in side.names})
    return replace(side, instead=(keys, nothing))
