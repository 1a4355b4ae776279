"""Tables that someone tampered with: the right equation breaks, and materializing the tile again heals it."""

from pathlib import Path

import polars as pl
import pytest

from assets import aftermath, equations, proofs, reingest
from assets.ingest import Limits
from resources.lake import Lake
from sluice import tables
from sluice.tables import LEDGER_TABLE, Table
from tests.engine import (
    COORDINATES,
    HOURS,
    assert_same,
    busy_log,
    decide,
    dying_everywhere,
    orders,
    prove,
    state,
)

STREAM = orders()
TILES = HOURS[:4]
SILVER, BRONZE = tables.silver(STREAM), tables.bronze(STREAM)


def tamper(lake: Lake, table: Table, change) -> None:
    """Write a table's rows again, changed behind the engine's back."""
    rows = lake.read(table).collect()
    everything = " OR ".join(f"{table.partition_by[0]} = '{v}'" for v in rows[table.partition_by[0]].unique())
    lake.commit(lake.open(table.name), change(rows), mode="overwrite", predicate=everything)


def first_of(rows: pl.DataFrame, tile: str = TILES[1]) -> pl.Expr:
    """Name one row of a tile."""
    column = "_tile" if "_tile" in rows.columns else "tile"
    prefix = "_" if column == "_tile" else ""
    at = rows.filter(pl.col(column) == tile).sort(f"{prefix}partition", f"{prefix}offset").row(0, named=True)
    return (pl.col(f"{prefix}partition") == at[f"{prefix}partition"]) & (
        pl.col(f"{prefix}offset") == at[f"{prefix}offset"]
    )


def dropped(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~first_of(rows))


def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, rows.filter(first_of(rows))])


def moved(to: str):
    def change(rows: pl.DataFrame) -> pl.DataFrame:
        column = "_tile" if "_tile" in rows.columns else "tile"
        there = pl.when(first_of(rows)).then(pl.lit(to)).otherwise(pl.col(column))
        return rows.with_columns(there.alias(column))

    return change


def copied(to: str):
    def change(rows: pl.DataFrame) -> pl.DataFrame:
        column = "_tile" if "_tile" in rows.columns else "tile"
        return pl.concat([rows, rows.filter(first_of(rows)).with_columns(pl.lit(to).alias(column))])

    return change


def resolved(rows: pl.DataFrame) -> pl.DataFrame:
    stamp = pl.when(first_of(rows)).then(pl.col("quarantined_at")).otherwise(pl.col("resolved_at"))
    return rows.with_columns(resolved_at=stamp)


def in_any_parts(equation, lake: Lake) -> pl.DataFrame:
    """Count at once, and a few records at a time: a tile may have any number of them."""
    found = equation(lake, STREAM)
    with pytest.MonkeyPatch.context() as patch:
        for size in (3, 20):
            patch.setattr(equations, "COUNTED_AT_ONCE", size)
            assert equation(lake, STREAM).equals(found)
    return found


IN_SILVER = {
    "a row is gone": (SILVER, dropped, {TILES[1]}),
    "a row is there twice": (SILVER, doubled, {TILES[1]}),
    "a row is in a later tile": (SILVER, moved(TILES[3]), {TILES[1], TILES[3]}),
    "a row is in an earlier tile": (SILVER, moved(TILES[0]), {TILES[0], TILES[1]}),
    "a row is also in a later tile": (SILVER, copied(TILES[3]), {TILES[3]}),
    "a row is also in an earlier tile": (SILVER, copied(TILES[0]), {TILES[0]}),
    "quarantine says resolved": (tables.quarantine(STREAM), resolved, {TILES[1]}),
    "quarantine lost a record": (tables.quarantine(STREAM), dropped, {TILES[1]}),
    "a loser is gone": (tables.losers(STREAM), dropped, {TILES[1]}),
    "a loser is there twice": (tables.losers(STREAM), doubled, {TILES[1]}),
}


@pytest.mark.parametrize("case", IN_SILVER)
def test_silver_that_was_tampered_with_is_found_and_healed(busy_lake, case):
    """The third equation names the tiles; deciding them again heals (kafka-medallion 10; kinesis 16)."""
    wanted = state(busy_lake, STREAM)
    table, change, tiles = IN_SILVER[case]
    tamper(busy_lake, table, change)
    broken = in_any_parts(equations.silver_unequal, busy_lake)
    assert set(broken["tile"]) == tiles
    assert equations.bronze_unequal(busy_lake, STREAM).is_empty()
    done = decide(busy_lake, STREAM, sorted(tiles), Limits(6, 2**40))
    assert done.notes
    assert_same(wanted, state(busy_lake, STREAM))
    prove(busy_lake, STREAM)


