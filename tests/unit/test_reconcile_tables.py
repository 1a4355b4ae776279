"""Lake against a Delta or Parquet table: what differs is found, to row and column, and nothing else."""

import json
from dataclasses import replace
from datetime import timedelta, timezone

import duckdb
import polars as pl
import pytest
from deltalake import write_deltalake

from assets.verdicts import DIFFERENCES_TABLE, VERDICTS_TABLE, standing
from resources.table_compare import compare
from resources.table_sides import Side
from sluice import Delta, Parquet, Postgres
from sluice.errors import SourceError
from sluice.problems import problems
from tests.reconciling import AT, customers, filled, row, run, source_rows, written

each_kind = pytest.mark.parametrize("kind", ["delta", "parquet"])


@each_kind
@pytest.mark.parametrize("history", [False, True])
def test_equal_values_are_equal_however_they_are_stored(tmp_path, kind, history):
    rows = [row(n) for n in range(100)]
    stream = customers(written(tmp_path, rows, kind), history=history)
    lake = filled(tmp_path, stream, [row(3, name="old", seq=-1), *rows])
    verdict = run(lake, stream).verdict
    assert verdict.compared.equal
    assert (verdict.compared.lake_rows, verdict.compared.source_rows) == (100, 100)
    assert standing(lake, stream).is_empty()


@each_kind
def test_missing_extra_and_different_rows_are_told_with_their_columns(tmp_path, kind):
    rows = [row(n) for n in range(100)]
    there = [one for one in rows if one["id"] != 5] + [row(200)]
    there[7] = there[7] | {"name": "other", "score": None}
    stream = customers(written(tmp_path, there, kind))
    lake = filled(tmp_path, stream, rows)
    done = run(lake, stream)
    told = {(r["kind"], r["key"], *sorted(r["columns"])) for r in done.told.iter_rows(named=True)}
    key = there[7]["id"]
    assert told == {
        ("missing", '{"id": 200}'),
        ("extra", '{"id": 5}'),
        ("different", json.dumps({"id": key}), "name", "score"),
    }
    kept = lake.read(DIFFERENCES_TABLE).collect()
    assert kept.height == 3
    assert not any("n" + str(n) in str(kept.rows()) for n in (5, 200, key)), "personal values are masked"
    assert standing(lake, stream).select("missing", "extra", "different").rows() == [(1, 1, 1)]


def test_the_history_of_verdicts_is_kept_and_the_last_one_stands(tmp_path):
    rows = [row(n) for n in range(10)]
    stream = customers(written(tmp_path, rows[:9], "delta"))
    lake = filled(tmp_path, stream, rows)
    run(lake, stream)
    written(tmp_path, rows, "delta")
    run(lake, stream)
    history = lake.read(VERDICTS_TABLE).collect().sort("began_at")
    assert history["equal"].to_list() == [False, True]
    assert history["position"].to_list() == ["version 0", "version 1"]
    assert standing(lake, stream).is_empty()


@pytest.mark.parametrize(
    ("lake_value", "source_value", "equal"),
    [
        (float("nan"), float("nan"), True),
        (float("nan"), None, False),
        (0.0, -0.0, True),
        (0.1, 0.1, True),
        (0.1, 0.1 + 2**-55, False),
        (float("inf"), float("inf"), True),
    ],
)
def test_floats_are_equal_as_values(tmp_path, lake_value, source_value, equal):
    names = {"id": "id", "score": "score"}
    sides = []
    for name, value in (("lake", lake_value), ("source", source_value)):
        path = tmp_path / f"{name}.parquet"
        pl.DataFrame(
            {"id": [1], "score": [value]}, schema={"id": pl.Int64, "score": pl.Float64}
        ).write_parquet(path)
        sides.append(Side([str(path)], names))
    assert compare(*sides, ["id"], folder=tmp_path).equal is equal


_ITEM = "STRUCT(d DECIMAL(12,2), _at TIMESTAMPTZ)[]"
_ZONED, _NAIVE = "2026-01-01 10:00:00+02", "2026-01-01 08:00:00"
NESTED = {  # types, and values
    "lake": (f"STRUCT(n BIGINT, l {_ITEM})", f"{{'n': 1, 'l': [{{'d': 1.5, '_at': '{_ZONED}'}}, NULL]}}"),
    "wider": (
        "STRUCT(l STRUCT(_at TIMESTAMP_NS, d DECIMAL(20,4))[], more VARCHAR, n INTEGER)",
        f"{{'l': [{{'_at': '{_NAIVE}', 'd': 1.5}}, NULL], 'more': 'x', 'n': 1}}",
    ),
    "null inside": (
        f"STRUCT(n INTEGER, l {_ITEM})",
        f"{{'n': 1, 'l': [{{'d': NULL, '_at': '{_ZONED}'}}, NULL]}}",
    ),
    "shorter": (f"STRUCT(n INTEGER, l {_ITEM})", f"{{'n': 1, 'l': [{{'d': 1.5, '_at': '{_ZONED}'}}]}}"),
    "lacking": ("STRUCT(n INTEGER)", "{'n': 1}"),
    "null": (f"STRUCT(n INTEGER, l {_ITEM})", "NULL"),
}


@pytest.mark.parametrize("other", NESTED)
def test_structs_and_lists_are_equal_as_values(tmp_path, other):
    sides = []
    for name in ("lake", other):
        dtype, value = NESTED[name]
        path = tmp_path / f"{name}.parquet"
        duckdb.sql(f"COPY (SELECT 1 AS id, CAST({value} AS {dtype}) AS s) TO '{path}' (FORMAT parquet)")
        sides.append(Side([str(path)], {"id": "id", "s": "s"}))
    found = compare(*sides, ["id"], folder=tmp_path)
    assert found.equal is (other in ("lake", "wider"))
    if not found.equal:
        assert found.rows["columns"].to_list() == [["s"]]


