"""The lake on a real S3 server (SeaweedFS from a wheel): the same code, the same tables as on disk."""

import threading

import polars as pl
import pytest

from assets.maintenance import Keeping, cut_log, maintain
from resources.lake import Lake
from resources.transactions import transactions
from sluice.tables import LEDGER_TABLE, TILES_TABLE
from tests.engine import HOURS, assert_same, both, busy_log, orders, prove, state
from tests.seaweed import SeaweedFS, lake_at

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A SeaweedFS server; gives its address."""
    server = SeaweedFS(tmp_path_factory.mktemp("weed"))
    server.start()
    yield server.address
    server.kill()


def test_tables_on_s3_equal_those_on_disk(store, tmp_path):
    """Kinesis-iceberg 13, 46: what is written is read back, whatever the store."""
    on_s3, on_disk, stream = lake_at(store, "equal"), Lake(str(tmp_path)), orders()
    for lake in (on_s3, on_disk):
        both(lake, busy_log(), stream, HOURS[:6])
        prove(lake, stream)
    assert_same(state(on_s3, stream), state(on_disk, stream))


def test_racing_appends_lose_nothing(store):
    """Kafka-medallion 40: eight writers at once, each commit lands once."""
    lake = lake_at(store, "race")
    table = LEDGER_TABLE
    lake.ensure(table)
    row = pl.DataFrame(schema=table.columns).vstack(
        pl.DataFrame({"stream": ["s"]}).select(
            pl.col("stream") if name == "stream" else pl.lit(None, dtype).alias(name)
            for name, dtype in table.columns.items()
        )
    )

    def append(number: int) -> None:
        mine = row.with_columns(run_id=pl.lit(str(number)))
        lake.retrying(table.name, lambda: lake.commit(lake.ensure(table), mine, progress={f"w{number}": 1}))

    writers = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(lake.read(table).collect()["run_id"]) == [str(number) for number in range(8)]


def test_maintenance_and_held_handles_on_s3(store):
    """Logs cut, files joined and deleted, handles kept: tables say what they said (kafka-medallion 40)."""
    lake, stream = lake_at(store, "maintained"), orders()
    long, keeping = lake_at(store, "maintained"), Keeping(hours=1, commits=3)
    for hour in HOURS[:3]:
        both(long, busy_log(), stream, [hour])
        maintain(lake, [stream], keeping, say=lambda _text: None)
    before = state(lake, stream)
    none = pl.DataFrame(schema=TILES_TABLE.columns)
    for number in range(30):
        lake.commit(lake.ensure(TILES_TABLE), none, progress={"n": number + 1})
    assert cut_log(lake, TILES_TABLE.name, 2**40, keeping) > 10
    assert transactions(long.ensure(TILES_TABLE)) == transactions(lake.ensure(TILES_TABLE))
    assert transactions(lake.ensure(TILES_TABLE))["n"] == 30
    prove(long, stream)
    assert_same(state(long, stream), before)
