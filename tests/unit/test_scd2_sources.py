"""What a source's server and log mean for the fold: epochs, and what stands before them."""

import json
import random

import polars as pl
import pytest
from changes import bronze, decoded_silver
from source_changes import my, of_key, orders, pg, stream

from sluice.decode_changes import decode_changes
from sluice.history.scd2 import fold


def test_places_that_go_back_as_the_clock_goes_on_are_a_new_epoch():
    """PostgreSQL after a failover or a restore: no server is named, but LSNs begin anew."""
    events = [pg(1000, 1, "a", 10), pg(1100, 1, "b", 20), pg(500, 1, "c", 60), pg(600, 1, "d", 70)]
    assert of_key(orders(events)) == ["a", "b", "c", "d"]


def test_what_is_delivered_again_is_no_new_epoch():
    """Offsets set back: lower places with their old times."""
    told = [pg(lsn, 1, v, at) for lsn, v, at in ((100, "a", 10), (200, "b", 20), (300, "c", 30))]
    assert of_key(orders([*told, *told[1:], *told])) == ["a", "b", "c"]
    assert of_key(orders([told[0], told[2], told[1]])) == ["a", "b", "c"]  # or late


def test_a_clock_that_goes_back_is_no_new_epoch():
    assert of_key(orders([pg(100, 1, "a", 10), pg(200, 1, "b", 5), pg(300, 1, "c", 6)])) == ["c"]
    image = fold(
        decoded_silver(stream(), bronze([pg(100, 1, "a", 10), pg(200, 1, "b", 5)])), stream(history=False)
    )
    assert image["v"].to_list() == ["b"]


def test_a_long_snapshot_is_no_new_epoch():
    """Its rows have the place of its beginning, and the later time at which they were read."""
    events = [pg(100, 1, "a", 7200, "r", "true"), pg(200, 1, "b", 3600)]
    assert of_key(orders(events))[-1] == "b"


def test_what_was_open_as_a_snapshot_was_taken_comes_after_it():
    """Its place is before the snapshot's; that it was committed later, its time tells."""
    read = [pg(100, key, "old", 10, "r", mark) for key, mark in ((1, "first"), (2, "last"))]
    opened = [pg(90, 1, "new", 11), pg(91, 3, "born", 11, "c"), pg(92, 2, "old", 11, "d")]
    answer = orders([*read, *opened])
    assert [(key, value) for key, value, current in answer if current] == [(1, "new"), (3, "born")]


@pytest.mark.parametrize("later", [[], [pg(90, 3, "on", 60)]])  # the second: places go back
def test_a_snapshot_without_a_key_does_not_date_its_first_change(later):
    """It was read after the change was committed, and stands before it; found with a real PostgreSQL."""
    read = [pg(4000, key, "old", 12, "r", mark) for key, mark in ((1, "first"), (2, "last"))]
    rows = decoded_silver(stream(), bronze([*read, pg(5000, 3, "born", 11, "c"), *later]))
    born = fold(rows, stream()).filter(id=3)
    assert [at.timestamp() for at in born["valid_from"]] == [11, *(60 for _ in later)]


def test_a_change_of_key_takes_unsent_values_over_from_another_server():
    def renamed(old, new, lsn, at):
        header = [{"key": "__debezium.oldkey", "value": json.dumps({"id": old}).encode()}]
        gone, came = pg(lsn, old, None, at, "d"), pg(lsn, new, "__debezium_unavailable_value", at, "c")
        return [(gone, []), (came, header)]

    events = [(pg(5000, 1, "kept", 10), []), *renamed(1, 2, 900, 90), *renamed(2, 3, 1000, 95)]
    events += [(pg(1100, 3, "__debezium_unavailable_value", 99), []), (pg(6000, 9, "x", 5), [])]
    records = bronze([event for event, _ in events], headers=[headers for _, headers in events])
    rows = decoded_silver(stream(), records)
    told = fold(rows.sample(fraction=1.0, shuffle=True, seed=3), stream()).sort("id")
    assert told.select("id", "v", "is_current").rows() == [
        (1, "kept", False),
        (2, "kept", False),
        (3, "kept", True),
        (9, "x", True),
    ]


def test_a_late_change_of_the_old_server_stays_in_its_epoch():
    events = [pg(1000, 1, "a", 10), pg(500, 1, "c", 60), pg(1100, 1, "b", 20)]
    assert of_key(orders(events)) == ["a", "b", "c"]


