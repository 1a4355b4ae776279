"""Repair of a stream of MySQL's changes, held against a table: the place in the newest binlog counts."""

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandera.polars as pa
import polars as pl
import pytest
from deltalake import write_deltalake

import assets.reconcile
from assets.alone import Lease
from assets.merge import merge
from assets.repair import due
from resources.lake import Lake
from sluice import Changes, Daily, Debezium, Delta, tables
from tests.engine import both, decide, dying_everywhere, prove
from tests.fake_kafka import FakeKafka
from tests.reconciling import run

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = NOW - timedelta(hours=1)
A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "3e11fa47-71ca-11e1-9e33-c80aa9429563"


class Row(pa.DataFrameModel):
    id: int
    name: str = pa.Field(nullable=True)
    amount: pl.Decimal(12, 2) = pa.Field(nullable=True)


def contract(folder, **arguments) -> Changes:
    return Changes(
        **{
            "name": "rows",
            "topic": "t",
            "value": Debezium("mysql"),
            "schema": Row,
            "key": "id",
            "partitions": Daily(start=(NOW - timedelta(days=1)).date().isoformat()),
            "source": Delta(uri=str(folder / "there")),
        }
        | arguments
    )


class Binlog:
    """A server's log, from which a connector writes to Kafka."""

    def __init__(self, kafka, file: int = 1, server: str | None = A, at: datetime = HOUR) -> None:
        self._kafka, self._file, self._server, self._at, self._place = kafka, file, server, at, 100

    def send(self, key: int, name: str | None, seconds: int | None = 1, written: int = 300) -> None:
        """Write a change so many seconds after the last one (None: now), and milliseconds later to Kafka."""
        now = datetime.now(UTC).replace(microsecond=0)
        self._at = now if seconds is None else self._at + timedelta(seconds=seconds)
        self._place += 50
        stamp = int(self._at.timestamp() * 1000)
        source = {"connector": "mysql", "snapshot": "false", "db": "shop", "table": "rows", "ts_ms": stamp}
        source |= {"file": f"bin.{self._file:06d}", "pos": self._place, "row": 0}
        source |= {"gtid": f"{self._server}:{self._place}"} if self._server else {"server_id": 0}
        row = {"id": key, "name": name, "amount": f"{key}.5"}
        value = {"op": "d" if name is None else "u", "before": row, "after": name and row, "source": source}
        self._kafka.produce(
            "t",
            json.dumps(value).encode(),
            stamp_ms=stamp + written,
            partition=key % 2,
            key=b'{"id": %d}' % key,
        )


def there(folder, rows: dict[int, str]) -> None:
    """Write the table that is the source."""
    frame = pl.DataFrame(
        {"id": list(rows), "name": list(rows.values()), "amount": [f"{key}.50" for key in rows]}
    )
    frame = frame.with_columns(pl.col("amount").cast(pl.Decimal(12, 2)))
    write_deltalake(str(folder / "there"), frame.to_arrow(), mode="overwrite")


def made(folder) -> tuple[Lake, FakeKafka]:
    kafka = FakeKafka()
    kafka.create("t", 2)
    return Lake(str(folder / "lake")), kafka


def bring(lake, kafka, stream) -> None:
    tiles = [window.tile for window in stream.partitions.windows(datetime.now(UTC))]
    both(lake, kafka, stream, tiles, now=datetime.now(UTC) + timedelta(minutes=5))


def image(lake, stream) -> dict[int, str]:
    merge(lake, stream, say=lambda _: None)
    rows = lake.read(tables.dimension(stream))
    rows = rows.filter("is_current") if stream.history else rows
    return dict(rows.select("id", "name").sort("id").collect().rows())


def source_of_repair(lake, stream) -> dict:
    rows = lake.read(tables.bronze(stream)).filter(pl.col("tile").str.starts_with("repair/"))
    return json.loads(rows.select("value").collect()["value"][0])["source"]


WANTED = {1: "a", 2: "mended", 5: "came"}


def lost(folder, stream, kafka=None) -> tuple[Lake, FakeKafka, Binlog]:
    """Give a lake that lacks an insert, an update and a delete."""
    lake, kafka = made(folder)
    log = Binlog(kafka)
    for key, name in ((1, "a"), (2, "b"), (3, "c")):
        log.send(key, name)
    bring(lake, kafka, stream)
    there(folder, WANTED)
    return lake, kafka, log


@pytest.mark.parametrize("history", [False, True])
def test_what_differs_is_repaired_and_later_changes_win(tmp_path, history):
    stream = contract(tmp_path, history=history)
    lake, kafka, log = lost(tmp_path, stream)
    done = run(lake, stream, repair="yes")
    assert done.repaired.repair == f"3 rows, in tile repair/{done.repaired.report}"
    assert done.verdict.compared.equal, done.verdict.compared.rows
    assert image(lake, stream) == WANTED
    told = source_of_repair(lake, stream)
    assert (told["file"], told["pos"], told["row"]) == ("binlog.000001", 250, 0)
    assert (told["db"], told["table"], told["server_id"], told["snapshot"]) == (
        "shop",
        "rows",
        A,
        "incremental",
    )
    log.send(2, "later", None)  # in the second of the repair, or just after it
    log.send(5, None, 0)
    bring(lake, kafka, stream)
    assert image(lake, stream) == {1: "a", 2: "later"}
    prove(lake, stream)
    if history:
        rows = lake.read(tables.dimension(stream)).filter(pl.col("id") == 3).collect()
        assert rows["is_current"].to_list() == [False]


