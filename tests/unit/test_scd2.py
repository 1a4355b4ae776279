"""Each rule of the fold by itself, and what the check of intervals finds."""

from datetime import UTC, datetime

import pandera.polars as pa
import polars as pl
import pytest
from changes import changes_of, silver_rows

from sluice.history.scd2 import fold, forbidden_nulls, intervals_broken

COLUMNS = {"id": int, "seq": int, "at": int, "a": str, "note": str}


def stream(**options):
    defaults = {"sequence": "seq", "valid_from": "at", "track": ("a",), "history": True}
    return changes_of(COLUMNS, **(defaults | options))


def change(seq, at, a=None, note=None, **more):
    return {"id": 1, "seq": seq, "at": at, "a": a, "note": note} | more


def versions(rows, contract=None, names=("valid_from", "valid_to", "a")):
    contract = contract or stream()
    return fold(silver_rows(contract, rows), contract).select(names).rows()


def test_intervals_are_half_open_and_touch():
    assert versions([change(1, 10, "x"), change(2, 20, "y")]) == [(10, 20, "x"), (20, None, "y")]


def test_changes_count_in_the_order_of_their_sequence_not_of_arrival():
    assert versions([change(2, 20, "y"), change(1, 10, "x")]) == [(10, 20, "x"), (20, None, "y")]


def test_of_equal_sequences_the_greater_coordinate_wins():
    assert versions([change(1, 10, "x"), change(1, 10, "y")]) == [(10, None, "y")]
    assert versions([change(1, 10, "x", _epoch=2), change(1, 10, "y")]) == [(10, None, "x")]


def test_a_version_begins_at_the_running_maximum():
    rows = [change(1, 10, "x"), change(2, 30, "y"), change(3, 20, "z"), change(4, 40, "w")]
    assert versions(rows) == [(10, 30, "x"), (30, 40, "z"), (40, None, "w")]  # y is superseded


def test_what_was_read_began_no_later_than_the_change_after_it():
    rows = [change(1, 10, "x"), change(2, 25, "x", _op="r"), change(3, 20, "y"), change(4, 40, "w")]
    assert versions(rows) == [(10, 20, "x"), (20, 40, "y"), (40, None, "w")]
    rows = [change(1, 10, "x"), change(2, 25, "seen", _op="r"), change(3, 30, "y"), change(4, 40, "y")]
    assert versions(rows) == [(10, 25, "x"), (25, 30, "seen"), (30, None, "y")]


def test_of_equal_beginnings_the_last_counts():
    assert versions([change(1, 10, "x"), change(2, 10, "y"), change(3, 10, "z")]) == [(10, None, "z")]


def test_neighbours_equal_in_tracked_columns_are_one_and_show_the_last_values():
    rows = [change(1, 10, "x", "n"), change(2, 20, "x", "m"), change(3, 30, "y", "l")]
    names = ("valid_from", "valid_to", "a", "note", "seq", "version")
    assert versions(rows, names=names) == [(10, 30, "x", "m", 2, 1), (30, None, "y", "l", 3, 2)]


def test_all_but_key_sequence_and_valid_from_are_tracked_by_default():
    rows = [change(1, 10, "x", "n"), change(2, 20, "x", "n"), change(3, 30, "x", "m")]
    assert versions(rows, stream(track=None)) == [(10, 30, "x"), (30, None, "x")]


@pytest.mark.parametrize(("left", "right", "count"), [(None, None, 1), (None, "x", 2), ("x", None, 2)])
def test_null_equals_null_only(left, right, count):
    assert len(versions([change(1, 10, left), change(2, 20, right)])) == count


@pytest.mark.parametrize("dtype", [float, pl.List(pl.Float64), pl.Struct({"x": pl.Float64})])
def test_nan_equals_nan(dtype):
    nan = float("nan")
    value = {float: nan}.get(dtype, [nan] if isinstance(dtype, pl.List) else {"x": nan})
    contract = changes_of({"id": int, "seq": int, "v": dtype}, sequence="seq", history=True)
    assert len(versions([{"id": 1, "seq": n, "v": value} for n in (1, 2)], contract, ("v",))) == 1


def test_a_delete_closes_and_a_later_change_opens_again():
    rows = [change(1, 10, "x"), change(2, 20, _op="d"), change(3, 30, "x"), change(4, 40, _op="d")]
    assert versions(rows) == [(10, 20, "x"), (30, 40, "x")]


def test_a_delete_that_comes_first_waits():
    assert versions([change(2, 20, _op="d")]) == []
    assert versions([change(2, 20, _op="d"), change(1, 10, "x")]) == [(10, 20, "x")]
    assert versions([change(2, 20, _op="d"), change(3, 30, "x")]) == [(30, None, "x")]


def test_a_delete_at_the_beginning_leaves_nothing():
    assert versions([change(1, 10, "x"), change(2, 10, _op="d")]) == []