def test_another_server_is_a_new_epoch_also_within_a_second():
    """MySQL's clock has seconds; its server ids differ."""
    events = [my(1, 42, 100, 1, "a", 10), my(1, 42, 200, 1, "b", 10), my(2, 1, 4, 1, "c", 10)]
    assert of_key(orders(events, "mysql"))[-1:] == ["c"]
    events = [my(0, 42, 100, 1, "a", 9, "r", snapshot="true"), my(1, 42, 100, 1, "b", 10), *events[2:]]
    assert of_key(orders(events, "mysql"))[-1:] == ["c"]


def test_servers_go_there_and_back():
    events = [
        my(1, 5, 4, 1, "a", 10),
        my(2, 2, 4, 1, "b", 20),
        my(1, 6, 4, 1, "c", 30),
        my(1, 6, 9, 1, "d", 40),
    ]
    assert of_key(orders(events, "mysql")) == ["a", "b", "c", "d"]


def test_gtids_name_the_server_where_binlogs_are_relayed():
    events = [
        my(1, 9, 4, 1, "a", 10, gtid="aaaa:1-5"),
        my(1, 9, 8, 1, "b", 10, gtid="aaaa:6"),
        my(1, 2, 4, 1, "c", 10, gtid="bbbb:1"),
    ]
    assert of_key(orders(events, "mysql"))[-1:] == ["c"]


def test_binlog_names_that_begin_anew_on_the_same_server():
    events = [my(1, 42, 100, 1, "a", 10), my(1, 1, 4, 1, "b", 20), my(1, 1, 9, 1, "c", 30)]
    assert of_key(orders(events, "mysql")) == ["a", "b", "c"]


def test_truncates_and_deletes_keep_their_place_between_epochs():
    events = [
        pg(1000, 1, "a", 10),
        pg(1000, 2, "x", 10),
        pg(1200, None, None, 20, "t"),
        pg(1300, 1, "b", 30),
        pg(500, 1, "c", 60),
        pg(600, 1, "c", 70, "d"),
        pg(700, 1, "d", 80),
    ]
    folded = fold(decoded_silver(stream(), bronze(events)), stream())
    seconds = [
        (v, b.timestamp(), e and e.timestamp())
        for v, b, e in folded.filter(pl.col("id") == 1).select("v", "valid_from", "valid_to").rows()
    ]
    assert seconds == [("a", 10, 20), ("b", 30, 60), ("c", 60, 70), ("d", 80, None)]
    assert of_key(orders(events), 2) == ["x"]


def test_a_place_that_is_not_told_is_that_in_kafka():
    """Some rows without a position, beside others of the same key."""
    bare = {"op": "u", "source": {}, "before": None, "after": {"id": 1, "v": "b"}}
    events = [pg(5 * 10**12, 1, "a", 0), bare, pg(6 * 10**12, 1, "c", 2)]
    assert of_key(orders(events)) == ["a", "b", "c"]


def test_a_place_that_cannot_be_read_is_refused():
    decoded = decode_changes(stream(), bronze([pg("soon", 1, "a", 10)]))
    assert decoded.failures.select("stage", "column").rows() == [("key", None)]
    assert "source.lsn" in decoded.failures["reason"][0]


def test_a_hot_key_with_a_clock_that_trembles_is_folded_in_time():
    """100,000 changes of one key, some delivered late: no step may be quadratic."""
    rng = random.Random(1)  # noqa: S311  # a seeded test
    size = 100_000
    lsn = pl.int_range(size, eager=True)
    noise = pl.Series([0 if n % 100 == 7 else rng.randrange(3000) for n in range(size)])
    few = bronze([pg(1, 1, "v", 1)])
    row = decoded_silver(stream(), few)
    rows = pl.concat([row] * size).with_columns(
        _position=pl.format("{} 2", lsn.cast(pl.String).str.zfill(20)),
        _offset=pl.when(lsn % 100 == 7).then(lsn + 5 * size).otherwise(lsn),
        v=lsn.cast(pl.String),
    )
    at = pl.lit((lsn * 1000 + noise).cast(pl.Datetime("ms", "UTC")).cast(pl.Datetime("us", "UTC")))
    rows = rows.with_columns(
        pl.col("_source").struct.with_fields(at.alias("committed_at")), at.alias("_valid_from")
    )
    image = fold(rows, stream(history=False))
    assert image["v"].to_list() == [str(size - 1)]
