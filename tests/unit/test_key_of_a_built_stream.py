"""The key of a stream that was built: another one decides all tiles anew, as from scratch."""

import pytest

from resources.lake import Lake
from tests.engine import HOURS, assert_same, both, decide, orders, prove, send, state, value
from tests.fake_kafka import FakeKafka

ONE, TWO = orders(), orders(key=("order_id", "amount"))


@pytest.mark.parametrize(("before", "after"), [(ONE, TWO), (TWO, ONE)])
def test_another_key_gives_what_building_from_scratch_gives(tmp_path, before, after):
    kafka = FakeKafka()
    kafka.create("t", 1)
    for number in range(30):
        send(kafka, value(f"o{number % 3}", f"{number % 2}.00", number), 1 + 60 * (number % 2))
    lake, whole = Lake(str(tmp_path / "lake")), Lake(str(tmp_path / "whole"))
    both(lake, kafka, before, HOURS[:2])
    for tile in HOURS[:2]:
        decide(lake, after, [tile])
    both(whole, kafka, after, HOURS[:2])
    columns = {"silver": [], "quarantine": [], "losers": [] if after is TWO else ["amount"]}
    assert_same(
        {name: rows.drop(columns[name], strict=False) for name, rows in state(lake, after).items()},
        state(whole, after),
    )
    prove(lake, after)
