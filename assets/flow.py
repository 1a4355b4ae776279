"""The data path of one stream in a long run: its log, followed batch by batch through bronze and silver.

Four stages overlap: one batch is read, the one before it appended to bronze, the one before that decoded, and
the one before that decided for silver, from the records in memory. Decides what a batch is, which tile owns
its offsets (as the bounds say, never the stamps), and what follows when something else moved the tables: a
new session, which begins where they stand. So it refuses to remember: progress is in the tables alone.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from threading import Event
from time import monotonic

import polars as pl

from assets import bounds, logs
from assets.ahead import ahead
from assets.anew import generation
from assets.freshness import Freshness
from assets.ingest import TILES_AT_ONCE, Ingested, Limits, append
from assets.needed import Owned, known, needed
from assets.portions import AT_ONCE, cut, portion
from assets.races import pause
from assets.refine import Refined, Work, decide, grouped, judgement, read_bronze, refine, undecided
from resources.intents import Courtesy
from resources.kafka import Batch, KafkaResource
from resources.kafka_read import Reader
from resources.lake import Lake
from sluice import tables
from sluice.contract import Stream
from sluice.errors import RetryableError, StaleWriterError
from sluice.judged import Judged

Appended = tuple[pl.DataFrame, list[Owned]]  # rows of bronze, and the slices that they fill
_IDLE = 1.0  # seconds between two looks of a worker that has no partition
_PAUSE = 1.0  # seconds after a failure that may pass
_MET = 3  # lost races that a worker pauses for when it meets another: that one goes on meanwhile


@dataclass(frozen=True)
class Pace:
    """How a stream is followed: seconds between commits, a batch's size, how long a failure may last."""

    interval: float = 0.5
    rows: int = AT_ONCE
    bytes: int = 48 << 20
    patience: float = 120.0


