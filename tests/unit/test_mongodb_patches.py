"""Updates that tell only what changed: what they apply to, in which order, and what they wait for."""

import itertools
import json

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver

from sluice import Debezium, Document
from sluice.decode_changes import decode_changes
from sluice.envelopes.edits import edited
from sluice.history.scd2 import fold

KEY = b'{"id": "1"}'
POINT = pl.Struct({"x": pl.Int64, "y": pl.List(pl.Datetime("ms", "UTC"))})


class Row(pa.DataFrameModel):
    id: int = pa.Field(metadata={"path": "_id"})
    a: str = pa.Field(nullable=True)
    p: POINT = pa.Field(nullable=True)
    many: pl.List(POINT) = pa.Field(nullable=True)
    pair: pl.Array(pl.Int64, 2) = pa.Field(nullable=True)
    blob: Document = pa.Field(nullable=True)


def stream(**options):
    return changes_of({}, value=Debezium("mongodb"), schema=Row, **options)


def event(second, op, after=None, key=1, source=None, **told):
    place = {"connector": "mongodb", "ts_ms": second * 1000, "ord": 1, "collection": "c"} | (source or {})
    value = {"op": op, "source": place, "after": after and json.dumps(after)} | told
    return json.dumps({"id": str(key)}).encode(), json.dumps(value).encode()


def update(second, updated=None, removed=None, cut=None, key=1, source=None):
    described = {"updatedFields": json.dumps(updated or {}), "removedFields": removed, "truncatedArrays": cut}
    return event(second, "u", key=key, source=source, updateDescription=described)


def image(events, of=None, *, names=("a", "p", "many", "blob")):
    """Fold events in every order that they can come in; all must give one image."""
    of = of or stream()
    found = []
    for order in itertools.permutations(range(len(events))):
        records = bronze([value for _, value in events], [key for key, _ in events])[list(order)]
        assert decode_changes(of, records).failures.to_dicts() == []
        found.append(fold(decoded_silver(of, records), of).sort("id").select(names).to_dicts())
    assert all(one == found[0] for one in found)
    return found[0]


WHOLE = {"_id": 1, "a": "x", "p": {"x": 1, "y": [{"$date": 0}, {"$date": 1}]}, "blob": {"b": [1, 2, 3]}}


def test_what_is_not_told_stays_and_what_is_removed_is_null():
    (row,) = image([event(1, "c", WHOLE), update(2, {"blob": 5}), update(3, {}, ["a"])])
    assert (row["a"], row["p"]["x"], row["blob"]) == (None, 1, '{"$numberInt":"5"}')


def test_a_change_inside_a_value():
    events = [
        event(1, "c", WHOLE),
        update(2, {"p.x": {"$numberLong": "2"}, "blob.b.3": {"c": 1}, "many.1.x": 7}),
        update(3, {"p.y.0": {"$date": 5}}, ["blob.b.0"], [{"field": "p.y", "size": 1}]),
        update(4, {"p.unknown": 1}),
    ]
    (row,) = image(events)
    assert row["p"]["x"] == 2
    assert [at.microsecond for at in row["p"]["y"]] == [5000]
    assert row["many"] == [None, {"x": 7, "y": None}]
    numbers = [None, {"$numberInt": "2"}, {"$numberInt": "3"}, {"c": {"$numberInt": "1"}}]
    assert json.loads(row["blob"]) == {"b": numbers}


def test_a_change_of_what_is_not_there_waits_for_it():
    assert image([update(2, {"a": "y"})]) == []
    assert image([update(2, {"a": "y"}), event(1, "c", WHOLE)])[0]["a"] == "y"
    assert image([event(1, "c", WHOLE), event(2, "d"), update(3, {"a": "y"})]) == []
    assert (
        image([event(1, "c", WHOLE), event(2, "d"), update(4, {"a": "y"}), event(3, "c", WHOLE)])[0]["a"]
        == "y"
    )
    assert image([event(1, "c", WHOLE), event(2, "t"), update(3, {"a": "y"})]) == []


def test_changes_of_one_transaction_have_one_time_and_all_count():
    """By their number in the transaction, else by the log."""
    inside = {"lsid": "{}", "txnNumber": 5}
    events = [
        event(1, "c", WHOLE),
        update(2, {"a": "y"}, source=inside),
        update(2, {"p.x": 9}, source=inside),
    ]
    (row,) = image(events)
    assert (row["a"], row["p"]["x"]) == ("y", 9)
    late, early = ({"id": "t", "total_order": order} for order in (2, 1))
    told = {"op": "u", "source": {"connector": "mongodb", "ts_ms": 2000, "ord": 1, "txnNumber": 5}}
    turned = [
        (
            KEY,
            json.dumps(told | {"transaction": block, "updateDescription": {"updatedFields": text}}),
        )
        for block, text in ((late, '{"a": "late"}'), (early, '{"a": "early"}'))
    ]
    assert image([events[0], *turned])[0]["a"] == "late"