def test_a_dry_run_tells_and_changes_nothing(tmp_path):
    stream = contract(tmp_path)
    lake, _, _ = lost(tmp_path, stream)
    assert run(lake, stream, repair="dry_run").verdict.repair == "dry run: 3 rows"
    assert image(lake, stream) == {1: "a", 2: "b", 3: "c"}


def test_a_rebuild_gives_the_same(tmp_path):
    stream = contract(tmp_path)
    lake, _, _ = lost(tmp_path, stream)
    run(lake, stream, repair="yes")
    changed = replace(stream, ignore_null=("name",))
    tiles = [window.tile for window in stream.partitions.windows(datetime.now(UTC))]
    decide(lake, changed, [*tiles, *due(lake, changed)])
    assert image(lake, changed) == WANTED
    prove(lake, changed)


def test_a_repair_that_dies_anywhere_is_done_once(tmp_path, monkeypatch):
    stream = contract(tmp_path)
    lost(tmp_path, stream)
    monkeypatch.setattr(assets.reconcile, "alone", lambda *_: nullcontext(Lease("rows", 2**62)))

    def check(lake):
        assert image(lake, stream) == WANTED
        prove(lake, stream)
        records = lake.read(tables.bronze(stream)).filter(pl.col("tile").str.starts_with("repair/"))
        assert records.select(pl.len()).collect().item() == 3

    def work(lake):
        run(lake, stream, repair="yes")

    assert dying_everywhere(tmp_path / "lake", tmp_path, work, check, after=True) > 5


def test_where_another_server_took_over_its_own_log_counts(tmp_path):
    """Its binlogs begin anew, so the greatest place of all is one of the server that is gone."""
    stream = contract(tmp_path)
    lake, kafka = made(tmp_path)
    old = Binlog(kafka, file=900)
    for key in (1, 2, 3):
        old.send(key, "old")
    log = Binlog(kafka, file=1, server=B, at=NOW - timedelta(seconds=40))
    log.send(1, "new")
    bring(lake, kafka, stream)
    there(tmp_path, {1: "new", 2: "mended", 3: "old", 4: "came"})
    done = run(lake, stream, repair="yes")
    assert done.verdict.compared.equal, done.verdict.compared.rows
    told = source_of_repair(lake, stream)
    assert (told["file"], told["server_id"]) == ("binlog.000001", B)
    log.send(2, "later", None)
    log.send(4, "later", 0)
    bring(lake, kafka, stream)
    assert image(lake, stream) == {1: "new", 2: "later", 3: "old", 4: "later"}
    prove(lake, stream)


@pytest.mark.parametrize("server", [A, None])
def test_a_log_that_began_anew_under_one_name_is_refused(tmp_path, server):
    stream = contract(tmp_path)
    lake, kafka = made(tmp_path)
    Binlog(kafka, file=900, server=server).send(1, "old")
    Binlog(kafka, file=1, server=server, at=NOW - timedelta(seconds=40)).send(2, "new")
    bring(lake, kafka, stream)
    there(tmp_path, {1: "old", 2: "other"})
    done = run(lake, stream, repair="yes")
    assert done.repaired is None
    assert done.verdict.repair.startswith("0 rows; 1 cannot be: the source's log began anew")
    assert image(lake, stream) == {1: "old", 2: "new"}


@pytest.mark.parametrize("restarted", ["no", "at once", "later"])
def test_changes_told_late_or_again_are_of_the_same_log(tmp_path, restarted):
    """A long statement has the clock of its beginning; a connector may tell what it told before."""
    stream = contract(tmp_path)
    lake, kafka = made(tmp_path)
    log = Binlog(kafka)
    log.send(1, "a", 600)
    log.send(2, "b", -300, written=300_400)  # began before, and was written after
    if restarted != "no":
        if restarted == "later":
            bring(lake, kafka, stream)
        again = Binlog(kafka)
        again.send(1, "a", 600, written=300_500)
        again.send(2, "b", -300, written=600_600)
    bring(lake, kafka, stream)
    there(tmp_path, {1: "a", 2: "mended"})
    assert run(lake, stream, repair="yes").verdict.compared.equal
    assert source_of_repair(lake, stream)["pos"] == 200
    log.send(2, "later", None)
    bring(lake, kafka, stream)
    assert image(lake, stream) == {1: "a", 2: "later"}


def test_rows_without_places_are_ordered_by_the_kafka_log(tmp_path):
    """Unwrapped rows tell no place: a repair is one of them, and later ones win by Kafka's clock."""
    stream = contract(tmp_path, value=Debezium("mysql", unwrapped=True))
    lake, kafka = made(tmp_path)

    def send(key, name, at):
        value = None if name is None else json.dumps({"id": key, "name": name, "amount": f"{key}.5"}).encode()
        stamp = int(at.timestamp() * 1000)
        kafka.produce("t", value, stamp_ms=stamp, partition=key % 2, key=b'{"id": %d}' % key)

    for number in range(9):
        send(1, "a", HOUR + timedelta(seconds=number))
    for key in (2, 3):
        send(key, "b", HOUR + timedelta(minutes=key))
    bring(lake, kafka, stream)
    there(tmp_path, WANTED)
    assert run(lake, stream, repair="yes").verdict.compared.equal
    send(2, "later", datetime.now(UTC) + timedelta(seconds=1))
    send(5, None, datetime.now(UTC) + timedelta(seconds=1))
    bring(lake, kafka, stream)
    assert image(lake, stream) == {1: "a", 2: "later"}
    prove(lake, stream)
