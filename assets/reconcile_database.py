"""The lake held against a database's table as of one position: ranges of keys, then rows.

Decides what the position is of each database, and that both are brought to it: the source by a snapshot, the
lake by catching up and by leaving out what is later. What differs is looked at again after one more catching
up, since records may have been on their way.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from assets import as_of_mongodb, as_of_postgres
from assets.as_of import catch_up
from assets.asked import Looked, Work
from assets.images import image
from assets.placing import Moment
from assets.verdicts import note, unfinished
from resources import source_mongodb, source_postgres
from resources.lake_texts import LakeTexts
from resources.settings import settings
from resources.source_ranges import Ranged
from resources.text_compare import Progress, differing, rows_of
from sluice import tables
from sluice.compare.canonical import Texts
from sluice.compare.compared import EXTRA
from sluice.compare.kept import condition
from sluice.contract import Changes
from sluice.errors import SettingsError, SourceError
from sluice.sources import Mongo, Postgres


@dataclass(frozen=True)
class _Held:
    """A source at one position.

    Attributes:
        there: its rows.
        position: how it is told.
        ends: where the log must be read to.
        later: what is later.
        moment: the position, for a repair of rows that differ.
    """

    there: Ranged
    position: str
    ends: Mapping[int, int]
    later: Callable[[], pl.DataFrame]
    moment: Callable[[pl.DataFrame], Moment]


def look_at_database(work: Work, report: str) -> Looked:
    """Compare with a table of a database as of one snapshot; look twice at what differs.

    Raises:
        SourceError, SourceUnreachableError: the source cannot be used, or does not answer.
        MarkerLateError: the lake cannot be brought past the snapshot.
    """
    source, stream = work.stream.source, work.stream
    if not isinstance(source, Postgres | Mongo) or not isinstance(stream, Changes):
        raise SourceError(str(source), "it tells changes", "declare `Changes`")
    texts = Texts(stream.keys, stream.columns)
    with _held(work, source, stream, texts) as held:
        position = held.position
        progress = Progress()
        if stream.column(stream.keys[0]).pii:  # ranges are told by values of it
            work.say(f"reconciliation/{stream.name}: its key is personal, so how far it came is not kept")
        else:
            progress.kept = partial(note, work.lake, stream, report, position)
        if work.asked.resume and (begun := unfinished(work.lake, stream)):
            progress.bounds, progress.equal, before = begun
            position += f"; {len(progress.equal)} ranges as of {before}"
            note(work.lake, stream, report, position, progress.bounds, sorted(progress.equal))
        here, version = _as_of(work, texts, held)
        with closing(here):
            ranges, total = differing(here, held.there, progress, work.say)
            rows, counts = rows_of(here, held.there, ranges, work.asked.most)
        if ranges:  # records may have been on their way when the connector was past
            here, version = _as_of(work, texts, held)
            with closing(here):
                rows, counts = rows_of(here, held.there, ranges, work.asked.most)
        found = replace(total, **counts, rows=rows, listed_all=rows.height == sum(counts.values()))
        silver = work.lake.scan(work.lake.ensure(tables.silver(stream)))  # before it is told what is later
        seen = silver.join(held.later().lazy(), on=tables.ROW_COORDINATES, how="anti")
        moment = held.moment(rows if work.asked.repair != "no" else rows.clear())
        return Looked(str(source), position, version, found, replace(moment, seen=seen))


@contextmanager
def _held(work: Work, source: Postgres | Mongo, stream: Changes, texts: Texts) -> Iterator[_Held]:
    """Hold a source at one position while the block runs."""
    address, lake, kafka = connection(source), work.lake, work.kafka
    pace, sessions = work.asked.rows_per_second, work.asked.parallel
    if isinstance(source, Postgres):
        kept = condition(stream, source_postgres.values_of(source, texts))
        with source_postgres.snapshot_of(
            source, texts, address, kept=kept, rows_per_second=pace, parallel=sessions
        ) as table:
            yield _Held(
                there=table,
                position=f"snapshot {table.visible.snapshot}, after {table.visible.lsn}",
                ends=as_of_postgres.ends_after_marker(kafka, stream, source, address),
                later=partial(as_of_postgres.later, lake, stream, table.visible),
                moment=lambda _: Moment(table.visible.taken),
            )
        return
    before = as_of_mongodb.passing(kafka, stream, source)
    with source_mongodb.snapshot_of(
        source, stream, texts, address, rows_per_second=pace, parallel=sessions
    ) as collection:
        at = collection.time
        yield _Held(
            there=collection,
            position=f"cluster time ({at.time}, {at.inc})",
            ends=as_of_mongodb.ends_after(kafka, stream, source, at, before),
            later=partial(as_of_mongodb.later, lake, stream, at),
            moment=lambda rows: Moment(
                collection.taken,
                numbers=(at.time * 1000, at.inc),
                documents=collection.documents(rows.filter(pl.col("kind") != EXTRA)),
            ),
        )


def _as_of(work: Work, texts: Texts, held: _Held) -> tuple[LakeTexts, int]:
    """Give the lake's side as of the source's position."""
    catch_up(work.lake, work.kafka, work.stream, work.run_id, held.ends, work.say)
    side, version = image(work.lake, work.stream, texts.names, work.folder, held.later)
    return LakeTexts(side, texts, work.folder), version


def connection(source: Postgres | Mongo) -> str:
    """Give the address that the settings have under a source's name.

    Raises:
        SettingsError: they have none.
    """
    known = settings().source_connections
    if source.connection not in known:
        found = f"without {source.connection!r}"
        raise SettingsError("SOURCE_CONNECTIONS", found, "add the address under this name")
    return known[source.connection].get_secret_value()
