"""Continuous mode: a long run that follows the logs of some streams and commits every half second or so.

Each stream has a flow (`assets.flow`) in threads of its own; one thread does all streams' slow things,
another keeps the lease that shares partitions among workers. The caller's thread hears what there is to
report. The first error that does not pass ends the run with it. When it is stopped, commits that have begun
are finished and what was read beside them is dropped. `python -m assets.continuous` runs it without Dagster.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic
from typing import Literal
from uuid import uuid4

from dagster import AssetMaterialization

from assets.flow import Flow, Pace
from assets.leases import BEATS, Leases
from assets.maintenance import Keeping
from assets.refine import Refined
from assets.reports import Reports, Told
from assets.upkeep import Upkeep
from resources.kafka import KafkaResource, kafka_resource
from resources.lake import Lake, lake_from_settings
from resources.settings import settings
from resources.streams import load_streams, named
from sluice.contract import Stream
from sluice.errors import RetryableError, SluiceError

Until = Literal["stopped", "caught_up"]
_TICK = 0.2  # seconds between two looks of the caller's thread at what came
_GRACE = 10.0  # seconds that a commit has to finish once the run is stopped


@dataclass(frozen=True)
class Options:
    """How a long run goes; all times in seconds."""

    until: Until = "stopped"
    pace: Pace = field(default_factory=Pace)
    upkeep: float = 10.0
    report: float = 60.0
    lease: float = 10.0
    keeping: Keeping = field(default_factory=Keeping)


@dataclass
class Run:
    """One long run: `events` is the whole of it, and gives what there is to report to Dagster."""

    lake: Lake
    kafka: KafkaResource
    streams: Sequence[Stream]
    run_id: str
    options: Options = field(default_factory=Options)
    say: Callable[[str], None] = print
    stop: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        """Make what follows each stream."""
        names = [stream.name for stream in self.streams]
        alone = self.options.until == "caught_up"  # takes what there is
        worker = worker_of(self.run_id) + uuid4().hex[:6]
        self._leases = None if alone else Leases(self.lake, worker, names, self.options.lease)
        self._flows = [self._flow(stream) for stream in self.streams]
        self._upkeeps = [Upkeep(self.lake, flow, self.say, self.options.keeping) for flow in self._flows]
        self._reports = [Reports(self.lake, flow, self.options.report) for flow in self._flows]
        for flow, reports, upkeep in zip(self._flows, self._reports, self._upkeeps, strict=True):
            flow.told = partial(_both, reports.heard, upkeep.heard)
        self._heard: Queue[Told | BaseException] = Queue()

    def _flow(self, stream: Stream) -> Flow:
        leases = self._leases
        flow = Flow(self.lake, self.kafka, stream, self.run_id, self.options.pace, say=self.say)
        if leases is not None:
            flow.share = partial(leases.mine, stream.name)
            flow.leads = partial(leases.leads, stream.name)
        return flow

    def events(self) -> Iterator[Told]:
        """Follow the streams until stopped, or caught up; give materializations and checks as they are due.

        Raises:
            SluiceError: what a permanent failure, or one that lasts, is. All commits so far stand.
        """
        if self._leases is not None:
            self._leases.beat()
        caught_up = self.options.until == "caught_up"
        flowing = [
            self._thread(f"flow-{flow.stream.name}", partial(flow.run, self.stop, caught_up=caught_up))
            for flow in self._flows
        ]
        beside = [self._thread("upkeep", self._keep_up)]
        if self._leases is not None:
            beside.append(self._thread("lease", self._keep_lease))
        try:
            while any(thread.is_alive() for thread in flowing) and not self.stop.is_set():
                yield from self._came(_TICK)
        finally:
            self.stop.set()
            self._end([*flowing, *beside])
        yield from self._came(0)
        if caught_up:  # who was asked to stop ends at once: the next run does what is due
            self._keep_up_once()
        self._report(last=True)
        yield from self._came(0)

    def _came(self, seconds: float) -> Iterator[Told]:
        """Give what came to be told; raise the first error."""
        try:
            heard = self._heard.get(timeout=seconds) if seconds else self._heard.get_nowait()
            while True:
                if isinstance(heard, BaseException):
                    raise heard
                yield heard
                heard = self._heard.get_nowait()
        except Empty:
            return

    def _thread(self, name: str, work: Callable[[], None]) -> Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  # the caller's thread raises it
                self._heard.put(error)
                self.stop.set()

        thread = Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _end(self, threads: Sequence[Thread]) -> None:
        """Wait for commits that have begun, not for ever: what is cut off is dropped whole."""
        deadline = monotonic() + _GRACE
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        if self._leases is not None:
            try:
                self._leases.beat(last=True)
            except SluiceError as error:
                self.say(f"the lease ends by itself: {error}")

    def _keep_lease(self) -> None:
        leases = self._leases
        while leases is not None and not self.stop.wait(leases.seconds / BEATS):
            try:
                leases.beat()
            except RetryableError as error:  # others take over when it has ended, and are told apart
                self.say(f"the lease could not be renewed: {error}")

    def _keep_up(self) -> None:
        failing: float | None = None
        while not self.stop.wait(self.options.upkeep):
            try:
                self._keep_up_once()
                self._report()
                failing = None
            except RetryableError as error:
                failing = failing or monotonic()
                if monotonic() - failing > self.options.pace.patience:
                    raise
                self.say(f"upkeep: {error}; trying again")

    def _keep_up_once(self) -> None:
        for upkeep in self._upkeeps:
            if upkeep.flow.leads():
                upkeep.once()

    def _report(self, *, last: bool = False) -> None:
        for upkeep, reports in zip(self._upkeeps, self._reports, strict=True):
            for told in reports.due(upkeep.taken(), last=last):
                self._heard.put(told)


def worker_of(run_id: str) -> str:
    """Give how the names of a run's workers begin, by which it holds its leases."""
    return f"{run_id[:8]}-"


