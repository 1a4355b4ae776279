"""Repair from a collection of MongoDB: whole documents, at the cluster time as of which they were read."""

import json
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from bson import ObjectId
from deltalake import write_deltalake

import assets.reconcile
from assets.alone import Lease
from assets.merge import merge
from assets.repair import due
from sluice import Delta, tables
from tests.engine import Killed, at_commit, both, decide, kill, prove
from tests.mongodb_live import TOPIC, Alive, Named, contract, document, lived, run

QUIET = [0]  # the only key that others write to meanwhile


@pytest.fixture
def live(tmp_path, monkeypatch):
    """See `lived`."""
    with lived(tmp_path, monkeypatch) as made:
        yield made


def lost(connector) -> None:
    """Lose an update, a delete and an insert on their way to Kafka."""
    for key in (*range(20), 1001, 1002):
        connector.write(key, document(key))
    connector.deliver()
    connector.loses = True
    connector.write(1001, document(1001, name="mended", more={"deep": ["ä", None]}))
    connector.write(1002, None)
    connector.write(1003, document(1003))
    connector.deliver()
    connector.loses = False


def image(lake, stream) -> dict:
    merge(lake, stream, say=lambda _: None)
    rows = lake.read(tables.dimension(stream)).filter(pl.col("id") >= 1000)
    rows = rows.filter("is_current") if stream.history else rows
    return {row["id"]: row for row in rows.select("id", "name", "city", "rest").collect().to_dicts()}


def mended(lake, stream) -> None:
    found = image(lake, stream)
    assert sorted(found) == [1001, 1003]
    assert found[1001]["name"] == "mended"
    assert json.loads(found[1001]["rest"])["more"] == {"deep": ["ä", None]}
    assert found[1003]["city"] == "Ulm"


def repairs(lake, stream) -> pl.DataFrame:
    bronze = lake.read(tables.bronze(stream)).filter(pl.col("tile").str.starts_with("repair/"))
    return bronze.sort("offset").collect()


@pytest.mark.parametrize("history", [False, True])
def test_changes_that_were_lost_are_repaired_and_the_repair_is_reconciled(live, history):
    lake, kafka, server, connector = live
    stream = contract(history=history)
    lost(connector)
    with Alive(connector, keys=QUIET):
        done = run(lake, kafka, stream, repair="yes")
        assert done.repaired.repair == f"3 rows, in tile repair/{done.repaired.report}"
        assert done.verdict.compared.equal, done.verdict.compared.rows
        at = server.clock
        connector.write(1001, document(1001, name="later"))
        connector.write(1003, None)
    assert server.clock > at
    with Alive(connector, keys=QUIET):
        assert run(lake, kafka, stream).verdict.compared.equal
    assert {key: row["name"] for key, row in image(lake, stream).items()} == {1001: "later"}
    prove(lake, stream)
    if history:
        told = lake.read(tables.dimension(stream)).filter(pl.col("id") == 1001).sort("version").collect()
        names = told["name"].to_list()
        assert names == ["n1001", "mended", "later"][-len(names) :]
        assert told["valid_to"].to_list() == [*told["valid_from"].to_list()[1:], None]
        gone = lake.read(tables.dimension(stream)).filter(pl.col("id") == 1002).collect()
        assert gone["is_current"].to_list() == [False]


def test_the_records_are_the_connectors_own_and_a_rebuild_gives_the_same(live):
    lake, kafka, _, connector = live
    stream = contract()
    lost(connector)
    with Alive(connector, keys=QUIET):
        done = run(lake, kafka, stream, repair="yes")
    records = repairs(lake, stream)
    told = {json.loads(key)["id"]: json.loads(value) for key, value in records.select("key", "value").rows()}
    assert told.keys() == {'{"$numberInt":"1001"}', '{"$numberLong":"1002"}', '{"$numberInt":"1003"}'}
    update, delete = told['{"$numberInt":"1001"}'], told['{"$numberLong":"1002"}']
    assert json.loads(update["after"])["more"] == {"deep": ["ä", None]}
    assert json.loads(update["after"])["address"]["no"] == {"$numberInt": "5"}, "also what no column has"
    assert (update["op"], delete["op"], delete["after"]) == ("r", "d", None)
    source = update["source"]
    assert source["snapshot"] == "incremental"
    place = f"cluster time ({source['ts_ms'] // 1000}, {source['ord']})"
    assert done.repaired.position.startswith(place)
    changed = replace(stream, ignore_null=("name",))
    decide(lake, changed, [*sorted(set(tiles(lake, stream))), *due(lake, changed)])
    mended(lake, changed)
    prove(lake, changed)


def tiles(lake, stream) -> list[str]:
    found = lake.read(tables.bronze(stream)).select("tile").collect()["tile"]
    return [tile for tile in found if not tile.startswith("repair/")]


def test_bronze_has_whole_documents_also_where_columns_name_few_members(live):
    lake, kafka, server, connector = live
    stream = contract(schema=Named)
    connector.write("a", {"_id": "a", "name": "n"})
    connector.deliver()
    key = ObjectId(b"twelve bytes")
    server.write("shop.customers", key, {"_id": key, "name": "lost", "more": [1]})
    with Alive(connector, keys=["a"]):
        done = run(lake, kafka, stream, repair="yes")
    assert done.verdict.compared.equal
    ((name, value),) = repairs(lake, stream).select("key", "value").rows()
    oid = {"$oid": str(key)}
    assert json.loads(json.loads(name)["id"]) == oid
    told = json.loads(json.loads(value)["after"])
    assert told == {"_id": oid, "name": "lost", "more": [{"$numberInt": "1"}]}


