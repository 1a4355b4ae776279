"""One reconciliation of a stream at a time: whoever comes second, who loses its lease, who is stopped."""

import threading
import time
from dataclasses import replace

import polars as pl
import pytest

from assets import alone as alone_module
from assets import reconcile as reconciling
from assets.alone import alone
from assets.verdicts import VERDICTS, VERDICTS_TABLE, note, unfinished
from resources.lake import Lake
from resources.transactions import transactions
from sluice import tables
from sluice.errors import LakeUnreachableError, LeaseLostError, ReconciliationRunsError
from tests.reconciling import customers, filled, row, run, written


def test_another_reconciliation_of_the_stream_is_waited_for_skipped_or_refused(tmp_path):
    rows = [row(n) for n in range(3)]
    stream = customers(written(tmp_path, rows, "delta"))
    lake = filled(tmp_path, stream, rows)

    def busy(_seconds):
        raise AssertionError("it waits")

    with alone(lake, stream, "fail", busy) as mine:
        assert mine
        with alone(lake, stream, "skip", busy) as other:
            assert not other
        with pytest.raises(ReconciliationRunsError), alone(lake, stream, "fail", busy):
            pass
        with pytest.raises(AssertionError, match="it waits"), alone(lake, stream, "queue", busy):
            pass
        assert run(lake, stream, overlap="skip").verdict is None
    assert run(lake, stream, overlap="fail").verdict.compared.equal


def test_a_lease_that_was_not_renewed_in_time_leaves_no_verdict_and_repairs_nothing(tmp_path, monkeypatch):
    rows = [row(n) for n in range(3)]
    stream = customers(written(tmp_path, [*rows, row(3)], "delta"))
    lake = filled(tmp_path, stream, rows)

    def stalled(*told):
        until = transactions(lake.ensure(VERDICTS_TABLE))[f"reconciling/{stream.name}"]
        passed = {f"reconciling/{stream.name}": until + 2}  # another one took it
        lake.commit(lake.ensure(VERDICTS_TABLE), pl.DataFrame(schema=VERDICTS), progress=passed)
        while time.monotonic() - began < 2 and any(t.name.startswith("lease") for t in threading.enumerate()):
            time.sleep(0.01)
        return plan(*told)

    plan, began = reconciling.plan, time.monotonic()
    monkeypatch.setattr(reconciling, "plan", stalled)
    monkeypatch.setattr(alone_module, "LEASE", 0.3)
    with pytest.raises(LeaseLostError, match="another one may run"):
        run(lake, stream, repair="yes")
    assert lake.read(VERDICTS_TABLE).collect().is_empty()
    assert (
        lake.read(tables.bronze(stream))
        .filter(pl.col("tile").str.starts_with("repair/"))
        .collect()
        .is_empty()
    )


def test_a_store_that_is_away_longer_than_the_lease_is_noticed(tmp_path, monkeypatch):
    stream = customers(None)
    lake = Lake(str(tmp_path / "lake"))

    def away(*_told):
        raise LakeUnreachableError("the lake", "the store", "away")

    monkeypatch.setattr(alone_module, "LEASE", 0.3)
    monkeypatch.setattr(alone_module, "_renewed", away)
    with alone(lake, stream, "fail", time.sleep) as lease:
        lease.check()
        time.sleep(0.4)
        with pytest.raises(LeaseLostError):
            lease.check()


def test_what_was_stopped_is_not_taken_up_after_a_later_one_ended(tmp_path):
    rows = [row(n) for n in range(3)]
    stream = customers(written(tmp_path, rows, "delta"))
    lake = filled(tmp_path, stream, rows)
    note(lake, stream, "stopped", "snapshot 1", ["5"], [0])
    assert unfinished(lake, stream) == (["5"], {0}, "snapshot 1")
    assert unfinished(lake, replace(stream, source=None)) is not None
    run(lake, stream)
    assert unfinished(lake, stream) is None
    note(lake, stream, "stopped again", "snapshot 2", ["7"], [])
    assert unfinished(lake, stream) == (["7"], set(), "snapshot 2")