def test_a_truncate_closes_every_key_before_its_position():
    truncate = change(5, 50, _op="t", id=None)
    rows = [
        change(1, 10, "x"),
        change(2, 20, "y", id=2),
        truncate,
        change(6, 60, "z"),
        change(7, 70, "w", id=3),
    ]
    assert versions(rows, names=("id", "valid_from", "valid_to", "a")) == [
        (1, 10, 50, "x"),
        (1, 60, None, "z"),
        (2, 20, 50, "y"),
        (3, 70, None, "w"),
    ]


def test_a_truncate_spares_what_has_its_position():
    assert versions([change(5, 50, _op="t", id=None), change(5, 50, "x")]) == [(50, None, "x")]


def test_an_image_deletes_what_it_lacks():
    contract = stream(snapshot="seq", sequence="seq", track=("a",))
    rows = [change(1, 10, "x"), change(1, 10, "y", id=2), change(2, 20, "y", id=2), change(3, 30, "x")]
    names = ("id", "valid_from", "valid_to", "a")
    assert versions(rows, contract, names) == [(1, 10, 20, "x"), (1, 30, None, "x"), (2, 10, 30, "y")]


def test_what_an_image_lacks_ends_with_the_last_of_its_rows_to_begin():
    """Rows say themselves since when they are valid: none may vanish from history."""
    contract = stream(snapshot="seq", sequence="seq", track=("a",))
    rows = [change(1, 10, "x"), change(1, 50, "y", id=2), change(2, 10, "x"), change(2, 90, "z", id=3)]
    names = ("id", "valid_from", "valid_to", "a")
    assert versions(rows, contract, names) == [(1, 10, None, "x"), (2, 50, 90, "y"), (3, 90, None, "z")]


def test_rows_of_an_image_began_when_they_say_whatever_ends_them():
    rows = [change(1, 10, "x", _op="r"), change(2, 30, "y", _op="r"), change(3, 20, _op="d")]
    assert versions(rows, stream(snapshot="seq")) == [(10, 30, "x")]  # y ended as it began


def test_ignored_nulls_keep_the_old_value_but_not_beyond_a_delete():
    rows = [
        change(1, 10, "x", "n"),
        change(2, 20, None, "m"),
        change(3, 30, _op="d"),
        change(4, 40, None, None),
    ]
    names = ("valid_from", "valid_to", "a", "note")
    assert versions(rows, stream(ignore_null=True), names) == [(10, 30, "x", "m"), (40, None, None, None)]
    named = versions(rows[:2], stream(ignore_null=("a",)), names)
    assert named == [(10, None, "x", "m")]
    assert versions(rows[:2], names=names) == [(10, 20, "x", "n"), (20, None, None, "m")]


def test_unavailable_values_are_those_of_the_newest_earlier_change():
    rows = [
        change(3, 30, None, "p", _unavailable=["a"]),
        change(1, 10, "x", "n"),
        change(2, 20, None, "m"),
        change(4, 40, "y", None, _unavailable=["note"]),
    ]
    names = ("valid_from", "a", "note")
    assert versions(rows, stream(track=None), names) == [
        (10, "x", "n"),
        (20, None, "m"),
        (30, None, "p"),
        (40, "y", "p"),
    ]


def test_a_key_that_changed_twice_keeps_its_unsent_values():
    def renamed(seq, old, new):
        gone = change(seq, seq, id=old, _op="d", _position=f"{seq} 0")
        came = change(seq, seq, id=new, _op="c", _position=f"{seq} 1")
        return [gone, came | {"_unavailable": ["a"], "_previous_key": f'{{"id": {old}}}'}]

    first = change(1, 1, "x", _position="1 1")
    later = change(4, 4, None, "m", id=3, _unavailable=["a"], _position="4 1")
    rows = [first, *renamed(2, 1, 2), *renamed(3, 2, 3), later]
    names = ("id", "valid_from", "valid_to", "a")
    assert versions(rows, names=names) == [(1, 1, 2, "x"), (2, 2, 3, "x"), (3, 3, None, "x")]


def test_without_history_only_the_latest_image_remains():
    contract = stream(history=False)
    rows = [change(1, 10, "x"), change(2, 20, "y"), change(1, 10, "z", id=2), change(2, 20, id=2, _op="d")]
    assert versions(rows, contract, ("id", "a", "_op")) == [(1, "y", "c")]


def test_keys_of_several_columns_and_no_changes_at_all():
    contract = changes_of(COLUMNS, ("id", "a"), sequence="seq", valid_from="at", history=True)
    rows = [change(1, 10, "x", "n"), change(1, 11, "y", "n"), change(2, 20, "x", "m")]
    assert versions(rows, contract, ("a", "version")) == [("x", 1), ("x", 2), ("y", 1)]
    empty = fold(silver_rows(contract, rows).clear(), contract)
    assert empty.is_empty()
    assert "valid_from" in empty.columns


