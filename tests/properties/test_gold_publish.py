"""Publishing gold: which rows of the lake a run replaces, and which it leaves alone."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from unittest import mock

import duckdb
import polars as pl
import pytest
from dbt.adapters.duckdb.relation import DuckDBRelation
from dbt.adapters.duckdb.utils import TargetConfig, TargetLocation
from dbt_common.exceptions import DbtRuntimeError
from gold_lake import DAY, gold
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.dbt_delta import SOURCES, WINDOW, Plugin
from resources.lake import Lake

DAYS = [DAY + timedelta(days=n) for n in range(5)]
SCHEMA = {"day": pl.Date, "id": pl.Int64, "amount": pl.Decimal(12, 2)}
Window = tuple[date, date]
tables = st.lists(
    st.fixed_dictionaries(
        {"day": st.sampled_from(DAYS), "id": st.integers(0, 9), "amount": st.decimals(0, 9, places=2)}
    ),
    max_size=15,
).map(lambda rows: pl.DataFrame(rows, schema=SCHEMA))
windows = st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS)).map(lambda pair: (min(pair), max(pair)))


class Publisher:
    """A lake of its own, and the plugin as dbt-duckdb would drive it."""

    def __init__(self, folder: str) -> None:
        self.lake = Lake(folder)
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("CREATE SCHEMA gold")
        self.plugin = Plugin("delta", {})
        self.plugin.configure_connection(self.connection)

    def publish(self, rows: pl.DataFrame, dates: Window | None) -> None:
        self.connection.register("given", rows.to_arrow())
        self.connection.execute("CREATE OR REPLACE TABLE gold.model__staged AS FROM given")
        options = {
            "staged": "memory.gold.model__staged",
            "partition_by": "day",
            "window": [day.isoformat() for day in dates] if dates else None,
            "reads": [],
            "description": "",
            "guards": [],
            "invocation_id": "1",
        }
        relation = DuckDBRelation.create(database="memory", schema="gold", identifier="model")
        self.plugin.store(TargetConfig(relation, [], options, TargetLocation("gold/model", "publish")))

    def files(self, outside: Window) -> set[str]:
        """Name the data files of the dates outside a window."""
        handle = self.lake.open("gold/model")
        assert handle is not None
        inside = {f"day={day}" for day in days(outside)}
        return {uri for uri in handle.file_uris() if uri.split("/")[-2] not in inside}

    def seen(self) -> pl.DataFrame:
        """Give what later models and tests of the run see."""
        return self.connection.sql("FROM memory.gold.model").pl().select(list(SCHEMA)).sort(pl.all())


@contextmanager
def publisher() -> Iterator[Publisher]:
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"LAKE_URI": folder}):
        made = Publisher(folder)
        yield made
        made.connection.close()


def days(dates: Window) -> list[date]:
    return [day for day in DAYS if dates[0] <= day <= dates[1]]


def within(rows: pl.DataFrame, dates: Window) -> pl.DataFrame:
    return rows.filter(pl.col("day").is_between(*dates))


@settings(max_examples=12, deadline=None)
@given(tables, tables, windows)
def test_only_the_dates_of_the_run_change(before, after, dates) -> None:
    """kafka-medallion 14, kinesis-iceberg 37: a run replaces its own dates, rows and files of others stay."""
    with publisher() as made:
        made.publish(before, None)
        untouched = made.files(outside=dates)
        made.publish(within(after, dates), dates)
        expected = pl.concat([before.filter(~pl.col("day").is_between(*dates)), within(after, dates)])
        assert gold(made.lake, "model").select(list(SCHEMA)).equals(expected.sort(pl.all()))
        assert made.seen().equals(expected.sort(pl.all()))
        assert made.files(outside=dates) == untouched


@settings(max_examples=8, deadline=None)
@given(tables, st.lists(windows, min_size=1, max_size=3))
def test_windows_in_any_order_give_the_whole(rows, order) -> None:
    """kafka-medallion 14: windows that cover all dates, repeated and overlapping, equal one full build."""
    with publisher() as made:
        for dates in [*order, (DAYS[0], DAYS[2]), (DAYS[2], DAYS[-1])]:
            made.publish(within(rows, dates), dates)
        assert gold(made.lake, "model").select(list(SCHEMA)).equals(rows.sort(pl.all()))


@settings(max_examples=10, deadline=None)
@given(tables, windows)
def test_tables_are_partitioned_by_date(rows, dates) -> None:
    """kafka-medallion 11, kinesis-iceberg 36: each file holds one date, and lies in that date's folder."""
    with publisher() as made:
        made.publish(within(rows, dates), dates)
        handle = made.lake.open("gold/model")
        assert handle is not None
        assert handle.metadata().partition_columns == ["day"]
        folders = {uri.split("/")[-2] for uri in handle.file_uris()}
        assert folders == {f"day={day}" for day in within(rows, dates)["day"]}
        commit = handle.history(1)[0]
        assert json.loads(commit[WINDOW]) == [day.isoformat() for day in dates]
        assert json.loads(commit[SOURCES]) == {}


def test_rows_of_other_dates_are_refused() -> None:
    """kafka-medallion 14: a model that gives rows outside its run's dates commits nothing."""
    rows = pl.DataFrame({"day": [DAYS[0], DAYS[3]], "id": [1, 2], "amount": ["1", "2"]}).cast(SCHEMA)
    with publisher() as made:
        with pytest.raises(DbtRuntimeError, match=str(DAYS[3])):
            made.publish(rows, (DAYS[0], DAYS[1]))
        assert made.lake.open("gold/model") is None
