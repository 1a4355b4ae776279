"""One stream followed over a Kafka in memory: tiles rolling over, deaths, rivals, jumps, more partitions."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event

import polars as pl
import pytest

from assets import bounds
from assets.flow import Flow, Pace
from assets.upkeep import Upkeep
from resources.lake import Lake
from sluice import tables
from sluice.errors import KafkaReadError, LakeUnreachableError, RetryableError, TopicRecreatedError
from sluice.tables import BUCKETS
from tests.engine import (
    HOURS,
    NOW,
    START,
    assert_same,
    both,
    busy_log,
    dying_everywhere,
    load,
    meeting_everywhere,
    prove,
    send,
    state,
    value,
)
from tests.fake_kafka import FakeKafka
from tests.following import PEOPLE, SMALL, STREAM, TILES, flow, follow, silent


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> dict[str, pl.DataFrame]:
    """Give what a scheduled run makes of the busy log."""
    scheduled = Lake(str(tmp_path_factory.mktemp("scheduled")))
    both(scheduled, busy_log(), STREAM, TILES)
    return state(scheduled, STREAM)


def same(wanted: dict[str, pl.DataFrame]) -> Callable[[Lake], None]:
    def check(lake: Lake) -> None:
        prove(lake, STREAM)
        assert_same(state(lake, STREAM), wanted)

    return check


def test_it_gives_the_tables_of_a_scheduled_run(lake, wanted):
    follow(lake, busy_log())
    same(wanted)(lake)


@pytest.mark.parametrize("after", [False, True])
def test_it_may_die_at_any_commit(tmp_path, wanted, after):
    """The next run goes on from where the tables are (kinesis 16, 40)."""
    start = tmp_path / "start"
    both(Lake(str(start)), busy_log(), STREAM, TILES[:1])
    pace = Pace(interval=0.01, rows=40)
    work = lambda lake: follow(lake, busy_log(), pace=pace)  # noqa: E731
    assert dying_everywhere(start, tmp_path, work, same(wanted), after=after) > 6


@pytest.mark.parametrize("rival", ["scheduled", "continuous"])
def test_it_may_meet_another_run_at_any_commit(tmp_path, wanted, rival):
    """A backfill, or a worker that holds the same partitions (event-streaming 18)."""
    start = tmp_path / "start"
    load(Lake(str(start)), busy_log(), STREAM, TILES[:1])
    pace = Pace(interval=0.01, rows=70)
    work = lambda lake: follow(lake, busy_log(), pace=pace)  # noqa: E731
    other = work if rival == "continuous" else lambda lake: both(lake, busy_log(), STREAM, TILES)
    assert meeting_everywhere(start, tmp_path, work, other, same(wanted)) > 4


def test_the_tile_rolls_over_while_it_runs(lake):
    """Bounds are written before the first record of the next tile is committed."""
    kafka = FakeKafka()
    kafka.create("t")
    clock = [START + timedelta(minutes=30)]
    for minutes in (10, 50):
        send(kafka, value(f"o{minutes}", "1", minutes), minutes)
    stop, seen = Event(), []

    def told(done) -> None:
        """After each commit: an hour later there is another record; after the third, enough."""
        seen.append(done.tiles)
        clock[0] += timedelta(hours=1)
        minutes = 60 * len(seen) + 25
        if len(seen) == 3:
            stop.set()
        else:
            send(kafka, value(f"o{minutes}", "1", minutes), minutes)

    one = Flow(lake, kafka, STREAM, "run", SMALL, clock=lambda: clock[0], say=silent, told=told)
    one.run(stop)
    assert seen == [[HOURS[0]], [HOURS[1]], [HOURS[2]]]
    rows = bounds.stored(lake, STREAM)
    assert rows["next_offset"].to_list() == [2, 3, None]
    Upkeep(lake, one, silent).once()
    prove(lake, STREAM)


def test_tiles_that_bronze_has_are_not_read_again(lake):
    kafka, read = busy_log(), []
    both(lake, kafka, STREAM, TILES[1:3])
    bound = {b.tile: b for b in bounds.known(lake, STREAM, TILES) if b.partition == 0}
    tail = kafka.tail

    def watched(name, places):
        reader = tail(name, places)
        take = reader.take
        reader.take = lambda *given: read.append(dict(reader.positions)) or take(*given)
        return reader

    kafka.tail = watched
    follow(lake, kafka, pace=Pace(interval=0.01, rows=5))
    inside = [at[0] for at in read if bound[TILES[1]].first_offset < at[0] < bound[TILES[2]].next_offset]
    assert len(inside) <= 1  # where a batch of the first tile ended beyond it
    same_as_scheduled = Lake(lake.uri + "-scheduled")
    both(same_as_scheduled, busy_log(), STREAM, TILES)
    same(state(same_as_scheduled, STREAM))(lake)


def test_a_partition_that_was_added_is_followed(lake):
    kafka = busy_log()
    one, stop = flow(lake, kafka), Event()
    upkeep = Upkeep(one.lake, one, silent)

    def told(done) -> None:
        if len(kafka.topics["t"]) == 2:
            send(kafka, value("added", "1", 5), 5, kafka.grow("t"))
            upkeep.once()
        elif any(account.partition == 2 for account in done.accounts):
            stop.set()

    one.told = told
    one.run(stop)
    upkeep.once()
    follow(lake, kafka)
    prove(lake, STREAM)
    assert lake.read(tables.silver(STREAM)).filter(pl.col("_partition") == 2).collect().height == 1


def test_what_upkeep_failed_to_tidy_is_tidied_the_next_time(lake, monkeypatch):
    """Of changes the dimension, too."""
    asked: list[dict[str, set[str]]] = []

    def failing(_lake, _stream, _keeping, among) -> None:
        asked.append(among)
        if len(asked) == 1:
            raise LakeUnreachableError("bronze/people", "there", "it is away")

    monkeypatch.setattr("assets.upkeep.tend", failing)
    one = flow(lake, busy_log(), stream=PEOPLE)
    upkeep = Upkeep(one.lake, one, silent)
    one.told = upkeep.heard
    one.run(Event(), caught_up=True)
    with pytest.raises(LakeUnreachableError):
        upkeep.once()
    for _ in range(2):
        upkeep.once()
    assert asked[0] == asked[1]
    assert set(TILES) <= asked[0]["bronze"]
    assert len(asked[0]["dimensions"]) == BUCKETS
    assert len(asked) == 2


def test_records_lost_before_they_were_read_are_a_hole(lake):
    kafka = busy_log()
    bounds.ensure(lake, kafka, STREAM, TILES, NOW)
    kafka.expire("t", 0, 9)
    follow(lake, kafka)
    told = lake.read(tables.LEDGER_TABLE).filter(pl.col("layer") == "bronze").collect()
    assert told["holes"].sum() == 9
    prove(lake, STREAM)


def test_an_open_transaction_is_waited_for_and_named(lake):
    kafka, told = busy_log(), []
    kafka.topics["t"][0].stable = 12
    one = flow(lake, kafka)
    one.run(Event(), caught_up=True)
    upkeep = Upkeep(one.lake, one, told.append)
    upkeep.once()
    upkeep.once()
    assert [text for text in told if "producer 7" in text] == told
    assert len(told) == 1
    kafka.topics["t"][0].stable = None
    follow(lake, kafka)
    prove(lake, STREAM)


def test_a_transaction_that_holds_an_open_tile_is_named_once_it_lasts(lake):
    kafka, told = busy_log(), []
    one = flow(lake, kafka, START + timedelta(hours=2, minutes=30))
    one.run(Event(), caught_up=True)
    upkeep = Upkeep(one.lake, one, told.append)
    for stable in (25, 26, 26, 26):
        kafka.topics["t"][0].stable = stable
        upkeep.once()
    assert len(told) == 1
    assert "an open transaction (partition 0 at offset 26: producer 7)" in told[0]


def test_a_topic_made_again_ends_it(lake):
    kafka = busy_log()
    follow(lake, kafka)
    kafka.create("t", 2, "id-2")
    with pytest.raises(TopicRecreatedError, match="epoch=2"):
        follow(lake, kafka)


def test_what_may_pass_is_waited_out_and_no_longer(lake, monkeypatch, wanted):
    monkeypatch.setattr("assets.flow._PAUSE", 0.0)
    kafka, read = busy_log(), busy_log().read
    failures = iter(range(3))

    def failing(*given, **more):
        if next(failures, None) is not None:
            raise KafkaReadError("t", "the broker is away")
        return read(*given, **more)

    kafka.read = failing
    follow(lake, kafka)
    same(wanted)(lake)
    kafka.down = True
    with pytest.raises(RetryableError):
        follow(lake, kafka, pace=Pace(patience=0.05))


def test_it_stops_between_two_commits(lake):
    stop, seen = Event(), []

    def told(_done) -> None:
        seen.append(True)
        stop.set()

    one = flow(lake, busy_log(), told=told)
    one.run(stop)
    assert len(seen) == 1
    follow(lake, busy_log())
    prove(lake, STREAM)
