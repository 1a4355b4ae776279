"""What a source's snapshots, truncates and tables mean for the fold: what is lacking is deleted."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver
from source_changes import of_key, orders, pg, stream

from sluice.dedupe import identity
from sluice.history.closers import closers
from sluice.history.scd2 import fold


def snapshot(lsn, rows, at, marks=("first", "true", "last"), table="t"):
    first, middle, last = marks
    names = [first, *[middle] * (len(rows) - 2), last]
    return [pg(lsn, key, v, at, "r", mark, table) for (key, v), mark in zip(rows, names, strict=True)]


FIRST = snapshot(100, [(1, "a"), (2, "b"), (3, "c")], 10)


def test_a_snapshot_that_runs_again_changes_nothing():
    again = snapshot(900, [(1, "a"), (2, "b"), (3, "c")], 90)
    once = fold(decoded_silver(stream(), bronze(FIRST)), stream())
    twice = fold(decoded_silver(stream(), bronze([*FIRST, *again])), stream())
    assert twice.drop("_position").equals(once.drop("_position"))


def test_a_snapshot_that_runs_again_at_its_place_changes_nothing():
    """Nothing was written meanwhile: the log is where it was, only the clock went on."""
    again = snapshot(100, [(1, "a"), (2, "b"), (3, "c")], 90)
    once = fold(decoded_silver(stream(), bronze(FIRST)), stream())
    twice = fold(decoded_silver(stream(), bronze([*FIRST, *again])), stream())
    assert twice.drop("_position").equals(once.drop("_position"))


def test_a_snapshot_that_tells_the_place_of_the_first_one_comes_after_what_was_streamed():
    """A blocking snapshot of PostgreSQL tells where its task began to read the log."""
    told = [*FIRST, pg(110, 1, "A", 20), pg(120, 2, "b", 30, "d"), pg(130, 4, "d", 40, "c")]
    again = snapshot(100, [(1, "A"), (3, "c"), (4, "d")], 90)
    answer = [(1, "a", False), (1, "A", True), (2, "b", False), (3, "c", True), (4, "d", True)]
    assert sorted(orders([*told, *again])) == [(1, "A", True), (1, "a", False), *answer[2:]]
    assert of_key(orders([*told, *again, pg(140, 1, "a2", 95)])) == ["a", "A", "a2"]


@pytest.mark.parametrize(
    "marks",
    [("first", "true", "last"), ("first_in_data_collection", "true", "last_in_data_collection")],
)
def test_what_a_complete_snapshot_lacks_is_deleted_at_its_position(marks):
    again = snapshot(900, [(1, "a"), (3, "C")], 90, marks)
    later = [pg(950, 2, "B", 95, "c")]
    folded = fold(decoded_silver(stream(), bronze([*FIRST, *again])), stream())
    ends = folded.select("id", "v", pl.col("valid_to").dt.epoch("s")).rows()
    assert ends == [(1, "a", None), (2, "b", 90), (3, "c", 90), (3, "C", None)]
    assert orders([*FIRST, *again, *later])[1:3] == [(2, "b", False), (2, "B", True)]
    assert orders([*again, *FIRST]) == orders([*FIRST, *again])


@pytest.mark.parametrize("marks", [("first", "true", "true"), ("true", "true", "last"), ("true",) * 3])
def test_an_incomplete_snapshot_deletes_nothing(marks):
    again = snapshot(900, [(1, "a"), (3, "c")], 90, marks)
    assert [key for key, _, current in orders([*FIRST, *again]) if current] == [1, 2, 3]


def test_incremental_rows_delete_nothing_and_come_after_what_they_were_read_with():
    again = [pg(900, 1, "A", 90, "r", "incremental"), pg(900, 1, "z", 90), pg(901, 1, "Z", 91)]
    assert of_key(orders([*FIRST, *again])) == ["a", "A", "Z"]
    assert [key for key, _, current in orders([*FIRST, *again]) if current] == [1, 2, 3]


def test_what_was_streamed_after_a_snapshot_began_is_not_deleted_by_it():
    born = pg(901, 9, "new", 85, "c")  # committed as the snapshot read, by a clock before it
    again = snapshot(900, [(1, "a"), (2, "b"), (3, "c")], 90)
    folded = fold(decoded_silver(stream(), bronze([*FIRST, *again, born])), stream())
    mine = folded.filter(pl.col("id") == 9)
    assert mine.select(pl.col("valid_from").dt.epoch("s"), "is_current").rows() == [(85, True)]


def test_snapshots_and_truncates_speak_of_their_own_table():
    """Shards of one table in one topic."""
    other = [pg(50, 7, "o", 5, table="u"), pg(60, 8, "p", 6, table="u")]
    again = snapshot(900, [(1, "a"), (2, "b")], 90)
    truncate = pg(950, None, None, 95, "t", table="u")
    current = [key for key, _, current in orders([*other, *FIRST, *again]) if current]
    assert current == [1, 2, 7, 8]
    current = [key for key, _, current in orders([*other, *FIRST, *again, truncate]) if current]
    assert current == [1, 2]


def test_one_truncate_of_several_tables_is_told_for_each():
    """Of one statement, at one place; a table is none of them."""
    told = [pg(50, 1, "a", 5, table="t"), pg(51, 2, "b", 5, table="u"), pg(52, 3, "c", 5, table="v")]
    truncates = [pg(60, None, None, 9, "t", table=table) for table in ("t", "u")]
    assert orders([*told, *truncates]) == [(1, "a", False), (2, "b", False), (3, "c", True)]
    silver = decoded_silver(stream(), bronze([*told, *truncates]))
    assert identity(stream()).decide(silver, silver)["_kept"].all()


def test_a_snapshot_of_a_new_server_deletes_what_it_lacks_too():
    old = [pg(5000, 1, "a", 10), pg(5100, 2, "b", 20), pg(5200, 3, "c", 30)]
    new = snapshot(900, [(1, "a2"), (3, "c")], 90)
    answer = orders([*old, *new])
    assert [(key, value) for key, value, current in answer if current] == [(1, "a2"), (3, "c")]


def test_pieces_with_what_ends_their_keys_give_what_the_whole_gives():
    again = snapshot(900, [(1, "a"), (3, "C")], 90)
    events = [*FIRST, *again, pg(950, None, None, 95, "t"), pg(960, 1, "x", 96), pg(961, 2, "y", 97)]
    rows = decoded_silver(stream(), bronze(events))
    marked = pl.col("_source").struct.field("snapshot").is_in(["first", "last"]) | (pl.col("_op") == "t")
    ends = closers(rows.filter(marked), stream())
    pieces = [fold(rows.filter(pl.col("id") == key), stream(), ends) for key in (1, 2, 3)]
    assert pl.concat(pieces).equals(fold(rows, stream()))


def test_every_order_of_a_small_history_gives_the_same():
    events = [
        pg(100, 1, "a", 10, "r", "first"),
        pg(100, 2, "b", 10, "r", "last"),
        pg(150, 2, "b2", 15),
        pg(200, 1, "a3", 20, "r", "first"),
        pg(200, 3, "c", 20, "r", "last"),
    ]
    rows = decoded_silver(stream(), bronze([json.dumps(event) for event in events]))
    whole = fold(rows, stream())
    for order in itertools.permutations(range(len(events))):
        assert fold(rows[list(order)], stream()).equals(whole)


def opening(lsn, *told, op="u"):
    """A change of the first transaction after a snapshot: the connector knows no commit before it."""
    return pg(lsn, *told, op, sequence=f'[null,"{lsn}"]')


AGAIN = snapshot(900, [(1, "a"), (2, "b"), (3, "c")], 90)
# Written before the snapshot's place, committed behind it, a little before the snapshot's clock.
OPENING = [
    opening(880, 1, "A", 89.9),
    opening(881, 9, "new", 89.9, op="c"),
    opening(882, 2, "b", 89.9, op="d"),
]


def test_a_transaction_that_was_open_at_the_snapshot_comes_after_it():
    answer = [(1, "a", False), (1, "A", True), (2, "b", False), (3, "c", True), (9, "new", True)]
    assert orders([*FIRST, *AGAIN, *OPENING]) == answer
    later = [pg(950, 9, "newer", 95, sequence='["949","950"]')]
    folded = fold(decoded_silver(stream(), bronze([*FIRST, *AGAIN, *OPENING, *later])), stream())
    of_new = folded.filter(id=9).select("v", (pl.col("valid_from").dt.epoch("ms") / 1000)).rows()
    assert of_new == [("new", 89.9), ("newer", 95.0)]


def test_its_truncate_comes_after_the_snapshot():
    truncate = opening(883, None, None, 89.9, op="t")
    assert [key for key, _, current in orders([*FIRST, *AGAIN, *OPENING, truncate]) if current] == []


# The same of a connector that was there before, and told a snapshot between what it streamed.
KNOWN = [
    pg(880, 1, "A", 89.9, sequence='["870","880"]'),
    pg(881, 9, "new", 89.9, "c", sequence='["870","881"]'),
    pg(882, 2, "b", 89.9, "d", sequence='["870","882"]'),
]


def test_what_was_open_at_a_snapshot_between_streamed_changes_comes_after_it():
    before = [*FIRST, pg(110, 1, "a", 20), pg(120, 3, "c", 30)]
    answer = [(1, "a", False), (1, "A", True), (2, "b", False), (3, "c", True), (9, "new", True)]
    assert orders([*before, *AGAIN, *KNOWN]) == answer
    assert orders([*before, *KNOWN, *AGAIN, *KNOWN])[:2] == [(1, "a", False), (1, "A", False)]  # told before


def test_what_a_snapshot_did_see_leads_to_what_it_shows():
    """A connector that lagged tells it behind the snapshot, all of it, in its order."""
    late = [pg(860, 1, "w", 85, sequence='["850","860"]'), pg(880, 1, "a", 88, sequence='["870","880"]')]
    folded = fold(decoded_silver(stream(), bronze([*FIRST, *AGAIN, *late])), stream())
    told = folded.filter(id=1).select("v", pl.col("valid_from").dt.epoch("s")).rows()
    assert told == [("a", 10), ("w", 85), ("a", 88)]


@pytest.mark.parametrize("told", [[*OPENING, *AGAIN], [*AGAIN, *(pg(*c) for c in [(880, 1, "A", 29.9)])]])
def test_what_kafka_has_before_a_snapshot_or_was_long_before_it_keeps_its_place(told):
    current = {key: value for key, value, is_current in orders([*FIRST, *told]) if is_current}
    assert current == {1: "a", 2: "b", 3: "c"}


def test_an_old_first_transaction_that_is_told_again_keeps_its_place():
    old = opening(110, 1, "old", 12)
    assert of_key(orders([*FIRST, old, *AGAIN, old])) == ["a", "old", "a"]


IMAGES = changes_of({"day": int, "id": int, "v": str}, valid_from="day", snapshot="day", history=True)
DAYS = [[(1, "a"), (2, "b"), (3, "c")], [(1, "a"), (2, "B")], [(1, "A"), (2, "B"), (3, "c"), (4, "d")]]
VERSIONS = [
    (1, "a", 0, 2),
    (1, "A", 2, None),
    (2, "b", 0, 1),
    (2, "B", 1, None),
    (3, "c", 0, 1),
    (3, "c", 2, None),
    (4, "d", 2, None),
]


def of_days(days, **columns):
    """Fold images by their order in Kafka, and in pieces; gives the versions."""
    rows = [{"day": day, "id": key, "v": v} for day in days for key, v in DAYS[day]]
    silver = decoded_silver(IMAGES, bronze(rows, **columns))
    folded = fold(silver, IMAGES)
    ends = closers(silver, IMAGES)
    assert pl.concat([fold(silver.filter(id=key), IMAGES, ends) for key in range(1, 5)]).equals(folded)
    latest = fold(silver, replace(IMAGES, history=False))
    current = folded.filter("is_current").select("id", "v")
    assert latest.select("id", "v").equals(current)
    return folded.select("id", "v", "valid_from", "valid_to").rows()


@pytest.mark.parametrize(
    "days", [[0, 1, 2], [0, 0, 1, 1, 2, 2], [0, 1, 2, 0], [0, 1, 0, 2, 1], [0, 1, 2, 1, 0]]
)
@pytest.mark.parametrize("partitions", [1, 2])
def test_an_image_that_is_told_again_changes_nothing(days, partitions):
    """Nothing but the Kafka log orders them: an image stands where it was told first."""
    size = sum(len(DAYS[day]) for day in days)
    assert of_days(days, partition=[n % partitions for n in range(size)]) == VERSIONS


def test_images_in_several_partitions_that_meet_in_one_millisecond():
    """Offsets of different partitions say nothing of each other."""
    partition, offset = [0, 1, 1, 0, 1, 0, 1, 1, 0], [0, 100, 101, 1, 102, 2, 103, 104, 3]
    second = [0, 1, 2, 2, 3, 4, 4, 5, 6]
    stamps = [datetime.fromtimestamp(at, UTC) for at in second]
    assert of_days([0, 1, 2], partition=partition, offset=offset, timestamp=stamps) == VERSIONS