def test_a_naive_time_is_utc_and_zones_do_not_matter(tmp_path):
    plus = AT.astimezone(timezone(timedelta(hours=2)))
    frames = {
        "zoned": pl.DataFrame({"id": [1], "at": [plus]}).with_columns(
            pl.col("at").dt.convert_time_zone("Europe/Berlin")
        ),
        "naive": pl.DataFrame({"id": [1], "at": [AT.replace(tzinfo=None)]}),
        "nanoseconds": pl.DataFrame(
            {"id": [1], "at": [AT]}, schema={"id": pl.Int64, "at": pl.Datetime("ns", "UTC")}
        ),
    }
    sides = {}
    for name, frame in frames.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
        sides[name] = Side([str(tmp_path / f"{name}.parquet")], {"id": "id", "at": "at"})
    for one in sides.values():
        for other in sides.values():
            assert compare(one, other, ["id"], folder=tmp_path).equal


def test_keys_beyond_the_sequence_value_do_not_count(tmp_path):
    rows = [row(n) for n in range(20)]
    there = [*rows[:5], *(row(n, name="later", seq=100 + n) for n in range(5, 8)), *rows[8:]]
    stream = customers(written(tmp_path, there, "delta"))
    lake = filled(tmp_path, stream, [*rows, row(9, name="early", seq=300)])
    assert run(lake, stream, upto="50").verdict.compared.equal
    assert run(lake, stream).verdict.compared.different == 4


def test_a_source_that_is_not_there_or_lacks_columns_is_named(tmp_path):
    lake = filled(tmp_path, customers(None), [row(1)])
    for source, says in (
        (Delta(uri=str(tmp_path / "nowhere")), "no Delta table"),
        (Parquet(path=str(tmp_path / "*.none")), "no file matches"),
        (None, "declare `source`"),
        (written(tmp_path, source_rows([row(1)]).drop("score"), "parquet"), "no column score"),
    ):
        with pytest.raises(SourceError, match=says):
            run(lake, customers(source), against="source")


def test_a_source_by_partitions_and_other_names_is_read_right(tmp_path):
    rows = [row(n) for n in range(30)]
    frame = (
        source_rows(rows).rename({"name": "full_name"}).with_columns(pl.col("seen").dt.cast_time_unit("us"))
    )
    write_deltalake(str(tmp_path / "there"), frame.to_arrow(), partition_by=["seq"])
    stream = customers(Delta(uri=str(tmp_path / "there"), columns={"name": "full_name"}))
    assert run(filled(tmp_path, stream, rows), stream).verdict.compared.equal


def test_no_rows_on_either_side(tmp_path):
    stream = customers(written(tmp_path, [row(1)], "delta"))
    lake = filled(tmp_path, stream, [])
    found = run(lake, stream).verdict.compared
    assert (found.missing, found.extra, found.different) == (1, 0, 0)


KEPT = {  # rows of the name "kept", whatever way that is said
    "mapping": {"name": "kept"},
    "number": {"balance": 1.5},
    "expression": (pl.col("name") == "kept") & (pl.col("score") < 100),
}


@each_kind
@pytest.mark.parametrize("where", KEPT.values(), ids=KEPT)
def test_rows_that_where_leaves_out_are_no_rows_of_the_source(tmp_path, kind, where):
    kept, other = {"name": "kept", "balance": "1.50"}, {"name": "other's", "balance": "2.00"}
    rows = [row(n, **(kept if n % 2 else other)) for n in range(20)] + [row(31)]
    stream = customers(written(tmp_path, [*rows, row(21, **kept)], kind), where=where)
    assert problems(stream, "f") == []
    lake = filled(tmp_path, stream, rows)
    verdict = run(lake, stream, repair="yes")
    assert verdict.repaired.compared.rows.select("id", "kind").rows() == [(21, "missing")]
    assert verdict.verdict.compared.equal
    assert verdict.verdict.compared.source_rows == 11


def test_a_source_that_cannot_be_asked_for_the_rows_of_where_is_refused(tmp_path):
    table = Postgres(table="customers", connection="shop")
    mixed = (pl.col("name") == "kept") | (pl.col("type") == "customer")
    asked = [
        (table, KEPT["expression"]), (Delta(uri="there"), mixed),
        (replace(table, filtered=True), KEPT["expression"]), (Delta(uri="there", filtered=True), mixed),
        (table, KEPT["mapping"]), (table, pl.col("type") == "customer"),
        (Delta(uri="there"), KEPT["expression"]),
    ]  # fmt: skip
    found = [problems(customers(source, where=where), "f") for source, where in asked]
    assert [len(each) for each in found] == [1, 1, 0, 0, 0, 0, 0]
    assert "filtered=True" in str(found[0][0])
    (problem,) = problems(customers(replace(table, filtered="yes")), "f")
    assert problem.argument == "source.filtered"


def test_a_source_says_itself_that_it_is_filtered(tmp_path):
    rows = [row(n, name="kept") for n in range(5)]
    source = written(tmp_path, [*rows, row(9)], "delta")
    stream = customers(replace(source, filtered=True), where=KEPT["mapping"])
    assert run(filled(tmp_path, stream, rows), stream).verdict.compared.missing == 1
