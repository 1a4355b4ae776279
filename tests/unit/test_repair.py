"""Repair of rows that differ: as changes in a tile of their own, exactly once; every promise still holds."""

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandera.polars as pa
import polars as pl
import pytest

import assets.reconcile
from assets import aftermath
from assets.alone import Lease
from assets.merge import merge
from assets.reconciliation import told
from assets.repair import due
from assets.verdicts import VERDICTS_TABLE
from resources.lake import Lake
from sluice import tables
from sluice.tables import LEDGER_TABLE
from tests.engine import both, decide, dying_everywhere, prove
from tests.fake_kafka import FakeKafka
from tests.reconciling import AT, DAY, Customer, customers, row, run, written


def ordered_by_offset(source, **arguments):
    return customers(source, sequence=None, **arguments)


def send(kafka, rows, start=0) -> None:
    for number, one in enumerate(rows, start):
        raw, key = json.dumps(one).encode(), json.dumps({"id": one["id"]}).encode()
        stamp = int(AT.timestamp() * 1000) + number
        kafka.produce("t", raw, stamp_ms=stamp, partition=one["id"] % 2, key=key)


def lake_of(folder, stream, rows) -> tuple[Lake, FakeKafka]:
    kafka, lake = FakeKafka(), Lake(str(folder))
    kafka.create("t", 2)
    send(kafka, rows)
    both(lake, kafka, stream, [DAY])
    return lake, kafka


def image(lake, stream) -> list[tuple]:
    merge(lake, stream, say=lambda _: None)
    rows = lake.read(tables.dimension(stream))
    if stream.history:
        rows = rows.filter("is_current")
    return rows.select("id", "name", "balance", "score", "seq").sort("id").collect().rows()


def wanted(rows) -> list[tuple]:
    """Give the source's rows as `image` does."""
    lake_rows = pl.DataFrame(rows).sort("id")
    return lake_rows.select(
        "id", "name", pl.col("balance").cast(pl.Decimal(12, 2)), "score", pl.col("seq").cast(pl.Int64)
    ).rows()


def differing():
    """Give the lake's rows and the source's: one is missing, one extra, one different."""
    rows = [row(n) for n in range(12)]
    there = [one for one in rows if one["id"] != 5] + [row(200)]
    there[7] = there[7] | {"name": "other", "score": None}
    return rows, there


@pytest.mark.parametrize("history", [False, True])
def test_what_differs_is_repaired_and_the_repair_is_reconciled(tmp_path, history):
    rows, there = differing()
    stream = ordered_by_offset(written(tmp_path, there, "delta"), history=history)
    lake, kafka = lake_of(tmp_path / "lake", stream, rows)
    done = run(lake, stream, repair="yes")
    assert not done.repaired.compared.equal
    assert done.repaired.repair == f"3 rows, in tile repair/{done.repaired.report}"
    assert done.verdict.compared.equal, done.verdict.compared.rows
    assert image(lake, stream) == wanted(there)
    prove(lake, stream)
    told = lake.read(LEDGER_TABLE).filter(pl.col("kind") == "repair").collect().sort("layer")
    assert told.select("layer", "tile", "read", "accepted").rows() == [
        (layer, f"repair/{done.repaired.report}", 3, 3) for layer in ("bronze", "silver")
    ]
    now = datetime.now(UTC)
    send(kafka, [row(8, name="later")], int((now - AT).total_seconds() * 1000) + 1000)
    both(lake, kafka, stream, [stream.partitions.tile_at(now)], now=now + timedelta(seconds=2))
    assert (8, "later") in [one[:2] for one in image(lake, stream)], "a change after the repair counts"


def test_a_dry_run_tells_and_changes_nothing(tmp_path):
    rows, there = differing()
    stream = ordered_by_offset(written(tmp_path, there, "delta"))
    lake, _ = lake_of(tmp_path / "lake", stream, rows)
    before = image(lake, stream), lake.open(tables.bronze(stream).name).version()
    done = run(lake, stream, repair="dry_run")
    assert done.repaired is None
    assert done.verdict.repair == "dry run: 3 rows"
    assert (image(lake, stream), lake.open(tables.bronze(stream).name).version()) == before


def test_a_delete_that_nothing_can_order_is_told_and_not_written(tmp_path):
    rows, there = differing()
    stream = customers(written(tmp_path, there, "delta"))  # ordered by `seq`
    lake, _ = lake_of(tmp_path / "lake", stream, rows)
    done = run(lake, stream, repair="yes")
    assert "2 rows; 1 cannot be: a delete without seq" in done.repaired.repair
    found = done.verdict.compared
    assert (found.missing, found.extra, found.different) == (0, 1, 0)
    prove(lake, stream)


def test_what_the_contract_refuses_is_told_and_not_written(tmp_path):
    rows, there = differing()
    there[2] = there[2] | {"balance": "1.2345"}
    stream = ordered_by_offset(written(tmp_path, there, "delta"))
    lake, _ = lake_of(tmp_path / "lake", stream, rows)
    done = run(lake, stream, repair="yes")
    assert done.repaired.repair.startswith("3 rows; 1 cannot be: found")
    assert done.verdict.compared.different == 1
    prove(lake, stream)


def test_what_the_contract_refuses_is_told_without_personal_values(tmp_path):
    class Private(Customer):
        balance: pl.Decimal(12, 2) = pa.Field(nullable=True, metadata={"pii": True})

    rows, there = differing()
    there[2] = there[2] | {"balance": "1.2345"}
    stream = ordered_by_offset(written(tmp_path, there, "delta"), schema=Private)
    lake, _ = lake_of(tmp_path / "lake", stream, rows)
    done = run(lake, stream, repair="yes")
    wanted = "1 cannot be: a personal value that the contract refuses (stage schema, column balance)"
    assert wanted in done.repaired.repair
    kept = lake.read(VERDICTS_TABLE).collect()
    assert "1.23" not in str(kept["repair"].to_list()) + str(told(done))


def test_a_rebuild_by_other_rules_keeps_the_repair(tmp_path):
    rows, there = differing()
    stream = ordered_by_offset(written(tmp_path, there, "delta"))
    lake, _ = lake_of(tmp_path / "lake", stream, rows)
    run(lake, stream, repair="yes")
    changed = replace(stream, ignore_null=("name",))
    assert changed.code_version != stream.code_version
    decide(lake, changed, [DAY, *due(lake, changed)])
    assert image(lake, changed) == wanted(there)
    prove(lake, changed)
    told = aftermath.ledger(lake, changed, "silver").filter(pl.col("tile").str.starts_with("repair/"))
    assert told["generation"].sort().to_list() == [1, 2]


def test_a_repair_that_dies_anywhere_is_finished_by_the_next_one(tmp_path, monkeypatch):
    rows, there = differing()
    stream = ordered_by_offset(written(tmp_path, there, "delta"))
    lake_of(tmp_path / "lake", stream, rows)
    monkeypatch.setattr(assets.reconcile, "alone", lambda *_: nullcontext(Lease("rows", 2**62)))

    def work(lake):
        decide(lake, stream, [DAY, *due(lake, stream)])
        run(lake, stream, repair="yes")

    def check(lake):
        assert image(lake, stream) == wanted(there)
        prove(lake, stream)
        repaired = lake.read(tables.bronze(stream)).filter(pl.col("tile").str.starts_with("repair/"))
        assert repaired.select(pl.len()).collect().item() == 3

    assert dying_everywhere(tmp_path / "lake", tmp_path, work, check, after=False) > 5
