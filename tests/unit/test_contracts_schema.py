"""What a model may not have: types without a place in Delta, names of ours, rules that see other rows."""

from datetime import UTC, datetime
from typing import Any, Optional

import pandera.polars as pa
import polars as pl
import pytest

from sluice import Changes, Events, Hourly, Json
from sluice.errors import Problem
from sluice.problems import problems


def of(model: Any, **changed: Any) -> list[Problem]:
    arguments: dict[str, Any] = {
        "name": "s",
        "topic": "t",
        "value": Json(),
        "schema": model,
        "key": "id",
        "event_time": "at",
        "partitions": Hourly(start="2026-01-01"),
    }
    return problems(Events(**arguments | changed), "streams/s.py")


class Base(pa.DataFrameModel):
    id: str
    at: pl.Datetime("us", "UTC")


def with_type(dtype: Any) -> list[Problem]:
    return of(type("Typed", (Base,), {"__annotations__": {"x": dtype}}))


@pytest.mark.parametrize(
    "dtype",
    [
        *(
            pl.Int8,
            pl.Int64,
            pl.UInt64,
            pl.Float32,
            pl.Decimal(38, 10),
            pl.String,
            pl.Boolean,
            pl.Binary,
            pl.Date,
        ),
        *(pl.Time, pl.Duration("ms"), pl.Datetime("ns"), pl.Datetime("us", "Europe/Berlin"), pl.Enum(["a"])),
        *(
            pl.Categorical,
            pl.List(pl.Int8),
            pl.Array(pl.String, 2),
            pl.List(pl.Struct({"a": pl.Decimal(5, 2)})),
        ),
    ],
)
def test_allowed_types(dtype):
    assert with_type(dtype) == []


@pytest.mark.filterwarnings("ignore:.*support is not guaranteed")
@pytest.mark.parametrize(
    "dtype",
    [
        *(pl.Object, pl.Null, pl.Int128, pl.UInt128, pl.Decimal(39, 2), pl.List(pl.Object), pl.Struct([])),
        *(
            pl.Struct({"a": pl.Int8, "A": pl.Int8}),
            pl.Struct({"a": pl.List(pl.Int128)}),
            pl.Array(pl.Null, 2),
        ),
    ],
)
def test_refused_types(dtype):
    (problem,) = with_type(dtype)
    assert problem.argument == "schema.x"
    assert "Decimal(precision up to 38" in problem.allowed


class Awkward(Base):
    optional: Optional[int]  # noqa: UP045  # the form that pandera reads
    any_of: int = pa.Field(alias="^x.*$", regex=True)
    default: int = pa.Field(default=5)
    hidden: int = pa.Field(alias="_hidden")
    Twice: int
    twice: int
    once: int
    again: int = pa.Field(alias="once")


def test_what_a_contract_cannot_honour_is_named():
    named = {problem.argument for problem in of(Awkward)}
    assert named == {
        *("schema.optional", "schema.^x.*$", "schema.default", "schema._hidden"),
        *("schema.Twice", "schema.twice", "schema.once"),
    }


class Wide(Base):
    unique: str = pa.Field(unique=True)
    values: int = pa.Field(unique_values_eq=[0, 1])
    total: int
    kept: int

    class Config:
        """More than a row can tell."""

        unique = ("id", "at")

    @pa.check("total")
    @classmethod
    def below_mean(cls, data):
        return data.lazyframe.select(pl.col(data.key) <= pl.col(data.key).mean())

    @pa.check("kept", name="in_order")
    @classmethod
    def in_order(cls, data):
        return data.lazyframe.select(pl.col(data.key).diff().fill_null(1) > 0)

    @pa.dataframe_check
    @classmethod
    def enough_rows(cls, data):
        return data.lazyframe.select(pl.len() > 0)

    @pa.dataframe_check
    @classmethod
    def one_a_key(cls, data):
        return data.lazyframe.select(pl.len().over("id") == 1)

    @pa.dataframe_check
    @classmethod
    def unknown_column(cls, data):
        return data.lazyframe.select(pl.col("nope") > 0)


def test_rules_that_need_more_than_their_row_are_named_with_the_fix():
    listed = of(Wide)
    texts = [f"{p.argument} {p.found}" for p in listed]
    for expected in (
        "schema.unique unique=True",
        "schema unique=('id', 'at')",
        "schema.values rule 'unique_values_eq'",
        "schema.total rule 'below_mean'",
        "schema.kept rule 'in_order'",
        "schema rule 'enough_rows'",
        "schema rule 'one_a_key'",
        "schema rule 'unknown_column', which names an unknown column",
    ):
        assert any(text.startswith(expected) for text in texts), (expected, texts)
    assert len(listed) == 8
    assert all(
        "`key`" in p.allowed and "asset check" in p.allowed for p in listed if "unknown" not in p.found
    )


class RowWise(Base):
    status: str = pa.Field(isin=["a"], str_matches="^a", str_length={"min_value": 1}, ne="b")
    amount: pl.Decimal(12, 2) = pa.Field(ge=0, lt=100)
    seen: pl.Datetime("us", "UTC") = pa.Field(ge=datetime(2020, 1, 1, tzinfo=UTC), nullable=True)
    items: pl.List(pl.Struct({"price": pl.Decimal(9, 2)}))
    kind: pl.Enum(["x", "y"]) = pa.Field(isin=["x"])

    @pa.check("status", element_wise=True)
    @classmethod
    def short(cls, value):
        return len(value) < 5

    @pa.check("items")
    @classmethod
    def some(cls, data):
        return data.lazyframe.select(pl.col(data.key).list.len() > 0)

    @pa.check("status")
    @classmethod
    def numeric(cls, data):  # fails on made-up rows: the benefit of the doubt
        return data.lazyframe.select(pl.col(data.key).str.to_datetime("%Y").dt.year() > 1)

    @pa.dataframe_check
    @classmethod
    def seen_after(cls, data):
        return data.lazyframe.select(pl.col("seen") >= pl.col("at"))

    @pa.dataframe_check
    @classmethod
    def prices(cls, data):
        return data.lazyframe.select(
            pl.col("items").list.eval(pl.element().struct.field("price") >= 0).list.all()
        )


def test_row_wise_rules_pass():
    assert of(RowWise) == []


class Empty(pa.DataFrameModel):
    pass


class Unreadable(Base):
    @pa.check("no_such_column")
    @classmethod
    def never(cls, data):
        return data.lazyframe.select(pl.lit(value=True))


class Dangling(Base):
    x: pl.List


@pytest.mark.parametrize("model", [Empty, Unreadable, Dangling, dict, Base.to_schema(), "Base", None])
def test_what_is_no_model_is_named(model):
    (problem,) = of(model)
    assert problem.argument.startswith("schema")


class Versioned(Base):
    version: int
    Valid_From: str


def test_columns_of_the_dimension_are_ours_with_history_only():
    arguments = {"name": "s", "topic": "t", "value": Json(), "schema": Versioned, "key": "id"}
    stream = {**arguments, "partitions": Hourly(start="2026-01-01")}
    assert problems(Changes(**stream), "f.py") == []
    named = {p.argument for p in problems(Changes(**stream, history=True), "f.py")}
    assert named == {"schema.version", "schema.Valid_From"}


class Coordinates(Base):
    topic: str
    tile: int


def test_key_columns_cannot_have_names_of_the_losers_table():
    assert of(Coordinates) == []
    assert {p.argument for p in of(Coordinates, key=("topic", "id"))} == {"schema.topic"}
