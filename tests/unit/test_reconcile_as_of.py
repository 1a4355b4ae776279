"""The lake as of a position: changes beyond it left out, and only the keys that nothing is known of."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from assets import before as before_module
from assets.as_of_postgres import later
from assets.before import Before
from assets.images import image_upto
from resources.data_files import DataFiles
from resources.lake import Lake
from resources.source_postgres import Visible
from resources.table_sides import Side
from sluice import Debezium, tables
from sluice.dedupe import placed
from sluice.errors import SourceError
from sluice.history.follow import among
from sluice.history.scd2 import fold
from sluice.tables import ROW_COORDINATES
from tests.changes import bronze, changes_of, decoded_silver, silver_rows
from tests.reconciling import customers, filled, row, run, written
from tests.source_changes import pg

NAIVE, ZONED = pl.Datetime("us"), pl.Datetime("us", "UTC")
DAYS = [datetime(2025, month, 1, tzinfo=UTC) for month in (1, 2, 3)]
BARE = [day.replace(tzinfo=None) for day in DAYS]
TOKYO = pl.Datetime("us", "Asia/Tokyo")


@pytest.mark.parametrize(
    ("dtype", "values", "upto", "there"),
    [
        (pl.Int64, [1, 2, 3], "2", pl.Int16),
        (pl.String, ["a", "b", "c"], "b", pl.String),
        (pl.Decimal(10, 2), [1, 2, 3], "2", pl.Decimal(10, 2)),
        (pl.Date, [day.date() for day in DAYS], "2025-02-01", pl.Date),
        (ZONED, DAYS, "2025-02-01T00:00:00Z", ZONED),
        (ZONED, DAYS, "2025-02-01 00:00:00", pl.Datetime("ns", "UTC")),
        (ZONED, DAYS, "2025-02-01T02:00:00+02:00", NAIVE),
        (NAIVE, BARE, "2025-02-01T00:00:00", NAIVE),
        (NAIVE, BARE, "2025-02-01T00:00:00", TOKYO),
    ],
)
def test_a_value_of_the_sequence_is_compared_as_a_value(tmp_path, dtype, values, upto, there):
    stream = changes_of({"id": pl.Int64, "s": dtype}, sequence="s")
    lake = Lake(str(tmp_path / "lake"))
    rows = silver_rows(stream, [{"id": n, "s": s} for n, s in enumerate(values)]).drop("_bucket")
    table = tables.silver(stream)
    lake.commit(lake.ensure(table), placed(rows, stream).select(list(table.columns)))
    frame = pl.DataFrame({"id": range(3), "s": values}, schema={"id": pl.Int64, "s": dtype})
    if there == TOKYO:
        frame = frame.with_columns(pl.col("s").dt.replace_time_zone("UTC"))
    frame.with_columns(pl.col("s").cast(there)).write_parquet(tmp_path / "x.parquet")
    source = Side([str(tmp_path / "x.parquet")], {"id": "id", "s": "s"})
    side, _, left_out = image_upto(lake, stream, ["id", "s"], tmp_path, source, upto)
    assert left_out.rows() == [(2,)]
    assert side.instead is not None
    assert (side.instead[0].rows(), side.instead[1].height) == ([(2,)], 0)


def test_what_is_no_value_of_the_sequence_is_named(tmp_path):
    rows = [row(1)]
    stream = customers(written(tmp_path, rows, "delta"))
    with pytest.raises(SourceError, match="'soon', which is no Int64; give a value of seq"):
        run(filled(tmp_path, stream, rows), stream, upto="soon")


@pytest.mark.parametrize("history", [False, True])
def test_keys_that_changed_beyond_are_compared_as_of_then(tmp_path, history):
    """Only such as the source has moved on count as unknown; how many is told."""
    rows = [row(n) for n in range(10)]
    there = [*rows[:5], row(5, name="beyond", seq=105), row(6, name="other"), *rows[7:]]
    stream = customers(written(tmp_path, there, "delta"), history=history)
    lake = filled(tmp_path, stream, [*rows, row(6, name="later", seq=200), row(7, name="later", seq=200)])
    verdict = run(lake, stream, upto="50").verdict
    found = verdict.compared
    assert found.rows.select("id", "kind").rows() == [(6, "different")]
    assert (found.lake_rows, found.source_rows) == (9, 9)
    assert verdict.position.endswith("seq up to 50; 1 keys that go beyond are left out")


def test_a_key_that_ended_beyond_is_left_out(tmp_path):
    rows = [row(n) for n in range(4)]
    stream = customers(written(tmp_path, rows[:3], "delta"), delete_when=pl.col("name") == "gone")
    lake = filled(tmp_path, stream, [*rows, row(3, name="gone", seq=200)])
    assert run(lake, stream, upto="50").verdict.compared.equal
    assert run(lake, stream).verdict.compared.equal


UNSENT = "__debezium_unavailable_value"
STREAM = changes_of({"id": int, "v": str}, value=Debezium("postgresql"), history=True)


def story(kind: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give changes of twenty keys, one of which changed its key, and those that do not count yet."""
    events = [pg(10 + n, n, f"v{n}", n, "c") for n in range(20)]
    headers = [[] for _ in events]
    events += [pg(40, 3, None, 40, "d"), pg(40, 103, UNSENT, 40, "c")]
    headers += [[], [{"key": "__debezium.oldkey", "value": b'{"id": 3}'}]]
    count = len(events)
    last = {
        "plain": [pg(50, 5, "later", 50)],
        "old key": [pg(50, 3, "later", 50)],
        "new key": [pg(50, 103, "later", 50)],
        "truncate": [pg(50, None, None, 50, "t")],
        "snapshot": [pg(50, n, "again", 50, "r", m) for n, m in ((5, "first"), (6, "last"))],
    }[kind]
    rows = decoded_silver(STREAM, bronze(events + last, headers=headers + [[] for _ in last]))
    silver = placed(rows, STREAM)
    return silver, silver.filter(pl.col("_offset") >= count)


