"""Accounts of what was lost, refused or does not add up: named, by tile, until someone acknowledges it."""

import polars as pl
import pytest

from assets import equations, reingest
from resources.lake import Lake
from sluice import tables
from sluice.accounts import Account, unbalanced
from tests.engine import HOURS, both, busy_log, decide, load, orders, prove, send, value
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
