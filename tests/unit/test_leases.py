"""Leases: who is alive, whose partitions are whose, and how little moves when one comes or goes."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from assets.leases import WORKERS_TABLE, Leases, followed
from resources.lake import Lake

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PARTITIONS = range(64)
names = st.text("abcdef0123456789", min_size=4, max_size=8)


def seconds(count: float) -> datetime:
    return NOW + timedelta(seconds=count)


def test_alone_a_worker_has_all(lake):
    one = Leases(lake, "one", ["s"])
    one.beat(NOW)
    assert one.mine("s", PARTITIONS) == set(PARTITIONS)
    assert one.leads("s")


def test_workers_share_and_agree(lake):
    workers = [Leases(lake, name, ["s"]) for name in ("one", "two", "three")]
    for worker in workers * 2:
        worker.beat(NOW)
    shares = [worker.mine("s", PARTITIONS) for worker in workers]
    assert sorted(p for share in shares for p in share) == list(PARTITIONS)
    assert all(shares)
    assert [worker.leads("s") for worker in workers].count(True) == 1


def test_one_that_is_silent_is_taken_over_when_its_lease_ends(lake):
    one, two = Leases(lake, "one", ["s"]), Leases(lake, "two", ["s"])
    two.beat(NOW)
    one.beat(seconds(1))
    assert one.mine("s", PARTITIONS) < set(PARTITIONS)
    one.beat(seconds(9.9))
    assert one.mine("s", PARTITIONS) < set(PARTITIONS)
    one.beat(seconds(10.1))
    assert one.mine("s", PARTITIONS) == set(PARTITIONS)
    two.beat(seconds(11))  # it was only asleep
    one.beat(seconds(12))
    assert one.mine("s", PARTITIONS) | two.mine("s", PARTITIONS) == set(PARTITIONS)
    assert not one.mine("s", PARTITIONS) & two.mine("s", PARTITIONS)


def test_one_that_leaves_is_taken_over_at_the_next_beat(lake):
    one, two = Leases(lake, "one", ["s"]), Leases(lake, "two", ["s"])
    two.beat(NOW)
    two.beat(seconds(1), last=True)
    one.beat(seconds(1))
    assert one.mine("s", PARTITIONS) == set(PARTITIONS)


def test_streams_are_shared_apart(lake):
    both, one = Leases(lake, "both", ["s", "t"]), Leases(lake, "one", ["s"])
    one.beat(NOW)
    both.beat(NOW)
    assert both.mine("t", PARTITIONS) == set(PARTITIONS)
    assert both.mine("s", PARTITIONS) < set(PARTITIONS)


def test_a_clock_put_back_ends_no_run(lake):
    one = Leases(lake, "one", ["s"])
    one.beat(NOW)
    one.beat(seconds(-3600))
    assert one.mine("s", PARTITIONS) == set(PARTITIONS)


def test_a_beat_writes_no_rows(lake):
    one = Leases(lake, "one", ["s"])
    for beat in range(3):
        one.beat(seconds(beat))
    handle = lake.open(WORKERS_TABLE.name)
    assert handle is not None
    assert handle.file_uris() == []


@given(st.sets(names, min_size=2, max_size=6))
def test_who_goes_moves_its_own_share_only(workers):
    """Rendezvous hashing: the others keep what they had."""
    lake = Lake("nowhere")
    gone = min(workers)

    def shares(alive):
        return {w: Leases(lake, w, ["s"], alive={"s": alive}).mine("s", PARTITIONS) for w in alive}

    before, after = shares(workers), shares(workers - {gone})
    assert all(before[w] <= after[w] for w in after)
    assert set.union(*after.values()) == set(PARTITIONS)


def test_others_see_which_streams_are_followed(lake):
    assert followed(lake, NOW) == {}
    Leases(lake, "one", ["s", "t"]).beat(NOW)
    Leases(lake, "two", ["s"]).beat(seconds(5))
    assert followed(lake, seconds(6)) == {"s": {"one", "two"}, "t": {"one"}}
    assert followed(lake, seconds(12)) == {"s": {"two"}}
