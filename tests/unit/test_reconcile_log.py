"""Bronze against the Kafka log: offsets, counts and checksums a tile, down to the record."""

import polars as pl
import pytest

from assets import reconcile_log
from assets.asked import Asked
from assets.reconcile import reconcile
from assets.verdicts import standing
from resources.lake import Lake
from sluice import tables
from sluice.errors import TopicRecreatedError
from tests.engine import HOURS, busy_log, load, orders

STREAM = orders()


@pytest.fixture
def loaded(tmp_path):
    """A busy log of two partitions and four tiles, in bronze."""
    kafka, lake = busy_log(), Lake(str(tmp_path / "lake"))
    load(lake, kafka, STREAM, HOURS[:4])
    return lake, kafka


def run(lake, kafka, stream=STREAM, **asked):
    return reconcile(lake, stream, Asked(**asked), run_id="run", kafka=kafka, say=lambda _: None)


def rewritten(lake, change) -> None:
    """Tamper with bronze."""
    table = tables.bronze(STREAM)
    handle = lake.open(table.name)
    rows = change(lake.scan(handle).collect())
    lake.commit(handle, rows.select(list(table.columns)), mode="overwrite", predicate="epoch = 1")


def test_bronze_as_it_was_read_equals_the_log(loaded):
    found = run(*loaded).verdict.compared
    assert found.equal
    assert found.ranges == 8
    assert found.lake_rows == found.source_rows == 60


FIVE = pl.col("offset") == 5


def forged(rows):
    """Add a record where the log has a gap."""
    offsets = set(rows.filter(pl.col("partition") == 1)["offset"])
    gap = next(offset for offset in range(100) if offset not in offsets)
    near = rows.filter((pl.col("partition") == 1) & (pl.col("offset") == gap - 1))
    return pl.concat([rows, near.with_columns(offset=pl.lit(gap, pl.Int64))])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("missing", lambda rows: rows.filter(~FIVE)),
        ("extra", forged),
        ("different", lambda rows: rows.with_columns(pl.when(~FIVE).then("value"))),
        ("different", lambda rows: pl.concat([rows, rows.filter(FIVE)])),
    ],
    ids=["lost", "forged", "changed", "twice"],
)
def test_a_record_that_differs_is_named(loaded, kind, change):
    lake, kafka = loaded
    rewritten(lake, change)
    done = run(lake, kafka)
    assert not done.verdict.compared.equal
    assert kind in set(done.told["kind"])
    assert 0 < done.verdict.compared.differing < 8
    assert standing(lake, STREAM)["against"].to_list() == ["log"]


def test_what_the_log_let_go_is_no_difference(loaded):
    lake, kafka = loaded
    kafka.expire("t", 0, 12)
    found = run(lake, kafka).verdict.compared
    assert found.equal
    assert found.lake_rows < 60


def test_a_topic_made_again_is_refused(loaded):
    lake, kafka = loaded
    kafka.create("t", 2, topic_id="another")
    with pytest.raises(TopicRecreatedError):
        run(lake, kafka)


def test_a_tile_that_differs_is_looked_at_in_pieces(loaded, monkeypatch):
    """All differences are counted, `most` of them kept; no piece holds more than its offsets."""
    lake, kafka = loaded
    rewritten(lake, lambda rows: rows.with_columns(pl.lit(b"other").alias("value")))
    monkeypatch.setattr(reconcile_log, "_ROWS", 4)
    unlike, seen = reconcile_log._unlike, []

    def watched(bronze, log):
        seen.append((bronze.height, log.height))
        return unlike(bronze, log)

    monkeypatch.setattr(reconcile_log, "_unlike", watched)
    done = run(lake, kafka, most=7)
    found = done.verdict.compared
    assert (found.missing, found.extra, found.different) == (0, 0, 60)
    assert (found.rows.height, found.listed_all) == (7, False)
    assert max(max(pair) for pair in seen) <= 4
    assert [sum(heights) for heights in zip(*seen, strict=True)] == [60, 60]