@pytest.mark.parametrize("dtype", [str, pl.Date, pl.Decimal(10, 2), pl.UInt64])
def test_a_version_may_begin_at_any_orderable_type(dtype):
    values = pl.Series(["1", "3", "2"]).cast(pl.Int32).cast(pl.String if dtype is str else dtype).to_list()
    contract = changes_of(
        COLUMNS | {"at": dtype}, sequence="seq", valid_from="at", history=True, track=("a",)
    )
    rows = [change(n, at, a) for n, (at, a) in enumerate(zip(values, "xyz", strict=True))]
    rows.append(change(9, values[1], id=None, _op="t"))
    begins = fold(silver_rows(contract, rows), contract)["valid_from"]
    assert len(begins) == 1  # the truncate at the same moment supersedes z, which superseded y
    assert begins[0] == silver_rows(contract, rows)["_valid_from"][0]


def test_a_key_in_two_kafka_partitions_is_ordered_by_time_then_offset():
    def at(second, partition, offset, a, key=1):
        stamp = datetime.fromtimestamp(second, UTC)
        return {
            "id": key,
            "a": a,
            "_timestamp": stamp,
            "_valid_from": stamp,
            "_partition": partition,
            "_offset": offset,
        }

    contract = changes_of({"id": int, "a": str}, history=True)
    moved = [at(5, 0, 100, "x"), at(6, 1, 3, "y")]
    stayed = [at(9, 0, 1, "p", 2), at(8, 0, 2, "q", 2)]  # clocks go back, offsets do not
    rows = fold(silver_rows(contract, moved + stayed), contract)
    assert rows.filter(pl.col("id") == 1)["a"].to_list() == ["x", "y"]
    assert rows.filter(pl.col("is_current")).sort("id")["a"].to_list() == ["y", "q"]


GOOD = [change(1, 10, "x"), change(2, 20, "y"), change(3, 30, _op="d"), change(4, 40, "y")]
FAULTS = {
    "a version without a beginning": {"valid_from": [None, 20, 40]},
    "an empty or turned interval": {"valid_to": [10, 30, None]},
    "versions that overlap": {"valid_to": [25, 30, None]},
    "a version after the open one": {"valid_to": [None, 30, None]},
    "is_current that contradicts valid_to": {"is_current": [True, False, True]},
    "versions that are not numbered 1, 2, …": {"version": [1, 2, 4]},
    "neighbours that do not differ": {"a": ["y", "y", "y"]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_names_what_is_broken(fault):
    good = fold(silver_rows(stream(), GOOD), stream())
    assert intervals_broken(good, ("id",), history=True, track=("a",)).is_empty()
    broken = good.with_columns(
        pl.Series(name, values, dtype=good.schema[name]) for name, values in FAULTS[fault].items()
    )
    assert fault in intervals_broken(broken, ("id",), history=True, track=("a",))["broken"].to_list()


def test_an_image_with_a_key_twice_is_broken():
    contract = stream(history=False)
    image = fold(silver_rows(contract, GOOD), contract)
    assert intervals_broken(pl.concat([image, image]), ("id",), history=False)["id"].to_list() == [1]


def test_nulls_that_the_contract_forbids_are_found_in_the_folded_image():
    """A value that nothing sent: no change alone could be refused for it."""

    class Named(pa.DataFrameModel):
        id: int
        seq: int
        name: str
        city: str = pa.Field(nullable=True)

    contract = changes_of({}, schema=Named, sequence="seq", ignore_null=True, history=True)
    rows = [
        {"id": 1, "seq": 1, "name": "x", "city": None},
        {"id": 1, "seq": 2, "name": None, "city": "here"},
        {"id": 2, "seq": 3, "name": None, "city": "here"},
    ]
    folded = fold(silver_rows(contract, rows), contract).lazy()
    assert forbidden_nulls(folded, contract).collect().rows() == [(2, ["name"])]
    alone = changes_of({}, schema=Named, key=("id", "seq", "name"), sequence="seq")
    assert forbidden_nulls(folded, alone).collect().is_empty()


def test_keys_of_one_and_of_two_kafka_partitions_may_carry_different_things():
    """Unsent values among the one, changes of key among the others."""
    contract = changes_of({"id": int, "a": str}, history=True)
    moved = [
        {"id": 1, "a": "x", "_partition": 0},
        {"id": 1, "a": None, "_partition": 1, "_unavailable": ["a"], "_previous_key": '{"id": 2}'},
    ]
    stayed = [{"id": 2, "a": "p", "_partition": 0}, {"id": 2, "a": "q", "_partition": 0}]
    rows = fold(silver_rows(contract, moved + stayed), contract)
    assert rows.select("id", "a").rows() == [(2, "p"), (2, "q"), (1, "x")]
