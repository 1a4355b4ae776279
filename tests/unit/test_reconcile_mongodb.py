"""A collection that others write to, held against the lake as of one cluster time, by the real client."""

import random
import time

import pandera.polars as pa
import polars as pl
import pytest
from bson import ObjectId

from assets.verdicts import DIFFERENCES_TABLE, PROGRESS_TABLE
from resources.source_mongodb import MongoSnapshot
from sluice import tables
from tests.beside import ended_half_way
from tests.engine import prove
from tests.mongodb_live import NAME, TOPIC, Alive, Customer, Named, contract, document, lived, run


@pytest.fixture
def live(tmp_path, monkeypatch):
    """See `lived`."""
    with lived(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("history", [False, True])
def test_live_writes_change_nothing_in_the_verdict(live, history):
    lake, kafka, _, connector = live
    stream = contract(history=history)
    for key in range(200):
        connector.write(key, document(key))
    connector.deliver()
    with Alive(connector) as others:
        for _ in range(2):
            before = others.writes
            verdict = run(lake, kafka, stream).verdict
            assert verdict.compared.equal, verdict.compared.rows
            assert verdict.compared.source_rows > 100
            assert "cluster time" in verdict.position
            assert others.writes > before, "others wrote meanwhile"
    prove(lake, stream)


def test_what_is_wrong_in_the_lake_is_found_while_others_write(live):
    lake, kafka, _, connector = live
    stream = contract()
    for key in (*range(100), 1001, 1002, 1003):
        connector.write(key, document(key))
    connector.deliver()
    with Alive(connector):
        assert run(lake, kafka, stream).verdict.compared.equal
        table = tables.dimension(stream)
        handle = lake.ensure(table)
        rows = lake.scan(handle).collect()
        amount = (
            pl.when(pl.col("id") == 1002).then(pl.lit("0.01").cast(pl.Decimal(20, 4))).otherwise("amount")
        )
        name = pl.when(pl.col("id") == 1003).then(pl.lit("tampered")).otherwise("name").alias("name")
        wrong = rows.filter(pl.col("id") != 1001).with_columns(amount.alias("amount"), name)
        lake.commit(handle, wrong.select(list(table.columns)), mode="overwrite", predicate="id > -1")
        done = run(lake, kafka, stream, repair="yes")
    kept = lake.read(DIFFERENCES_TABLE).filter(pl.col("report") == done.repaired.report).collect()
    rows = kept.filter(pl.col("key").str.contains("100"))
    told = {(row["kind"], row["key"], *row["columns"]) for row in rows.to_dicts()}
    assert told == {
        ("missing", '{"id": 1001}'),
        ("different", '{"id": 1002}', "amount"),
        ("different", '{"id": 1003}', "name"),
    }
    assert "tampered" not in str(kept.to_dicts()), "personal values are masked"
    assert done.repaired.repair == f"3 rows, in tile repair/{done.repaired.report}"
    assert done.verdict.compared.equal, done.verdict.compared.rows


def losing(connector) -> None:
    """Deliver documents, of which the connector loses all changes from then on."""
    for key in (*range(20), 1001, 1002):
        connector.write(key, document(key))
    connector.deliver()
    connector.loses = True


def test_lost_changes_are_found(live):
    lake, kafka, _, connector = live
    stream = contract()
    losing(connector)
    connector.write(1001, document(1001, more="lost"))
    connector.write(1002, None)
    connector.write(1003, document(1003))
    with Alive(connector, keys=range(20)):
        found = run(lake, kafka, stream).verdict.compared
    assert (found.missing, found.extra, found.different) == (1, 1, 1)
    assert found.rows.filter(kind="different").row(0, named=True)["columns"] == ["rest"]


def test_a_lost_change_inside_a_struct_is_found(live):
    lake, kafka, _, connector = live
    stream = contract()
    losing(connector)
    rooms = [{"m2": 1.5}, {"m2": 2.5}]
    connector.write(1001, document(1001, address={"city": "Ulm", "no": 5, "rooms": rooms}))
    connector.write(1002, document(1002, address={"city": "Ulm"}))
    connector.deliver()
    connector.loses = False
    with Alive(connector, keys=[0]):
        done = run(lake, kafka, stream, repair="yes")
    found = done.repaired.compared.rows
    assert found["columns"].to_list() == [["home"], ["home"]]
    told = dict(zip(found["id"], found["source"].struct.field("home"), strict=True))
    assert told[1001] == {"city": "Ulm", "no": 5, "rooms": rooms}
    assert told[1002] == {"city": "Ulm", "no": None, "rooms": None}
    assert done.verdict.compared.equal


def test_a_lake_without_rows_lacks_them_all(live):
    lake, kafka, server, connector = live
    for key in range(3):
        server.write(NAME, key, document(key))
    with Alive(connector, keys=[0]):
        done = run(lake, kafka, contract(), repair="yes")
    assert done.repaired.compared.missing >= 2
    assert done.verdict.compared.equal


def test_a_document_that_no_column_can_hold_is_told_and_none_is_dropped(live):
    lake, kafka, server, connector = live
    stream = contract()
    for key in range(10):
        connector.write(key, document(key))
    server.write(NAME, 4, document(4, amount="much"))
    server.write(NAME, "text", document("text"))
    connector.deliver()
    with Alive(connector, keys=range(3)):
        found = run(lake, kafka, stream).verdict.compared
    assert (found.missing, found.extra, found.different) == (1, 0, 1)
    assert found.rows.filter(kind="missing")["id"].to_list() == [None]
    assert found.rows.filter(kind="different")["columns"].to_list() == [["amount"]]


def ids(kind: str, count: int) -> list:
    rng = random.Random(5)  # noqa: S311
    made = [bytes(rng.randbytes(12)) for _ in range(count)]
    if kind == "ObjectId":
        return [ObjectId(one) for one in made]
    texts = [f"{one.hex()[:4]} ä €" for one in made]
    return texts if kind == "text" else [*texts[::2], *(ObjectId(one) for one in made[::2])]


def test_a_later_change_that_silver_refused_hides_no_rows(live):
    lake, kafka, _, connector = live
    for key in range(20):
        connector.write(key, document(key))
    connector.deliver()
    stamp = int(time.time() * 1000)
    for value in (b"\xff{", b"{", None, b"[]", b'{"source": 5}', b'{"source": {"ts_ms": "x", "ord": -1}}'):
        kafka.produce(TOPIC, value, stamp_ms=stamp, key=b"\xff")
    with Alive(connector, keys=["refused"]):
        found = run(lake, kafka, contract(), most=50).verdict.compared
    assert found.lake_rows == 20
    assert (found.extra, found.different) == (0, 0)


@pytest.mark.parametrize("kind", ["ObjectId", "text", "both"])
def test_ranges_are_asked_for_by_the_keys_own_type(live, monkeypatch, kind):
    lake, kafka, server, connector = live
    monkeypatch.setattr("resources.text_compare.RANGE", 20)
    monkeypatch.setattr("resources.text_compare._FEW", 8)
    stream = contract(schema=Named)
    keys = ids(kind, 120)
    for key in keys:
        connector.write(key, {"_id": key, "name": "n"})
    connector.deliver()
    server.write(NAME, keys[3], {"_id": keys[3], "name": "changed"})
    server.write(NAME, keys[5], None)
    with Alive(connector, keys=keys[:1]):
        found = run(lake, kafka, stream, parallel=2).verdict.compared
    mine = found.rows.filter(pl.col("id").is_in([str(keys[3]), str(keys[5])])).sort("kind")
    assert mine["kind"].to_list() == ["different", "extra"]
    bounded = [one for one in server.asked if one.get("filter", {}).get("_id")]
    assert bool(bounded) == (kind != "both")
    assert all(one["readConcern"]["level"] == "snapshot" for one in server.asked)
    times = {
        one["readConcern"]["atClusterTime"] for one in server.asked if "atClusterTime" in one["readConcern"]
    }
    assert len(times) == 1, "all sessions read one snapshot"


def test_one_that_was_stopped_goes_on_where_it_was(live, monkeypatch):
    lake, kafka, _, connector = live
    stream = contract()
    for key in range(600):
        connector.write(key, document(key))
    connector.deliver()
    asked = ended_half_way(monkeypatch, MongoSnapshot)
    with Alive(connector, keys=[0]):
        with pytest.raises(KeyboardInterrupt):
            run(lake, kafka, stream)
        first = len(asked)
        verdict = run(lake, kafka, stream, resume=True).verdict
    assert verdict.compared.equal
    assert "ranges as of cluster time" in verdict.position
    assert len(asked) - first < 6, "what was found equal is not asked for again"


def test_how_far_it_came_is_not_kept_where_that_is_told_by_personal_keys(live, monkeypatch):
    class Private(Customer):
        id: int = pa.Field(metadata={"path": "_id", "pii": True})

    lake, kafka, _, connector = live
    for key in range(600):
        connector.write(key, document(key))
    connector.deliver()
    ended_half_way(monkeypatch, MongoSnapshot)
    with Alive(connector, keys=[0]):
        with pytest.raises(KeyboardInterrupt):
            run(lake, kafka, contract(Private))
        assert lake.read(PROGRESS_TABLE).collect().is_empty()
        assert run(lake, kafka, contract(Private), resume=True).verdict.compared.equal


def test_the_load_is_bounded(live):
    lake, kafka, _, connector = live
    for key in range(300):
        connector.write(key, document(key))
    connector.deliver()
    began = time.monotonic()
    with Alive(connector, keys=[0]):
        assert run(lake, kafka, contract(), rows_per_second=300).verdict.compared.equal
    assert time.monotonic() - began > 0.9
