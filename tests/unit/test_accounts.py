"""Accounts of what was lost, refused or does not add up: named, by tile, until someone acknowledges it."""

import polars as pl
import pytest

from assets import equations, reingest
from resources.lake import Lake
from sluice import tables
from sluice.accounts import Account, unbalanced
from sluice.errors import OpenTransactionError
from tests.engine import (
    HOURS,
    WIDE,
    at_commit,
    both,
    busy_log,
    decide,
    load,
    orders,
    prove,
    send,
    value,
    without_pauses,
)
from tests.fake_kafka import FakeKafka

STREAM = orders()
TILES = HOURS[:4]


def test_an_account_that_does_not_add_up_is_found():
    """The first equation."""
    good = {"read": 3, "accepted": 1, "quarantined": 1, "ignored": 1}
    named = dict.fromkeys(Account.__dataclass_fields__, "x") | {
        "generation": 1,
        "epoch": 1,
        "partition": 0,
        "first_offset": 0,
        "next_offset": 3,
        "duplicates": 0,
        "conflicts": 0,
        "tombstones": 0,
    }
    assert Account(**named | good).balanced
    assert not Account(**named | good | {"read": 4}).balanced
    rows = pl.DataFrame([named | good, named | good | {"tombstones": 1}], strict=False)
    assert unbalanced(rows).height == 1


def test_records_lost_before_they_were_read_are_holes_until_acknowledged(tmp_path):
    """Retention took what was never read: named, red, and green again with a reason kept."""
    lake, kafka = Lake(str(tmp_path)), busy_log()
    load(lake, kafka, STREAM, TILES[:1])
    assert equations.holes(lake, STREAM).is_empty()  # gaps are no holes
    kafka.expire("t", 0, 14)
    done = load(lake, kafka, STREAM, TILES)
    lost = equations.holes(lake, STREAM)
    assert done.holes == lost["holes"].sum() > 0
    assert set(lost["partition"]) == {0}
    decide(lake, STREAM, TILES)
    prove(lake, STREAM)
    assert reingest.acknowledge(lake, STREAM, "retention was too short") == lost.height
    assert equations.holes(lake, STREAM).is_empty()
    kept = lake.read(tables.ACKNOWLEDGED_TABLE).collect()
    assert (set(kept["reason"]), kept["holes"].sum()) == ({"retention was too short"}, done.holes)
    assert reingest.acknowledge(lake, STREAM, "again") == 0


@pytest.mark.parametrize(("share", "over"), [(0.5, True), (0.51, False)])
def test_a_tile_with_too_many_refused_records_is_named(tmp_path, share, over):
    """The share of each tile, not of all (kafka-medallion 10)."""
    stream, lake, kafka = orders(max_quarantined=share - 0.001), Lake(str(tmp_path)), FakeKafka()
    kafka.create("t")
    for n in range(4):
        send(kafka, value(f"o{n}", "1" if n % 2 else "-1", n), n)
    for n in range(4):
        send(kafka, value(f"p{n}", "1", 60 + n), 60 + n)
    both(lake, kafka, stream, TILES)
    found = equations.over_quarantined(lake, stream)
    assert found.rows() == ([(TILES[0], 4, 2, 0.5)] if over else [])


def lossy(tmp_path) -> tuple[Lake, FakeKafka]:
    """Make a lake whose first tile has read five records and lost the next five, before it read the rest."""
    lake, kafka = Lake(str(tmp_path)), FakeKafka()
    kafka.create("t")
    for n in range(40):
        send(kafka, value(f"o{n}", "1", n), n)
    kafka.topics["t"][0].stable = 5
    with pytest.raises(OpenTransactionError):
        load(lake, kafka, STREAM, TILES[:1])
    kafka.topics["t"][0].stable = None
    kafka.expire("t", 0, 10)
    load(lake, kafka, STREAM, TILES[:1])
    assert equations.holes(lake, STREAM).select("first_offset", "holes").rows() == [(5, 5)]
    assert reingest.acknowledge(lake, STREAM, "five are known") == 1
    return lake, kafka


def replace(lake: Lake, kafka: FakeKafka) -> None:
    assert reingest.mend(lake, kafka, STREAM, TILES[:1], run_id="mend", limits=WIDE, every=True)


def test_a_replaced_tile_that_lost_nothing_more_stays_acknowledged(tmp_path):
    lake, kafka = lossy(tmp_path)
    for _ in range(2):
        replace(lake, kafka)
        assert equations.holes(lake, STREAM).is_empty()
    prove(lake, STREAM)


def test_a_later_loss_of_a_tile_with_an_acknowledged_one_is_red(tmp_path):
    """The tile's account begins at the same offset then: counts are compared, and those left are told."""
    lake, kafka = lossy(tmp_path)
    replace(lake, kafka)
    lake.open(tables.bronze(STREAM).name).delete("offset >= 20 AND offset < 30")
    kafka.expire("t", 0, 40)
    replace(lake, kafka)
    lost = equations.holes(lake, STREAM)
    assert lost.select("tile", "holes").rows() == [(TILES[0], 10)]
    assert reingest.acknowledge(lake, STREAM, "ten more") == 1
    replace(lake, kafka)
    assert equations.holes(lake, STREAM).is_empty()
    assert lake.read(tables.ACKNOWLEDGED_TABLE).collect()["holes"].sum() == 15


def test_two_that_acknowledge_at_once_count_a_loss_once(tmp_path):
    lake, kafka = lossy(tmp_path)
    lake.open(tables.bronze(STREAM).name).delete("offset >= 20 AND offset < 30")
    kafka.expire("t", 0, 40)
    replace(lake, kafka)
    with without_pauses(), at_commit(1, lambda: reingest.acknowledge(lake, STREAM, "one")):
        assert reingest.acknowledge(lake, STREAM, "other") == 0
    assert lake.read(tables.ACKNOWLEDGED_TABLE).collect()["holes"].sum() == 15
