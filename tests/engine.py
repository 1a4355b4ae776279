"""The whole engine over an in-memory Kafka: contracts, logs, runs, comparisons, and a plain-Python oracle."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from unittest.mock import patch

import pandera.polars as pa
import polars as pl
from tenacity import wait_none

import assets.flow
import assets.races
import resources.lake
from assets import aftermath, equations
from assets.ingest import Ingested, Limits, ingest
from assets.refine import Refined, refine
from resources.lake import Lake
from sluice import Events, Hourly, Json, tables
from sluice.contract import Stream
from tests.fake_kafka import FakeKafka

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 3, tzinfo=UTC)
HOURS = [f"2026-01-01-{hour:02}:00" for hour in range(24)]
WIDE = Limits(10_000, 2**40)
COORDINATES = ["epoch", "partition", "offset"]
_OURS = {"silver": ["_ingested_at"], "losers": [], "quarantine": ["quarantined_at", "batch_id"]}


class Order(pa.DataFrameModel):
    order_id: str
    amount: pl.Decimal(12, 2) = pa.Field(ge=0)
    at: pl.Datetime("us", "UTC")


def orders(**arguments) -> Events:
    """Make the contract of the tests; its facts are two hours wide."""
    return Events(
        **{
            "topic": "t",
            "value": Json(),
            "schema": Order,
            "key": "order_id",
            "event_time": "at",
            "partitions": Hourly(start="2026-01-01"),
            "dedupe_within": timedelta(hours=2),
            "event_time_range": None,
            "max_quarantined": 1.0,
            "name": "orders",
        }
        | arguments
    )


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def value(order_id: str, amount: str, minutes: float) -> bytes:
    """Write an order, `minutes` after the start."""
    at = START + timedelta(minutes=minutes)
    return json.dumps({"order_id": order_id, "amount": amount, "at": at.isoformat()}).encode()


def send(kafka: FakeKafka, raw: bytes | None, minutes: float, partition: int = 0, **record) -> int:
    """Produce a record stamped `minutes` after the start."""
    return kafka.produce(
        "t", raw, stamp_ms=ms(START + timedelta(minutes=minutes)), partition=partition, **record
    )


def busy_log(partitions: int = 2) -> FakeKafka:
    """Make a log of four hours in which everything happens: chains of near repeats over tiles, bad bytes."""
    kafka = FakeKafka()
    kafka.create("t", partitions)
    for i in range(60):
        minutes = i * 4
        back = (0, 0, 90, 150)[i % 4]
        raw = value(f"o{i * 7 % 9}", f"{i % 5 // 4}.10", minutes - back + 24 * 60)
        if i % 11 == 5:
            raw = (b"garbage", None, value("x", "-1", minutes), b"{}")[i % 4]
        send(kafka, raw, minutes, i % partitions)
        if i % 17 == 3:
            kafka.gap("t", i % partitions)
    return kafka


def load(
    lake: Lake, kafka: FakeKafka, stream: Stream, tiles: Sequence[str], limits=WIDE, now=NOW
) -> Ingested:
    """Bring tiles into bronze."""
    return ingest(lake, kafka, stream, tiles, run_id="run", limits=limits, now=now, say=_silent)


def decide(lake: Lake, stream: Stream, tiles: Sequence[str], limits=WIDE, *, replace=False) -> Refined:
    """Bring tiles into silver."""
    return refine(lake, stream, tiles, run_id="run", limits=limits, replace=replace, say=_silent)


def both(lake: Lake, kafka: FakeKafka, stream: Stream, tiles: Sequence[str], limits=WIDE, now=NOW) -> Refined:
    """Bring tiles into bronze and silver, as one run does."""
    load(lake, kafka, stream, tiles, limits, now)
    return decide(lake, stream, tiles, limits)


def _silent(_text: str) -> None:
    """Say nothing."""


def state(lake: Lake, stream: Stream) -> dict[str, pl.DataFrame]:
    """Give silver, losers and quarantine, sorted, without what tells of runs only."""
    found = {}
    for layer, table in (
        ("silver", tables.silver(stream)),
        ("losers", tables.losers(stream)),
        ("quarantine", tables.quarantine(stream)),
    ):
        at = [f"_{c}" if layer == "silver" else c for c in COORDINATES]
        rows = lake.read(table).drop(_OURS[layer]).collect().sort(at)
        if layer == "quarantine":
            rows = rows.with_columns(pl.col("resolved_at").is_not_null())
        found[layer] = rows
    return found


def assert_same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> None:
    """Hold two states against each other, table by table."""
    for name, rows in one.items():
        columns = sorted(rows.columns)
        left, right = rows.select(columns), other[name].select(columns)
        assert left.equals(right), f"{name} differs:\n{left}\n{right}"


def prove(lake: Lake, stream: Stream) -> None:
    """Hold the three equations and the ledger against the tables."""
    for layer in ("bronze", "silver"):
        aftermath.finish(lake, stream, layer)
        assert equations.unbalanced(lake, stream, layer).is_empty()
        assert aftermath.ledger_is_whole(lake, stream, layer), layer
    broken = equations.bronze_unequal(lake, stream)
    assert broken.is_empty(), broken
    broken = equations.silver_unequal(lake, stream)
    assert broken.is_empty(), broken


def oracle(records: Sequence[dict], within: timedelta = timedelta(hours=2)) -> dict[str, dict]:
    """Judge records (`partition, offset, value`) in plain Python, as contract.md says.

    Gives by coordinates: `silver` (key, amount, time), `losers` (verdict, winner), `quarantine` (stage),
    `tombstones`.
    """
    told: dict[str, dict] = {"silver": {}, "losers": {}, "quarantine": {}, "tombstones": {}}
    by_key: dict[str, list] = {}
    for record in records:
        at = (1, record["partition"], record["offset"])
        if record["value"] is None:
            told["tombstones"][at] = True
            continue
        try:
            row = dict(json.loads(record["value"]))  # a list is no object
        except (ValueError, TypeError):
            told["quarantine"][at] = "decode"
            continue
        if row.get("order_id") is None:
            told["quarantine"][at] = "key"
            continue
        try:
            amount, when = Decimal(row["amount"]), datetime.fromisoformat(row["at"])
        except (KeyError, InvalidOperation, ValueError):
            told["quarantine"][at] = "schema"
            continue
        if amount < 0:
            told["quarantine"][at] = "rule"
            continue
        by_key.setdefault(row["order_id"], []).append((when, at, amount))
    for key, rows in by_key.items():
        kept = None
        for when, at, amount in sorted(rows):
            if kept is None or when - kept[0] > within:
                kept = (when, at, amount)
                told["silver"][at] = (key, amount, when)
            else:
                verdict = "duplicate" if (when, amount) == (kept[0], kept[2]) else "conflict"
                told["losers"][at] = (verdict, kept[1])
    return told


def told(lake: Lake, stream: Stream) -> dict[str, dict]:
    """Give the tables in the oracle's words; tombstones as the ledger counts them."""
    found = state(lake, stream)
    at = ["_epoch", "_partition", "_offset"]
    silver = found["silver"].select(*at, "order_id", "amount", "at").rows()
    losers = found["losers"].select(*COORDINATES, "verdict", pl.col("^winner_.*$")).rows()
    refused = found["quarantine"].select(*COORDINATES, "stage").rows()
    return {
        "silver": {row[:3]: row[3:] for row in silver},
        "losers": {row[:3]: (row[3], row[4:]) for row in losers},
        "quarantine": {row[:3]: row[3] for row in refused},
    }


