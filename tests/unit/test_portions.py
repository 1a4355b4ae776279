"""How many records are decided at once: by their bytes in memory, of which a file's size says nothing."""

from pathlib import Path
from threading import Event

import polars as pl

from assets import flow
from assets.flow import Flow, Pace
from assets.ingest import Limits
from assets.portions import portion
from resources.lake import Lake
from sluice import tables
from tests.engine import HOURS, NOW, WIDE, decide, load, orders, prove, send, value
from tests.fake_kafka import FakeKafka

STREAM = orders()
LARGE = 100_000  # bytes of a value; they shrink to almost nothing
COUNT = 60


def alike(partitions: int = 2) -> FakeKafka:
    """Make a log of one tile of large values that are alike."""
    kafka = FakeKafka()
    kafka.create("t", partitions)
    for i in range(COUNT):
        raw = value(f"o{i}", "1.00", i / 10)
        send(kafka, raw[:-1] + b', "pad": "' + b"x" * LARGE + b'"}', i / 10, i % partitions)
    return kafka


def bronze(folder: Path) -> Lake:
    lake = Lake(str(folder))
    load(lake, alike(), STREAM, HOURS[:1])
    return lake


def test_records_that_are_large_only_in_memory_are_few_at_once(tmp_path):
    lake = bronze(tmp_path)
    handle = lake.open(tables.bronze(STREAM).name)
    stored = pl.DataFrame(handle.get_add_actions(flatten=True))["size_bytes"].sum()
    assert stored < COUNT * LARGE / 50
    assert 26 <= portion(lake, handle, HOURS[:1], Limits(10_000, 30 * LARGE)) <= 30


def test_one_record_is_the_least_and_the_limit_of_records_the_most(tmp_path):
    lake = bronze(tmp_path)
    handle = lake.open(tables.bronze(STREAM).name)
    assert portion(lake, handle, HOURS[:1], Limits(10_000, 1)) == 1
    assert portion(lake, handle, HOURS[:1], Limits(40, 2**40)) == 40
    assert portion(lake, handle, HOURS[1:2], Limits(40, 1)) == 40


def test_silver_reads_no_more_of_them_than_fit(tmp_path, monkeypatch):
    lake = bronze(tmp_path)
    read = _counting(monkeypatch, "assets.refine.read_bronze")
    done = decide(lake, STREAM, HOURS[:1], Limits(10_000, 30 * LARGE))
    assert sum(a.accepted for a in done.accounts) == sum(read) == COUNT
    assert max(read) <= 30
    prove(lake, STREAM)


def test_a_long_run_reads_no_more_of_them_than_fit_where_silver_is_behind(tmp_path, monkeypatch):
    lake = bronze(tmp_path)
    read = _counting(monkeypatch, "assets.flow.read_bronze")
    pace = Pace(interval=0.01, bytes=30 * LARGE)
    follower = Flow(lake, alike(), STREAM, "run", pace, clock=lambda: NOW, say=lambda _: None)
    follower.run(Event(), caught_up=True)
    assert sum(read) == COUNT
    assert max(read) <= 30
    prove(lake, STREAM)


def test_small_records_are_decided_together(tmp_path, monkeypatch):
    lake = bronze(tmp_path)
    read = _counting(monkeypatch, "assets.refine.read_bronze")
    decide(lake, STREAM, HOURS[:1], WIDE)
    assert read == [COUNT]


def _counting(monkeypatch, name: str) -> list[int]:
    """Note how many records each reading of bronze gives."""
    read: list[int] = []

    def reading(*given) -> pl.DataFrame:
        rows = flow_read(*given)
        read.append(rows.height)
        return rows

    flow_read = flow.read_bronze
    monkeypatch.setattr(name, reading)
    return read
