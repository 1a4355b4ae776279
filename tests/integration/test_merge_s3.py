"""Merging on a real S3 server: files are written, taken out and found missing as on disk."""

import polars as pl
import pytest

from resources.data_files import DataFiles
from sluice import tables
from sluice.history.scd2 import fold
from tests.merging import customers, merged, silver_rows
from tests.seaweed import SeaweedFS, lake_at

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A SeaweedFS server; gives its address."""
    server = SeaweedFS(tmp_path_factory.mktemp("weed"))
    server.start()
    yield server.address
    server.kill()


def test_a_dimension_is_brought_onward_on_s3(store):
    """Changes in order, then late ones."""
    lake, stream = lake_at(store, "merge"), customers()
    for batch in range(3):
        rows = [{"id": key, "city": f"city {batch}", "n": 100 * batch + key} for key in range(1, 8)]
        rows += [{"id": 3, "city": "late", "n": 50}] if batch == 2 else []
        lake.commit(lake.ensure(tables.silver(stream)), silver_rows(stream, rows))
        merged(lake, stream)
    got = lake.read(tables.dimension(stream)).collect().drop("_bucket").sort("id", "version")
    wanted = fold(lake.read(tables.silver(stream)).collect(), stream).sort("id", "version")
    assert got.equals(wanted.select(got.columns))
    assert got.filter(pl.col("id") == 3)["city"].to_list() == ["city 0", "late", "city 1", "city 2"]


def test_a_file_that_is_gone_is_told_apart(store):
    """It was joined with others and deleted: then the bucket is folded anew."""
    lake, stream = lake_at(store, "gone"), customers()
    handle = lake.ensure(tables.silver(stream))
    with pytest.raises(FileNotFoundError):
        DataFiles(lake, handle).read(["_bucket=1/none.parquet"]).collect()