def _both(one: Callable[[Refined], None], other: Callable[[Refined], None], done: Refined) -> None:
    one(done)
    other(done)


def kept() -> Keeping:
    """Give how much of the past the settings keep."""
    return Keeping(settings().history_retention_hours, settings().history_commits)


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow streams from the command line; SIGTERM and SIGINT end it well."""
    parser = argparse.ArgumentParser(prog="python -m assets.continuous", description=main.__doc__)
    parser.add_argument("--streams", required=True, help="names, after commas")
    parser.add_argument("--until", choices=["stopped", "caught_up"], default="stopped")
    parser.add_argument("--interval", type=float, default=Pace.interval, help="seconds between commits")
    parser.add_argument("--rows", type=int, default=Pace.rows, help="the most records of a batch")
    parser.add_argument("--bytes", type=int, default=Pace.bytes, help="the most bytes of a batch")
    parser.add_argument("--upkeep", type=float, default=settings().upkeep_seconds, help="seconds")
    parser.add_argument("--lease", type=float, default=Options.lease, help="seconds")
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    log = logging.getLogger("sluice.continuous")
    pace = Pace(given.interval, given.rows, given.bytes)
    options = Options(given.until, pace, given.upkeep, lease=given.lease, keeping=kept())
    streams = [named(load_streams(), name) for name in given.streams.split(",")]
    run = Run(lake_from_settings(), kafka_resource(), streams, f"cli-{os.getpid()}", options, log.info)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: run.stop.set())
    try:
        log.info("following %s", given.streams)
        for told in run.events():
            log.info("%s", _line(told))
    except SluiceError as error:
        log.error("%s", error)  # noqa: TRY400  # its message says all
        return 1
    return 0


def _line(told: Told) -> str:
    what = told.asset_key.to_user_string()
    if not isinstance(told, AssetMaterialization):
        return f"{what}: {told.check_name} {'passed' if told.passed else 'FAILED'}"
    counts = {name: value.value for name, value in told.metadata.items()}
    return f"{what} [{told.partition}]: {counts}"


if __name__ == "__main__":
    sys.exit(main())