@dataclass
class Flow:
    """Follows one stream.

    Attributes:
        share: tells which of the topic's partitions are this worker's at the moment.
        leads: tells whether this worker does what concerns the stream as a whole.
        told: hears of each commit of silver.
        partitions: the topic's, as last seen; whoever sees more of them sets it.
    """

    lake: Lake
    kafka: KafkaResource
    stream: Stream
    run_id: str
    pace: Pace = field(default_factory=Pace)
    share: Callable[[Collection[int]], Collection[int]] = set
    leads: Callable[[], bool] = lambda: True
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    say: Callable[[str], None] = print
    told: Callable[[Refined], None] = lambda _done: None
    freshness: Freshness = field(default_factory=Freshness)
    partitions: tuple[int, ...] = ()
    _mended: bool = False
    _failing: float | None = None  # since when

    def __post_init__(self) -> None:
        """Know who asks this writer to give way."""
        self._stop = Event()
        self._courtesies = [
            Courtesy(self.lake, table.name)
            for table in (tables.bronze(self.stream), tables.silver(self.stream))
        ]

    def run(self, stop: Event, *, caught_up: bool = False) -> None:
        """Follow the log until stopped; with `caught_up` until all that stands there now is in silver.

        A failure that may pass is waited out for as long as the pace's patience says: from its first time
        until something is committed, or nothing is left to do.

        Raises:
            SluiceError: what a permanent failure, or one that lasts, is.
        """
        goals: Mapping[int, int] | None = None
        self._failing, self._stop = None, stop
        while not stop.is_set():
            try:
                if caught_up and goals is None:
                    goals = self._ends()
                if self._session(stop, goals):
                    return
            except StaleWriterError as error:
                self.say(f"{self.stream.name}: another run was faster; going on where it is ({error})")
                stop.wait(pause(_MET))
            except RetryableError as error:
                now = monotonic()
                self._failing = now if self._failing is None else self._failing
                if now - self._failing > self.pace.patience:
                    raise
                self.say(f"{self.stream.name}: {error}; trying again")
                stop.wait(_PAUSE)

    def _ends(self) -> dict[int, int]:
        topic = self.kafka.topic(self.stream.topic)
        marks = self.kafka.watermarks(topic.name, topic.partitions)
        return {partition: mark.stable for partition, mark in marks.items()}

    def _session(self, stop: Event, goals: Mapping[int, int] | None) -> bool:
        """Follow the log from where the tables are until anything changes; tell if the goals are reached."""
        self.partitions = self.kafka.topic(self.stream.topic).partitions
        mine = set(self.share(self.partitions))
        if not mine:
            stop.wait(_IDLE)
            return False
        self._mend(self._roll(mine))
        self._even_out(mine)
        places = {partition: self._needed[partition].place(0) for partition in mine}
        marks = logs.watermarks(self.lake, self.kafka, self.stream, mine)
        if all(places[partition] >= mark.stable for partition, mark in marks.items()):
            self._failing = None
        if goals is not None and all(places[p] >= goals.get(p, 0) for p in mine):
            return True
        with closing(self.kafka.tail(self.stream.topic, places)) as reader:
            batches = ahead(self._batches(reader, mine, stop, goals), f"read-{self.stream.name}")
            appended = ahead(self._appended(batches, mine), f"bronze-{self.stream.name}")
            with closing(ahead(self._judged(appended), f"decode-{self.stream.name}")) as judgements:
                for judged, owned in judgements:
                    self._settle(judged, owned)
                    del judged  # batches are large: none is held while the next is waited for
                    self._failing = None
                    if stop.is_set():
                        break
        return False

    def _batches(
        self, reader: Reader, mine: set[int], stop: Event, goals: Mapping[int, int] | None
    ) -> Iterator[Batch]:
        """Read what comes within an interval, as long as the same partitions are ours and goals are ahead."""
        while not stop.is_set() and set(self.share(self.partitions)) == mine:
            if self.clock() >= self._rolls_at:  # the tile's end is written also where no more records come
                return
            places = reader.positions
            if goals is not None and all(place >= goals.get(p, 0) for p, place in places.items()):
                return
            wanted = {p: self._needed[p].place(place) for p, place in places.items()}
            if jumps := {p: place for p, place in wanted.items() if place != places[p]}:
                reader.add(jumps)  # over tiles that bronze has already
            batch = reader.take(self.pace.rows, self.pace.bytes, self.pace.interval)
            if batch.first_offsets != batch.next_offsets:
                yield batch
            del batch

    def _appended(self, batches: Iterator[Batch], mine: set[int]) -> Iterator[Appended]:
        """Append each batch to bronze, as its tiles' bounds cut it."""
        for batch in batches:
            if self.clock() >= self._rolls_at:  # bounds are written before they are used
                self._roll(mine)
            for ranges in self._ranges(batch):
                self._give_way(0)
                done = Ingested([])
                rows = append(self.lake, self.stream, batch, ranges, self.run_id, done)
                by_tile = {(bound.tile, bound.partition): bound for bound, _ in ranges}
                yield rows, [(by_tile[s.tile, s.partition], s) for s in done.slices]
                del rows
            del batch

    def _judged(self, appended: Iterator[Appended]) -> Iterator[tuple[Judged, list[Owned]]]:
        """Decode and judge what was appended."""
        for rows, owned in appended:
            yield judgement(self.stream, rows), owned
            del rows

    def _ranges(self, batch: Batch) -> Iterator[list[Owned]]:
        """Cut a batch by tiles, a bounded number of them at once."""
        found = [
            owned
            for partition, stop in batch.next_offsets.items()
            for owned in self._needed[partition].within(batch.first_offsets[partition], stop)
        ]
        names = sorted({bound.tile for bound, _ in found})
        for start in range(0, len(names), TILES_AT_ONCE):
            chosen = set(names[start : start + TILES_AT_ONCE])
            yield [owned for owned in found if owned[0].tile in chosen]

    def _roll(self, mine: Collection[int]) -> str:
        """Write the bounds up to the tile of this moment; see what bronze lacks; give that tile."""
        now = self.clock()
        current = self.stream.partitions.tile_at(now)
        bounds.ensure(self.lake, self.kafka, self.stream, [current], now)
        self._rolls_at = self.stream.partitions.window(current).end
        self._needed = needed(self.lake, self.stream, mine)
        return current

    def _mend(self, current: str) -> None:
        """Once in a run: hold the open tile against its bronze and today's contract."""
        if not self._mended and self.leads():
            limits = Limits(self.pace.rows, self.pace.bytes)
            refine(self.lake, self.stream, [current], run_id=self.run_id, limits=limits, say=self.say)
        self._mended = True

    def _even_out(self, mine: Collection[int]) -> None:
        """Decide what bronze has of our partitions and silver has not."""
        bronze = self.lake.ensure(tables.bronze(self.stream))
        silver = self.lake.ensure(tables.silver(self.stream))
        lacking = undecided(self.stream, bronze, silver, known(self.lake, self.stream, mine))
        limits = Limits(self.pace.rows, self.pace.bytes)
        rows = portion(self.lake, bronze, {bound.tile for bound, _ in lacking}, limits)
        parts = ((bound, part) for bound, piece in lacking for part in cut(piece, rows))
        for group in grouped(parts, rows):
            self._read_and_settle(group)

    def _read_and_settle(self, owned: Sequence[Owned]) -> None:
        rows = read_bronze(self.lake, self.stream, [piece for _, piece in owned])
        self._settle(judgement(self.stream, rows), owned)
        self._failing = None

    def _give_way(self, table: int) -> None:
        """Let a slower writer of the table (0: bronze, 1: silver) that lost races go first, once."""
        self._courtesies[table].give_way(None, stopped=self._stop.is_set)

    def _settle(self, judged: Judged, owned: Sequence[Owned]) -> None:
        """Decide judged records for silver, those of tiles of one generation at once."""
        silver = self.lake.ensure(tables.silver(self.stream))

        def number(one: Owned) -> int:
            return generation(silver, self.stream, one[1].tile)

        for raised, group in groupby(sorted(owned, key=number), key=number):
            pieces = list(group)
            tiles = {piece.tile for _, piece in pieces}
            part = judged
            if len(pieces) < len(owned):
                part = judgement(self.stream, read_bronze(self.lake, self.stream, [p for _, p in pieces]))
            done = Refined(sorted(tiles))
            self._give_way(1)
            decide(self.lake, self.stream, Work(pieces, raised), part, self.run_id, done)
            self.freshness.add(part.at["timestamp_ms"])
            self.told(done)