IN_BRONZE = {
    "a record is gone": (dropped, {TILES[1]}),
    "a record is there twice": (doubled, {TILES[1]}),
    "a record is in a later tile": (moved(TILES[3]), {TILES[1], TILES[3]}),
    "a record is also in an earlier tile": (copied(TILES[0]), {TILES[0]}),
}


def mend(lake: Lake, kafka, tiles=TILES) -> list[str]:
    return reingest.mend(lake, kafka, STREAM, tiles, run_id="mend", limits=Limits(5, 2**40), every=False)


@pytest.mark.parametrize("case", IN_BRONZE)
def test_bronze_that_was_tampered_with_is_found_and_healed_from_kafka(busy_lake, case):
    """The second equation names the tiles; each is replaced as a whole (kafka-medallion 1, 10)."""
    wanted = busy_lake.read(BRONZE).drop("ingested_at").collect().sort("partition", "offset")
    change, tiles = IN_BRONZE[case]
    tamper(busy_lake, BRONZE, change)
    assert set(in_any_parts(equations.bronze_unequal, busy_lake)["tile"]) == tiles
    assert mend(busy_lake, busy_log()) == [f"replaced {tile} from Kafka" for tile in sorted(tiles)]
    assert busy_lake.read(BRONZE).drop("ingested_at").collect().sort("partition", "offset").equals(wanted)
    prove(busy_lake, STREAM)
    assert mend(busy_lake, busy_log()) == []


def test_bronze_is_healed_from_itself_where_kafka_lost_records(busy_lake):
    """Never is good data replaced by less."""
    wanted = busy_lake.read(BRONZE).drop("ingested_at").collect().sort("partition", "offset")
    tamper(busy_lake, BRONZE, doubled)
    kafka = busy_log()
    for partition in (0, 1):
        kafka.expire("t", partition, 1000)
    assert mend(busy_lake, kafka) == [
        f"replaced {TILES[1]} from bronze itself: Kafka no longer has all of it"
    ]
    assert busy_lake.read(BRONZE).drop("ingested_at").collect().sort("partition", "offset").equals(wanted)
    prove(busy_lake, STREAM)
    assert equations.holes(busy_lake, STREAM).is_empty()


def test_a_record_that_neither_bronze_nor_kafka_has_is_a_hole_not_a_gap(busy_lake):
    """What was read once and is gone for good is told as a loss."""
    tamper(busy_lake, BRONZE, dropped)
    kafka = busy_log()
    for partition in (0, 1):
        kafka.expire("t", partition, 1000)
    mend(busy_lake, kafka)
    assert equations.bronze_unequal(busy_lake, STREAM).is_empty()
    lost = equations.holes(busy_lake, STREAM)
    assert lost.select("tile", "holes").rows() == [(TILES[1], 1)]


def test_a_record_that_compaction_took_where_bronze_lost_it_is_a_hole_too(busy_lake):
    """All that bronze still holds comes back from Kafka, and the loss is told all the same."""
    whole = busy_lake.read(BRONZE).collect()
    tamper(busy_lake, BRONZE, dropped)
    rest = busy_lake.read(BRONZE).collect()
    kafka = busy_log()
    for partition, offset in whole.join(rest, on=COORDINATES, how="anti").select(COORDINATES[1:]).rows():
        del kafka.topics["t"][partition].records[offset]
    assert mend(busy_lake, kafka) == [f"replaced {TILES[1]} from Kafka"]
    assert equations.bronze_unequal(busy_lake, STREAM).is_empty()
    lost = equations.holes(busy_lake, STREAM)
    assert lost.select("tile", "holes").rows() == [(TILES[1], 1)]


def test_what_kafka_still_has_of_a_tile_completes_what_bronze_has(busy_lake):
    """A record that bronze lost comes back, though Kafka no longer has all of its tile."""
    wanted = busy_lake.read(BRONZE).drop("ingested_at").collect().sort("partition", "offset")
    tile = wanted.filter((pl.col("tile") == TILES[1]) & (pl.col("partition") == 0))["offset"]
    last = (pl.col("partition") == 0) & (pl.col("offset") == tile.max())
    tamper(busy_lake, BRONZE, lambda rows: rows.filter(~last))
    kafka = busy_log()
    kafka.expire("t", 0, tile.min() + 1)
    assert len(mend(busy_lake, kafka)) == 1
    assert busy_lake.read(BRONZE).drop("ingested_at").collect().sort("partition", "offset").equals(wanted)
    prove(busy_lake, STREAM)
    assert equations.holes(busy_lake, STREAM).is_empty()