@pytest.mark.parametrize("kind", ["plain", "old key", "new key", "truncate", "snapshot"])
def test_rows_that_stood_are_those_that_folding_all_gives(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(before_module, "PIECE", 4)
    silver, coming = story(kind)
    hidden = coming.select(ROW_COORDINATES)
    wanted = fold(silver.join(hidden, on=ROW_COORDINATES, how="anti"), STREAM).filter("is_current")
    before = Before(silver.lazy(), STREAM, hidden)
    assert before.reaches_all == (kind in ("truncate", "snapshot"))
    if before.reaches_all:
        files = before.written(["id", "v"], tmp_path)
        assert len(files) > 3, "a piece at a time"
        found = pl.read_parquet(files)
    else:
        keys = before.touched()
        assert keys["id"].sort().to_list() == ([5] if kind == "plain" else [3, 103])
        found = before.rows(keys)
        wanted = wanted.filter(among(wanted, keys, ["id"]))
    assert found.select("id", "v").sort("id").rows() == wanted.select("id", "v").sort("id").rows()


def test_images_told_by_a_column_are_folded_as_of_then(tmp_path, monkeypatch):
    monkeypatch.setattr(before_module, "PIECE", 4)
    stream = changes_of({"id": int, "load": int, "v": str}, sequence="load", snapshot="load", history=True)
    rows = [{"id": n, "load": load, "v": f"{n}"} for load in (1, 2, 3) for n in range(load, 12)]
    silver = placed(silver_rows(stream, rows).drop("_bucket"), stream)
    hidden = silver.filter(pl.col("load") == 3).select(ROW_COORDINATES)
    files = Before(silver.lazy(), stream, hidden).written(["id"], tmp_path)
    assert pl.read_parquet(files)["id"].sort().to_list() == list(range(2, 12))


def test_what_a_snapshot_does_not_see_is_looked_for_file_by_file(tmp_path, monkeypatch):
    """Old files are not opened; bytes that are no text are passed over."""
    lake, now = Lake(str(tmp_path)), datetime.now(UTC)
    for number, at in enumerate((now - timedelta(days=1), now, now)):
        source = {"lsn": 1, "sequence": '["1", "1"]', "snapshot": "false"}
        values = [{"source": source | {"txId": 10 * number + n}} for n in range(10)]
        records = bronze([*values, b"\xff"], offset=list(range(11 * number, 11 * number + 11)))
        records = records.with_columns(pl.lit(at).cast(tables.UTC_TIME).alias("timestamp"))
        lake.commit(lake.ensure(tables.bronze(STREAM)), records)
    opened: list[int] = []
    read = DataFiles.read
    monkeypatch.setattr(
        DataFiles, "read", lambda files, paths: opened.append(len(paths)) or read(files, paths)
    )
    found = later(lake, STREAM, Visible("5:25:17", 0, now, now))
    transactions = [17, 25, 26, 27, 28, 29]
    assert found["_offset"].sort().to_list() == [11 * (n // 10) + n % 10 for n in transactions]
    assert opened == [1, 1]
