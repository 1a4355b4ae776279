"""Every argument of a contract that is missing, of a wrong type or out of range is named."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from sluice import Changes, Daily, Debezium, Events, Hourly, Json, Mongo, tables
from sluice.contract import REQUIRED
from sluice.errors import ContractError
from sluice.problems import _LOSERS, all_problems, problems


class Model(pa.DataFrameModel):
    order_id: str
    line: int
    status: pl.Enum(["a", "b"])
    placed_at: pl.Datetime("us", "UTC")
    local_time: pl.Datetime("us")
    maybe_at: pl.Datetime("us", "UTC") = pa.Field(nullable=True)
    items: pl.List(pl.String)


EVENTS: dict[str, Any] = {
    "name": "orders",
    "topic": "shop.orders",
    "value": Json(),
    "schema": Model,
    "key": "order_id",
    "event_time": "placed_at",
    "partitions": Hourly(start="2026-01-01"),
}
CHANGES: dict[str, Any] = {name: value for name, value in EVENTS.items() if name != "event_time"} | {
    "history": True
}


def found(kind: type[Events] | type[Changes], **changed: Any) -> set[str]:
    base = EVENTS if kind is Events else CHANGES
    return {problem.argument for problem in problems(kind(**(base | changed)), "streams/x.py")}


def test_right_contracts_have_no_problem():
    assert found(Events) == set()
    assert found(Changes) == set()
    assert found(Changes, value=Debezium(source="mysql"), key=("order_id", "line")) == set()
    assert found(Changes, sequence=("line", "order_id"), valid_from="placed_at", track=("status",)) == set()
    assert found(Events, partitions=Daily(start="2026-01-01", timezone="Europe/Berlin")) == set()
    assert found(Events, owners=["team:shop", "a.b@example.org"], tags={"tier": "gold", "x/y": ""}) == set()
    assert (
        found(Events, where=pl.col("line") > 1, event_time_range=(None, datetime(2030, 1, 1, tzinfo=UTC)))
        == set()
    )
    assert found(Events, where={"type": "order"}, epoch=2, max_quarantined=0, event_time_range=None) == set()


@pytest.mark.parametrize("wrong", [pl.col("deleted") == 1, pl.col("line"), pl.col("status").str.len_chars()])
def test_expressions_that_cannot_be_computed_or_are_no_truth(wrong):
    """A member that is no column is text."""
    for argument in ("where", "delete_when", "truncate_when"):
        assert found(Changes, **{argument: wrong}) == {argument}
        assert found(Changes, **{argument: (pl.col("deleted") == "1") & (pl.col("line") > 0)}) == set()
    assert found(Events, where=wrong) == {"where"}


@pytest.mark.parametrize("kind", [Events, Changes])
def test_missing_arguments_are_all_named(kind):
    wanted = {field.name for field in fields(kind) if field.default is REQUIRED}
    named = {problem.argument: problem.found for problem in problems(kind(), "f.py")}
    assert named.keys() == wanted | {"name"}
    assert {named[argument] for argument in wanted} == {"nothing"}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", "Orders"),
        ("name", "1st"),
        ("name", "or-ders"),
        ("topic", "a b"),
        ("topic", ".."),
        ("topic", "x" * 250),
        ("topic", 7),
        ("value", "json"),
        ("value", Debezium(source="mysql")),
        ("value.timezone", Json(timezone="Mars/Base")),
        ("value.epoch", Json(epoch="minutes")),
        ("schema", int),
        ("schema", {"a": int}),
        ("key", ()),
        ("key", ["order_id"]),
        ("key", ("order_id", "order_id")),
        ("key", "oder_id"),
        ("key", "items"),
        ("event_time", 5),
        ("event_time", "nope"),
        ("event_time", "line"),
        ("event_time", "local_time"),
        ("event_time", "maybe_at"),
        ("partitions", "hourly"),
        ("partitions.start", Hourly(start="yesterday")),
        ("partitions.start", Daily(start=datetime(2026, 1, 1, tzinfo=UTC))),
        ("partitions.timezone", Daily(start="2026-01-01", timezone="Mars")),
        ("where", "line > 1"),
        ("where", {}),
        ("max_quarantined", 1.5),
        ("max_quarantined", -0.1),
        ("max_quarantined", "5%"),
        ("max_quarantined", True),
        ("epoch", 0),
        ("epoch", 1.5),
        ("epoch", True),
        ("owners", "team:shop"),
        ("owners", ["shop"]),
        ("tags", ["a"]),
        ("tags", {"a b": "c"}),
        ("tags", {"a": "c" * 64}),
        ("description", 5),
        ("allowed_lateness", 60),
        ("allowed_lateness", timedelta(hours=-1)),
        ("dedupe_within", timedelta(seconds=-1)),
        ("event_time_range", (datetime(2026, 1, 1), None)),  # noqa: DTZ001  # naive on purpose
        ("event_time_range", (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))),
        ("event_time_range", "all"),
    ],
)
def test_a_wrong_argument_of_events_is_named(argument, value):
    assert found(Events, **{argument.partition(".")[0]: value}) == {argument}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("value.source", Debezium(source="oracle")),
        ("sequence", "nope"),
        ("sequence", ("line", "nope")),
        ("sequence", "items"),
        ("sequence", "status"),
        ("valid_from", "items"),
        ("valid_from", ("placed_at",)),
        ("delete_when", "line = 1"),
        ("snapshot", "items"),
        ("snapshot", True),
        ("ignore_null", ("nope",)),
        ("ignore_null", "line"),
        ("history", 1),
        ("track", "status"),
        ("track", ()),
        ("track", ("status", "nope")),
    ],
)
def test_a_wrong_argument_of_changes_is_named(argument, value):
    assert found(Changes, **{argument.partition(".")[0]: value}) == {argument}


@pytest.mark.parametrize(("sequence", "wrong"), [("line", True), (("line", "placed_at"), True), (None, False),
                         ("placed_at", False), (("placed_at", "line"), False)])  # fmt: skip
def test_images_are_ordered_by_what_names_them(sequence, wrong):
    assert found(Changes, snapshot="placed_at", sequence=sequence) == ({"sequence"} if wrong else set())


def test_a_collection_is_the_source_of_changes_that_tell_their_cluster_time():
    right = Mongo(collection="shop.orders.archive", connection="shop", messages="connect-offsets")
    assert found(Changes, value=Debezium("mongodb"), source=right) == set()
    for value in (Json(), Debezium("postgresql"), Debezium("mongodb", unwrapped=True)):
        assert found(Changes, value=value, source=right) == {"source"}
    for collection in ("orders", ".orders", "shop.", "a b.orders", "shop.$x", 5):
        wrong = Mongo(collection=collection, connection="shop")
        assert found(Changes, value=Debezium("mongodb"), source=wrong) == {"source.collection"}
    wrong = Mongo(collection="shop.orders", connection="shop", messages="no topic")
    assert found(Changes, value=Debezium("mongodb"), source=wrong) == {"source.messages"}


def test_debezium_says_itself_what_is_deleted():
    assert found(Changes, value=Debezium(source="mysql"), delete_when=pl.col("line") == 1) == {"delete_when"}


def test_a_problem_names_culprit_and_fix():
    (problem,) = problems(Events(**EVENTS | {"key": "oder_id"}), "streams/orders.py")
    text = str(problem)
    assert text.startswith("streams/orders.py: orders: key: found 'oder_id'")
    assert "do you mean 'order_id'" in text
    assert "allowed: columns of the schema: order_id, line" in text


def test_all_problems_of_all_contracts_at_once():
    wrong = Events(**EVENTS | {"key": "nope", "epoch": 0, "owners": ["x"]})
    other = Events(**EVENTS | {"name": "b", "topic": "a b"})
    listed = all_problems([(wrong, "a.py"), (Events(**EVENTS | {"name": "fine"}), "f.py"), (other, "b.py")])
    assert {(p.file, p.argument) for p in listed} == {
        ("a.py", "key"),
        ("a.py", "epoch"),
        ("a.py", "owners"),
        ("b.py", "topic"),
    }
    message = str(ContractError(listed))
    assert all(str(problem) in message for problem in listed)


def test_two_streams_of_one_name_name_both_files():
    (problem,) = all_problems([(Events(**EVENTS), "a.py"), (Events(**EVENTS), "b.py")])
    assert (problem.file, problem.argument) == ("b.py", "name")
    assert "a.py" in problem.found


def test_reserved_names_are_those_of_the_losers_table():
    stream = Events(**EVENTS)
    ours = set(tables.losers(stream).columns) - {"order_id", "placed_at"}
    assert ours == _LOSERS