def test_a_dry_run_tells_and_changes_nothing(live):
    lake, kafka, _, connector = live
    stream = contract()
    lost(connector)
    with Alive(connector, keys=QUIET):
        done = run(lake, kafka, stream, repair="dry_run")
    assert done.repaired is None
    assert done.verdict.repair == "dry run: 3 rows"
    assert repairs(lake, stream).is_empty()
    assert sorted(image(lake, stream)) == [1001, 1002]


def test_a_repair_that_died_is_done_once(live, tmp_path, monkeypatch):
    lake, kafka, _, connector = live
    stream = contract()
    monkeypatch.setattr(assets.reconcile, "alone", lambda *_: nullcontext(Lease("rows", 2**62)))
    lost(connector)
    with Alive(connector, keys=QUIET):
        assert not run(lake, kafka, stream).verdict.compared.equal
        reports = []
        for number in range(1, 60, 2):  # each run goes on where the one before died
            try:
                with at_commit(number, kill, after=number % 4 == 1):
                    reports.append(run(lake, kafka, stream, repair="yes"))
                break
            except Killed:
                continue
        assert reports
        assert number > 5
        assert run(lake, kafka, stream, repair="yes").repaired is None
    mended(lake, stream)
    prove(lake, stream)
    assert repairs(lake, stream).height == 3


def test_what_tells_only_what_changed_is_applied_to_what_was_repaired(live):
    lake, kafka, server, connector = live
    stream = contract()
    lost(connector)
    with Alive(connector, keys=QUIET):
        run(lake, kafka, stream, repair="yes")
        at = server.write("shop.customers", 1001, document(1001, name="part", more={"deep": ["ä", None]}))
        source = {"connector": "mongodb", "snapshot": "false", "ts_ms": at.time * 1000, "ord": at.inc}
        part = {"updatedFields": json.dumps({"name": "part"}), "removedFields": None, "truncatedArrays": None}
        value = {"op": "u", "before": None, "after": None, "updateDescription": part, "source": source}
        key = json.dumps({"id": "1001"}).encode()
        kafka.produce(TOPIC, json.dumps(value).encode(), stamp_ms=int(time.time() * 1000), key=key)
        assert run(lake, kafka, stream).verdict.compared.equal
    found = image(lake, stream)[1001]
    assert found["name"] == "part"
    assert json.loads(found["rest"])["more"] == {"deep": ["ä", None]}


def test_documents_that_are_too_much_for_one_repair_are_left_for_the_next(live, monkeypatch):
    lake, kafka, _, connector = live
    stream = contract()
    lost(connector)
    monkeypatch.setattr("resources.source_mongodb._HELD", 10)
    with Alive(connector, keys=QUIET):
        done = run(lake, kafka, stream, repair="yes")
        assert "2 rows; 1 cannot be: documents that are too much" in done.repaired.repair
        assert run(lake, kafka, stream, repair="yes").verdict.compared.equal
    mended(lake, stream)


def test_documents_that_are_held_against_a_table_are_written_from_its_columns(live, tmp_path):
    lake, kafka, _, connector = live
    stream = contract(source=Delta(uri=str(tmp_path / "there")))
    lost(connector)
    columns = [column.name for column in stream.columns]
    bring(lake, kafka, stream)
    merge(lake, stream, say=lambda _: None)
    rows = lake.read(tables.dimension(stream)).select(columns).filter(pl.col("id") != 1002).collect()
    mine = pl.col("id") == 1001
    rows = rows.with_columns(
        pl.when(mine).then(pl.lit("mended")).otherwise("name").alias("name"),
        pl.when(mine)
        .then(pl.lit('{"flag":true,"more":{"deep":["ä",null]}}'))
        .otherwise("rest")
        .alias("rest"),
    )
    more = rows.filter(mine).with_columns(pl.lit(1003, pl.Int64).alias("id"))
    write_deltalake(str(tmp_path / "there"), pl.concat([rows, more]).to_arrow())
    done = run(lake, kafka, stream, repair="yes")
    assert done.repaired.repair == f"3 rows, in tile repair/{done.repaired.report}"
    assert done.verdict.compared.equal, done.verdict.compared.rows
    mended(lake, stream)
    connector.write(1001, document(1001, name="later"))
    connector.deliver()
    bring(lake, kafka, stream)
    assert image(lake, stream)[1001]["name"] == "later"
    prove(lake, stream)


def bring(lake, kafka, stream) -> None:
    tiles = [window.tile for window in stream.partitions.windows(datetime.now(UTC))]
    both(lake, kafka, stream, tiles, now=datetime.now(UTC) + timedelta(minutes=1))


def test_what_no_column_can_hold_is_told_and_not_written(live):
    lake, kafka, server, connector = live
    stream = contract()
    lost(connector)
    server.write("shop.customers", 1001, document(1001, amount="much"))
    server.write("shop.customers", "text", document("text"))
    with Alive(connector, keys=QUIET):
        done = run(lake, kafka, stream, repair="yes")
    says = done.repaired.repair
    assert says.startswith("2 rows; ")
    assert "1 cannot be: a document whose key its column cannot hold" in says
    assert "amount" in says or "much" in says
    found = done.verdict.compared
    assert (found.missing, found.extra, found.different) == (1, 0, 1)
