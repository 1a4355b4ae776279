"""Lake against a Delta or Parquet table: what differs is found, to row and column, and nothing else."""

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import duckdb
import pandera.polars as pa
import polars as pl
import pytest
from deltalake import write_deltalake

from assets import alone as alone_module
from assets import reconcile as reconciling
from assets.alone import alone
from assets.asked import Asked
from assets.reconcile import reconcile
from assets.verdicts import DIFFERENCES_TABLE, VERDICTS, VERDICTS_TABLE, note, standing, unfinished
from resources.lake import Lake
from resources.table_compare import compare
from resources.table_sides import Side
from resources.transactions import transactions
from sluice import Changes, Daily, Delta, Json, Parquet, Postgres, tables
from sluice.errors import LakeUnreachableError, LeaseLostError, ReconciliationRunsError, SourceError
from sluice.problems import problems
from tests.engine import both
from tests.fake_kafka import FakeKafka

DAY = "2026-01-01"
AT = datetime(2026, 1, 1, 8, tzinfo=UTC)


class Customer(pa.DataFrameModel):
    id: int
    name: str = pa.Field(nullable=True, metadata={"pii": True})
    balance: pl.Decimal(12, 2) = pa.Field(nullable=True)
    score: float = pa.Field(nullable=True)
    seen: pl.Datetime("us", "UTC") = pa.Field(nullable=True)
    seq: int


def customers(source, **arguments) -> Changes:
    """Make the contract."""
    return Changes(
        **{
            "name": "customers",
            "topic": "t",
            "value": Json(),
            "schema": Customer,
            "key": "id",
            "sequence": "seq",
            "partitions": Daily(start=DAY),
            "source": source,
        }
        | arguments
    )


def row(number: int, **values) -> dict:
    return {"id": number, "name": f"n{number}", "balance": f"{number}.50", "score": number / 2} | {
        "seen": AT.isoformat(),
        "seq": number,
        **values,
    }


def filled(tmp_path, stream, rows) -> Lake:
    """Bring rows through Kafka into the lake."""
    kafka, lake = FakeKafka(), Lake(str(tmp_path / "lake"))
    kafka.create("t", 2)
    for number, one in enumerate(rows):
        stamp = int(AT.timestamp() * 1000) + number
        kafka.produce("t", json.dumps(one).encode(), stamp_ms=stamp, partition=one["id"] % 2)
    both(lake, kafka, stream, [DAY])
    return lake


def source_rows(rows) -> pl.DataFrame:
    """Give rows as a source keeps them: other widths, scales, zones."""
    return pl.DataFrame(
        [
            one | {"balance": Decimal(one["balance"]), "seen": datetime.fromisoformat(one["seen"])}
            for one in rows
        ],
        schema={
            "id": pl.Int32,
            "name": pl.String,
            "balance": pl.Decimal(20, 4),
            "score": pl.Float64,
            "seen": pl.Datetime("ns", "UTC"),
            "seq": pl.Int16,
        },
    )


def written(tmp_path, rows, kind):
    """Write a source; give its word."""
    frame = rows if isinstance(rows, pl.DataFrame) else source_rows(rows)
    if kind == "parquet":
        (tmp_path / "files").mkdir(exist_ok=True)
        for number, part in enumerate(frame.iter_slices(40)):
            part.write_parquet(tmp_path / "files" / f"{number}.parquet")
        return Parquet(path=str(tmp_path / "files" / "*.parquet"))
    frame = frame.with_columns(pl.col("seen").dt.cast_time_unit("us"))
    write_deltalake(str(tmp_path / "there"), frame.to_arrow(), mode="overwrite")
    return Delta(uri=str(tmp_path / "there"))


def run(lake, stream, **asked):
    return reconcile(lake, stream, Asked(**asked), run_id="run", say=lambda _: None)


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


def test_another_reconciliation_of_the_stream_is_waited_for_skipped_or_refused(tmp_path):
    rows = [row(n) for n in range(3)]
    stream = customers(written(tmp_path, rows, "delta"))
    lake = filled(tmp_path, stream, rows)

    def busy(_seconds):
        raise AssertionError("it waits")

    with alone(lake, stream, "fail", busy) as mine:
        assert mine
        with alone(lake, stream, "skip", busy) as other:
            assert not other
        with pytest.raises(ReconciliationRunsError), alone(lake, stream, "fail", busy):
            pass
        with pytest.raises(AssertionError, match="it waits"), alone(lake, stream, "queue", busy):
            pass
        assert run(lake, stream, overlap="skip").verdict is None
    assert run(lake, stream, overlap="fail").verdict.compared.equal


def test_a_lease_that_was_not_renewed_in_time_leaves_no_verdict_and_repairs_nothing(tmp_path, monkeypatch):
    rows = [row(n) for n in range(3)]
    stream = customers(written(tmp_path, [*rows, row(3)], "delta"))
    lake = filled(tmp_path, stream, rows)

    def stalled(*told):
        until = transactions(lake.ensure(VERDICTS_TABLE))[f"reconciling/{stream.name}"]
        passed = {f"reconciling/{stream.name}": until + 2}  # another one took it
        lake.commit(lake.ensure(VERDICTS_TABLE), pl.DataFrame(schema=VERDICTS), progress=passed)
        while time.monotonic() - began < 2 and any(t.name.startswith("lease") for t in threading.enumerate()):
            time.sleep(0.01)
        return plan(*told)

    plan, began = reconciling.plan, time.monotonic()
    monkeypatch.setattr(reconciling, "plan", stalled)
    monkeypatch.setattr(alone_module, "LEASE", 0.3)
    with pytest.raises(LeaseLostError, match="another one may run"):
        run(lake, stream, repair="yes")
    assert lake.read(VERDICTS_TABLE).collect().is_empty()
    assert (
        lake.read(tables.bronze(stream))
        .filter(pl.col("tile").str.starts_with("repair/"))
        .collect()
        .is_empty()
    )


def test_a_store_that_is_away_longer_than_the_lease_is_noticed(tmp_path, monkeypatch):
    stream = customers(None)
    lake = Lake(str(tmp_path / "lake"))

    def away(*_told):
        raise LakeUnreachableError("the lake", "the store", "away")

    monkeypatch.setattr(alone_module, "LEASE", 0.3)
    monkeypatch.setattr(alone_module, "_renewed", away)
    with alone(lake, stream, "fail", time.sleep) as lease:
        lease.check()
        time.sleep(0.4)
        with pytest.raises(LeaseLostError):
            lease.check()


def test_what_was_stopped_is_not_taken_up_after_a_later_one_ended(tmp_path):
    rows = [row(n) for n in range(3)]
    stream = customers(written(tmp_path, rows, "delta"))
    lake = filled(tmp_path, stream, rows)
    note(lake, stream, "stopped", "snapshot 1", ["5"], [0])
    assert unfinished(lake, stream) == (["5"], {0}, "snapshot 1")
    assert unfinished(lake, replace(stream, source=None)) is not None
    run(lake, stream)
    assert unfinished(lake, stream) is None
    note(lake, stream, "stopped again", "snapshot 2", ["7"], [])
    assert unfinished(lake, stream) == (["7"], set(), "snapshot 2")


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