class Killed(BaseException):
    """The process dies here: nothing in the program can catch it."""


@contextmanager
def at_commit(number: int, act: Callable[[], None], *, after: bool = False) -> Iterator[dict[str, int]]:
    """Do something once, just before (or after) the n-th commit to the lake; counts commits."""
    commit, seen = Lake.commit, {"commits": 0}

    def counted(self, handle, rows, **arguments):
        seen["commits"] += 1
        mine = seen["commits"] == number
        if mine and not after:
            act()
        version = commit(self, handle, rows, **arguments)
        if mine and after:
            act()
        return version

    Lake.commit = counted
    try:
        yield seen
    finally:
        Lake.commit = commit


def kill() -> None:
    """Die."""
    raise Killed


@contextmanager
def without_pauses() -> Iterator[None]:
    """Lose races without waiting after each."""
    with (
        patch.object(resources.lake, "wait_random_exponential", lambda **_: wait_none()),
        patch.object(assets.races, "pause", lambda _: 0),
        patch.object(assets.flow, "pause", lambda _: 0),
    ):
        yield


def dying_everywhere(
    start: Path, folder: Path, work: Callable[[Lake], object], check: Callable[[Lake], object], *, after: bool
) -> int:
    """On copies of a lake: die at each commit of some work in turn, do the work again, check the lake.

    `after`: the commit is done, and what follows it is not. Gives how many deaths there were.
    """
    for number in range(1, 1000):
        here = folder / f"death-{number}"
        shutil.copytree(start, here)
        lake = Lake(str(here))
        try:
            with at_commit(number, kill, after=after):
                work(lake)
        except Killed:
            work(lake)
            check(lake)
        else:
            return number - 1
        finally:
            shutil.rmtree(here)
    raise AssertionError("the work never ends")


def meeting_everywhere(
    start: Path,
    folder: Path,
    work: Callable[[Lake], object],
    rival: Callable[[Lake], object],
    check: Callable[[Lake], object],
) -> int:
    """On copies of a lake: let a rival do its whole work just before each commit of some work in turn."""
    for number in range(1, 1000):
        here = folder / f"meeting-{number}"
        shutil.copytree(start, here)
        lake = Lake(str(here))
        with without_pauses(), at_commit(number, lambda lake=lake: rival(lake)) as seen:
            work(lake)
        if seen["commits"] >= number:
            check(lake)
        shutil.rmtree(here)
        if seen["commits"] < number:
            return number - 1
    raise AssertionError("the work never ends")
