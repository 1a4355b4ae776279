"""The fold against Spark's AUTO CDC, SCD type 2: the situations of its own tests, and what they expect.

`u` tells a row at a sequence, `d` a delete. The facts are restated; where two changes of one sequence differ,
Spark lets a delete win or leaves it open, and we let the later one in Kafka win, as everywhere.
"""

import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver

from sluice.history.scd2 import fold

COLUMNS = {"id": int, "v": str, "seq": int}
CASES = {
    "inserting a new key opens a record": ("u1a10", "1a10-"),
    "two updates close the first": ("u1a10 u1b20", "1a10-20 1b20-"),
    "an insert and a later delete": ("u1a10 d120", "1a10-20"),
    "insert, update, delete and re-insert": ("u1a10 u1b20 d130 u1c40", "1a10-20 1b20-30 1c40-"),
    "repeating a value keeps one record": ("u1a10 u1a20", "1a10-"),
    "deleting an unknown key": ("d15", ""),
    "a late event older than all history": ("u1a10 u1b5", "1b5-10 1a10-"),
    "a late update inside a record splits it": ("u1a10 u1c20 u1b15", "1a10-15 1b15-20 1c20-"),
    "a late delete inside a record shortens it": ("u1a10 u1b30 d120", "1a10-20 1b30-"),
    "a late delete before the last end": ("u1a10 d120 d115", "1a10-15"),
    "two late events split two records": (
        "u1a1 u1b5 u1c10 u1d20 u1x7 u1y15",
        "1a1-5 1b5-7 1x7-10 1c10-15 1y15-20 1d20-",
    ),
    "re-inserting after a delete of the unknown": ("d120 u1x30", "1x30-"),
    "a repeated value stays one until it changes": ("u1a10 u1a20 u1b30", "1a10-30 1b30-"),
    "a late event within an unchanged period": (
        "u1a5 u1a10 u1a15 u1c20 u1b12",
        "1a5-12 1b12-15 1a15-20 1c20-",
    ),
    "a late value equal to its neighbours": ("u1a10 u1b20 u1a5 u1a15", "1a5-20 1b20-"),
    "a late delete within an unchanged period": ("u1a10 u1a30 d120", "1a10-20 1a30-"),
    "duplicates collapse": ("u1a10 u1a10 u1a10", "1a10-"),
    "an upsert, then a delete at its sequence": ("u1a10 d110", ""),
    "a late event before a recorded delete": ("d120 u1x10", "1x10-20"),
    "an event after a deletion leaves the run": ("u1a10 u1a11 d112 u1b20", "1a10-12 1b20-"),
    "keys are independent": ("u1a10 u2p10 u1b20 d220 u3z20", "1a10-20 1b20- 2p10-20 3z20-"),
    "keys build their own history": ("u1a10 u2p10 u1b20 u2p20", "1a10-20 1b20- 2p10-"),
}


def change(text: str) -> dict:
    value = text[2] if text[0] == "u" else None
    return {"id": int(text[1]), "v": value, "seq": int(text[3 if value else 2 :]), "op": text[0]}


def folded(texts: list[str]) -> str:
    stream = changes_of(
        COLUMNS, sequence="seq", valid_from="seq", delete_when=pl.col("op") == "d", history=True
    )
    rows = fold(decoded_silver(stream, bronze([change(text) for text in texts])), stream)
    versions = rows.select("id", "v", "valid_from", "valid_to").rows()
    return " ".join(f"{i}{v}{begin}-{'' if end is None else end}" for i, v, begin, end in versions)


@pytest.mark.parametrize("name", CASES)
def test_auto_cdc(name):
    told, expected = CASES[name]
    changes = told.split()
    assert folded(changes) == expected
    assert folded(changes + changes) == expected
    if "at its sequence" not in name:  # there the order in Kafka decides
        assert folded(changes[::-1]) == expected


def test_a_closed_run_of_untracked_changes_holds_the_last_values():
    columns = {"id": int, "name": str, "score": int, "seq": int}
    stream = changes_of(columns, sequence="seq", valid_from="seq", track=("name",), history=True)
    told = [("alice", 39, 39), ("alice", 41, 41), ("bob", 42, 42), ("carol", 43, 43)]
    rows = [{"id": 1, "name": name, "score": score, "seq": seq} for name, score, seq in told]
    versions = fold(decoded_silver(stream, bronze(rows[::-1])), stream)
    assert versions.select("name", "score", "valid_from", "valid_to").rows() == [
        ("alice", 41, 39, 42),
        ("bob", 42, 42, 43),
        ("carol", 43, 43, None),
    ]


PROFILE = pl.Struct({"name": pl.String, "age": pl.Int64})


def kept(values: list, dtype=PROFILE, ignore_null=True) -> list:
    """Fold values told one after the other, null where not sent."""
    columns = {"id": int, "seq": int, "v": dtype, "w": str}
    stream = changes_of(columns, sequence="seq", valid_from="seq", ignore_null=ignore_null, history=True)
    rows = [{"id": 1, "seq": n, "v": value, "w": str(n)} for n, value in enumerate(values)]
    return fold(decoded_silver(stream, bronze(rows[::-1])), stream)["v"].to_list()


def test_ignored_nulls_inside_structs_keep_the_old_values():
    """Each leaf by itself."""
    values = [{"name": "A", "age": 1}, {"name": None, "age": 2}, {"name": "B"}, None]
    assert kept(values) == [
        {"name": "A", "age": 1},
        {"name": "A", "age": 2},
        {"name": "B", "age": 2},
        {"name": "B", "age": 2},
    ]
    assert kept(values, ignore_null=("v",)) == kept(values)
    deep = pl.Struct({"a": pl.Struct({"x": pl.Int64, "y": pl.Int64}), "b": pl.Int64})
    assert kept([{"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"x": 9}}], deep)[1] == {
        "a": {"x": 9, "y": 2},
        "b": 3,
    }


def test_a_struct_that_was_never_sent_stays_null():
    assert kept([None, None, {"name": "A"}]) == [None, None, {"name": "A", "age": None}]


def test_a_struct_of_nulls_that_was_sent_is_kept():
    assert kept([{}, None, {"name": "A"}]) == [
        {"name": None, "age": None},
        {"name": None, "age": None},
        {"name": "A", "age": None},
    ]


def test_lists_are_kept_whole():
    assert kept([[1, 2], None, [3, None]], pl.List(pl.Int64)) == [[1, 2], [1, 2], [3, None]]


def test_without_ignore_null_a_null_inside_is_a_value():
    assert kept([{"name": "A", "age": 1}, {"age": 2}], ignore_null=False)[1] == {"name": None, "age": 2}