def test_a_changed_ledger_is_not_whole(busy_lake):
    assert aftermath.ledger_is_whole(busy_lake, STREAM, "silver")
    tamper(busy_lake, LEDGER_TABLE, lambda rows: rows.with_columns(read=pl.col("read") + 1))
    assert not aftermath.ledger_is_whole(busy_lake, STREAM, "silver")
    assert equations.unbalanced(busy_lake, STREAM, "silver").height > 0


def test_gaps_are_counted_and_are_no_loss(busy_lake):
    kafka = busy_log()
    ledger = aftermath.ledger(busy_lake, STREAM, "bronze")
    gaps = sum(log.high - len(log.records) for log in kafka.topics["t"])
    assert (ledger["gaps"].sum(), ledger["holes"].sum()) == (gaps, 0)
    assert gaps > 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_while_bronze_is_mended_is_finished_by_the_next_run(busy_lake, tmp_path, after):
    """The whole tile in one commit: as it was, or as it should be (kinesis 16)."""
    tamper(busy_lake, BRONZE, dropped)

    def work(here: Lake) -> None:
        mend(here, busy_log())
        aftermath.finish(here, STREAM, "bronze")

    def check(here: Lake) -> None:
        prove(here, STREAM)
        sent = sum(len(log.records) for log in busy_log().topics["t"])
        assert here.read(BRONZE).collect().height == sent

    assert (
        dying_everywhere(Path(busy_lake.uri), tmp_path, work, check, after=after) == 3
    )  # proof, tile, ledger


def beaten_by(lake: Lake, winner: tuple[int, int, int]) -> None:
    """Say of a row of silver that it is a loser, too, beaten by the record at some coordinates."""
    row = lake.read(SILVER).filter(pl.col("_tile") == TILES[1]).collect()
    row = row.filter(first_of(row)).row(0, named=True)
    table = tables.losers(STREAM)
    told = {c: row[f"_{c}"] for c in ("topic", "tile", "epoch", "partition", "offset")}
    told |= zip(("winner_epoch", "winner_partition", "winner_offset"), winner, strict=True)
    one = pl.DataFrame([told], schema_overrides=dict(table.columns))
    columns = [pl.col(n) if n in one.columns else pl.lit(None, d).alias(n) for n, d in table.columns.items()]
    lake.commit(lake.ensure(table), one.select(columns))


def test_a_loser_whose_winner_silver_does_not_have_yet_is_none(busy_lake):
    beaten_by(busy_lake, (1, 0, 10**9))
    assert equations.silver_unequal(busy_lake, STREAM).is_empty()


def test_a_loser_that_a_death_left_is_found_and_healed(busy_lake):
    """Its winner was decided, and is no row of silver: nobody brings it any more."""
    at = busy_lake.read(tables.quarantine(STREAM)).select("epoch", "partition", "offset").collect().row(0)
    before = state(busy_lake, STREAM)
    beaten_by(busy_lake, at)
    assert equations.silver_unequal(busy_lake, STREAM)["twice"].to_list() == [1]
    decide(busy_lake, STREAM, TILES)
    assert_same(before, state(busy_lake, STREAM))
    prove(busy_lake, STREAM)


def test_a_loser_that_silver_holds_beside_its_winner_is_twice_there(busy_lake):
    rows = busy_lake.read(SILVER).filter(pl.col("_tile") == TILES[2]).collect()
    beaten_by(busy_lake, rows.select("_epoch", "_partition", "_offset").row(0))
    assert equations.silver_unequal(busy_lake, STREAM)["twice"].to_list() == [1]


def test_what_broke_while_others_wrote_is_counted_again(busy_lake, monkeypatch):
    found = equations.silver_unequal(busy_lake, STREAM)
    wrong = pl.DataFrame(
        {n: [TILES[1] if d == pl.String else 1] for n, d in found.schema.items()}, found.schema
    )
    answers = [wrong, found]

    def counted(*_: object) -> pl.DataFrame:
        if len(answers) == 2:
            busy_lake.commit(busy_lake.open(SILVER.name), busy_lake.read(SILVER).collect().clear())
        return answers.pop(0)

    monkeypatch.setitem(proofs._COUNTS, "silver", counted)
    assert proofs.unequal(busy_lake, STREAM, "silver").is_empty()
    assert not answers