def test_history_has_each_step():
    of = stream(history=True)
    events = [event(1, "c", WHOLE), update(2, {"p.x": 2}), update(3, {"p.x": 3}), event(4, "d")]
    found = image(events, of, names=("p", "valid_from", "valid_to"))
    assert [row["p"]["x"] for row in found] == [1, 2, 3]


def test_documents_that_were_looked_up_later_than_they_changed():
    """The connector tells the newest document with each change; none where it is gone by then."""
    newest = WHOLE | {"a": "third"}
    described = {"updatedFields": '{"a": "second"}', "removedFields": None, "truncatedArrays": None}
    events = [
        event(1, "c", WHOLE),
        event(2, "u", newest, updateDescription=described),
        event(3, "u", newest, updateDescription=described | {"updatedFields": '{"a": "third"}'}),
    ]
    assert image(events)[0]["a"] == "third"
    gone = event(4, "u", None, updateDescription=described | {"updatedFields": '{"a": "fourth"}'})
    assert image([events[0], gone])[0]["a"] == "fourth"
    assert image([events[0], gone, event(5, "d")]) == []
    assert image([events[0], gone, event(5, "d"), event(6, "c", WHOLE)])[0]["a"] == "x"


def test_an_image_before_makes_a_change_whole():
    told = {"updatedFields": '{"p.x": 5}', "removedFields": ["a"]}
    told |= {"truncatedArrays": [{"field": "p.y", "size": 1}]}
    (row,) = image([event(2, "u", before=json.dumps(WHOLE), updateDescription=told)])
    assert (row["a"], row["p"]["x"], len(row["p"]["y"])) == (None, 5, 1)


def test_where_assumes_nothing_of_what_is_not_told():
    of = stream(where={"a": "x"})
    assert image([event(1, "c", WHOLE), update(2, {"p.x": 2})], of)[0]["p"]["x"] == 2
    decoded = decode_changes(of, bronze([update(2, {"a": "other"})[1]], [b'{"id": "1"}']))
    assert len(decoded.ignored) == 1
    assert image([event(1, "c", WHOLE)], stream(where={"source.collection": "c"})) != []
    assert image([event(1, "c", WHOLE)], stream(where={"source.collection": "d"})) == []


@pytest.mark.parametrize(
    ("updated", "cut", "column"),
    [
        ({"p.x": "no number"}, None, "p.x"),
        ({"p.y.0": 5}, None, "p.y.0"),
        ({"p.y.last": {"$date": 1}}, None, "p.y.last"),
        ({"a.inside": 1}, None, "a.inside"),
        ({"pair.2": 1}, None, "pair.2"),
        ({"blob.x": {"$oid": 1}}, None, "blob.x"),
        ({"blob." + "x." * 150 + "x": json.loads("[" * 60 + "]" * 60)}, None, "blob." + "x." * 150 + "x"),
        ({}, [{"field": "pair", "size": 1}], "pair"),
        ({}, [{"field": "p", "size": 1}], "p"),
    ],
)
def test_a_change_that_cannot_be_inside_is_refused(updated, cut, column):
    key, value = update(2, updated, cut=cut)
    failures = decode_changes(stream(), bronze([value], [key])).failures
    assert failures.select("stage", "column").rows() == [("schema", column)]


@pytest.mark.parametrize("path", ["blob.$oid", "blob.a\x00b", "blob." + "x." * 10_000 + "x", "blob.\ud800"])
def test_a_path_that_no_document_has_is_refused(path):
    key, value = update(2, {path: 1})
    failures = decode_changes(stream(), bronze([value], [key])).failures
    assert failures["stage"].to_list() == ["decode"]


def test_an_older_change_on_a_newer_image_does_no_harm():
    """An initial read tells documents newer than the place from which the changes are told."""
    newer = {"_id": 1, "blob": {"$date": 1}, "many": [], "p": None}
    told = [update(2, {"blob.b.1": 5, "many.3.x": 1, "p.x": 2}), update(3, newer)]
    (row,) = image([event(1, "r", newer, source={"snapshot": "true"}), *told])
    assert (row["blob"], row["many"], row["p"]) == ('{"$date":{"$numberLong":"1"}}', [], None)


@pytest.mark.parametrize(
    ("base", "path", "action", "value", "result"),
    [
        (None, "a.0", "set", 1, {"a": {"0": 1}}),
        ([], "2", "set", 1, [None, None, 1]),
        ([1], "x", "set", 1, [1]),
        ([1], "99999999", "set", 1, [1]),
        ({"a": 1}, "b.c", "remove", None, {"a": 1}),
        ({"a": 1}, "a.c", "cut", 0, {"a": 1}),
        ({"a": [1, 2]}, "a", "cut", 5, {"a": [1, 2]}),
        ([1, 2], "0", "remove", None, [None, 2]),
        ([1, 2], "5", "remove", None, [1, 2]),
    ],
)
def test_edits_of_documents(base, path, action, value, result):
    assert edited(base, path.split("."), action, value) == result
