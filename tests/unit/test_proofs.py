"""What was proven is not counted again, and whatever is tampered with afterwards is found as before."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from assets import equations, proofs
from resources.lake import Lake
from sluice.tables import PROVEN_TABLE
from tests.engine import HOURS, START, both, busy_log, orders, send, value
from tests.unit.test_equations import BRONZE as BRONZE_TABLE
from tests.unit.test_equations import IN_BRONZE, IN_SILVER, mend, tamper

STREAM = orders()
TILES = HOURS[:4]


@pytest.fixture(scope="module")
def proven(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("proven")
    lake = Lake(str(folder))
    both(lake, busy_log(), STREAM, TILES)
    for layer in ("bronze", "silver"):
        assert proofs.unequal(lake, STREAM, layer).is_empty()
    return folder


@pytest.fixture
def lake(proven, tmp_path) -> Lake:
    shutil.copytree(proven, tmp_path / "lake")
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def counted(monkeypatch) -> list[list[str]]:
    """Note the tiles that are counted."""
    seen: list[list[str]] = []

    def noting(count):
        def wrapped(lake, stream, tiles):
            seen.append(list(tiles))
            return count(lake, stream, tiles)

        return wrapped

    monkeypatch.setattr(proofs, "_COUNTS", {k: noting(v) for k, v in proofs._COUNTS.items()})
    return seen


@pytest.mark.parametrize("layer", ["bronze", "silver"])
def test_what_was_proven_is_not_counted_again(lake, counted, layer):
    before = lake.read(PROVEN_TABLE).collect().height
    assert proofs.unequal(lake, STREAM, layer).is_empty()
    assert counted == [[]]
    assert lake.read(PROVEN_TABLE).collect().height == before


@pytest.mark.parametrize("case", IN_BRONZE)
def test_bronze_tampered_with_after_its_proof_is_found(lake, case):
    """(kafka-medallion 10)."""
    tamper(lake, BRONZE_TABLE, IN_BRONZE[case][0])
    found = proofs.unequal(lake, STREAM, "bronze")
    assert found.equals(equations.bronze_unequal(lake, STREAM))
    assert set(found["tile"]) == IN_BRONZE[case][1]
    assert proofs.unequal(lake, STREAM, "bronze").equals(found), "what is broken is never kept as proven"
    mend(lake, busy_log())
    assert proofs.unequal(lake, STREAM, "bronze").is_empty()


@pytest.mark.parametrize("case", IN_SILVER)
def test_silver_tampered_with_after_its_proof_is_found(lake, case):
    """(kafka-medallion 10)."""
    table, change, tiles = IN_SILVER[case]
    tamper(lake, table, change)
    found = proofs.unequal(lake, STREAM, "silver")
    assert found.equals(equations.silver_unequal(lake, STREAM))
    assert set(found["tile"]) == tiles


def test_a_hole_or_gap_told_otherwise_is_counted_again(lake, counted):
    """Accounts are part of what is proven."""
    ledger = lake.read(proofs.tables.LEDGER_TABLE).collect()
    lake.commit(
        lake.open("system/ledger"),
        ledger.with_columns(gaps=ledger["gaps"] + 1),
        mode="overwrite",
        predicate="stream = 'orders'",
    )
    assert set(proofs.unequal(lake, STREAM, "bronze")["tile"]) == set(TILES)
    assert counted == [TILES]


def test_an_open_tile_is_counted_each_time_and_its_batches_are_no_proof(tmp_path, counted):
    lake, kafka = Lake(str(tmp_path)), busy_log()
    now = START + timedelta(hours=3, minutes=30)
    both(lake, kafka, STREAM, TILES, now=now)
    for layer in ("bronze", "silver"):
        assert proofs.unequal(lake, STREAM, layer).is_empty()
    assert set(lake.read(PROVEN_TABLE).collect()["tile"]) == set(TILES[:3])
    send(kafka, value("late", "1", 225), 225)
    both(lake, kafka, STREAM, TILES, now=now)
    counted.clear()
    assert proofs.unequal(lake, STREAM, "bronze").is_empty()
    assert counted == [TILES[3:]]
