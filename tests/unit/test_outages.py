"""What a failure of the store means: a lost race, a store that is away, one that refuses, a full disk."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from deltalake.exceptions import CommitFailedError, DeltaError
from polars.exceptions import ColumnNotFoundError, ComputeError

from assets.shell import failing_clearly
from resources import outages
from resources.outages import LostRace, patiently, told
from sluice.errors import LakeError, LakeFullError, LakeRefusedError, LakeUnreachableError

REFUSED = "Error performing PUT http://x in 1ms - Server returned non-2xx status code: 403 Forbidden"
BUSY = "Error performing GET http://x, after 10 retries - 503 Service Unavailable: <Code>SlowDown</Code>"


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (CommitFailedError("Concurrent transaction failed"), LostRace),
        (DeltaError("Invalid table version: 7"), LostRace),
        (DeltaError("Expected contiguous commit files, but found gap: 6209"), LostRace),
        (OSError("error sending request: connection refused (os error 111)"), LakeUnreachableError),
        (ComputeError("HTTP error: error sending request: operation timed out"), LakeUnreachableError),
        (OSError(BUSY), LakeUnreachableError),
        (OSError(REFUSED), LakeRefusedError),
        (DeltaError("<Code>NoSuchBucket</Code>"), LakeRefusedError),
        (PermissionError("Permission denied (os error 13)"), LakeRefusedError),
        (OSError("No space left on device (os error 28)"), LakeFullError),
        (OSError(28, "No space left on device"), LakeFullError),
        (OSError(13, "Permission denied"), LakeRefusedError),
        (DeltaError("Invalid JSON in log"), LakeError),
        (ComputeError("conversion failed"), ComputeError),
        (ColumnNotFoundError("x"), ColumnNotFoundError),
        (KeyError("x"), KeyError),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else "",
)
def test_what_a_failure_means(error, meant):
    """(kafka-medallion 4)."""
    assert type(told("silver/orders", "s3://lake", error)) is meant


def test_a_store_that_comes_back_is_waited_for(monkeypatch):
    tried, pauses = [], []
    monkeypatch.setattr(outages.time, "sleep", pauses.append)

    def action() -> str:
        tried.append(1)
        if len(tried) < 8:
            raise OSError(BUSY)
        return "done"

    assert patiently("t", "u", 60, action) == "done"
    assert len(pauses) == 7
    assert pauses[-1] > pauses[0]  # they grow
    assert max(pauses) <= 3


@pytest.mark.parametrize(
    ("error", "meant"), [(OSError(REFUSED), LakeRefusedError), (KeyError("x"), KeyError)]
)
def test_what_waiting_does_not_mend_is_told_at_once(error, meant):
    tried = []

    def action() -> None:
        tried.append(1)
        raise error

    with pytest.raises(meant):
        patiently("t", "u", 60, action)
    assert len(tried) == 1


def test_patience_ends():
    def action() -> None:
        raise OSError(BUSY)

    with pytest.raises(LakeUnreachableError, match=r"'t' at u.*SlowDown.*STORE_PATIENCE_SECONDS"):
        patiently("t", "u", 0, action)


def test_a_late_scan_that_fails_for_the_store_lets_a_run_be_tried_again():
    """A permanent error is not."""
    with pytest.raises(LakeUnreachableError), failing_clearly():
        raise ComputeError(BUSY)
    with pytest.raises(dg.Failure), failing_clearly():
        raise LakeRefusedError("t", "u", REFUSED)


FULL = """
import resource, sys
import polars as pl
from resources.lake import Lake
from sluice.errors import LakeFullError
from sluice.tables import Table
table = Table("test/text", {"t": pl.String()}, (), "")
lake = Lake(sys.argv[1])
lake.commit(lake.ensure(table), pl.DataFrame({"t": ["first"]}))
many = pl.DataFrame({"n": range(300_000)}).select(t=(pl.col("n") * 2654435761).hash().cast(pl.String))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    lake.retrying(table.name, lambda: lake.commit(lake.ensure(table), many))
except LakeFullError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(lake.read(table).collect()["t"].to_list())
lake.retrying(table.name, lambda: lake.commit(lake.ensure(table), many))
print(lake.read(table).collect().height)
"""


def test_a_full_disk_is_told_clearly_and_nothing_is_lost(tmp_path):
    """A file that may not grow fails as one on a full disk does; with room again the next run goes on."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=root, check=False, capture_output=True, text=True
    )
    assert "no space is left" in done.stdout, done.stderr
    assert "nothing was committed" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["['first']", "300001"]
