"""The fold against what others document and test: Databricks AUTO CDC, dbt snapshots, dlt.

The cases are images or changes; expected rows are theirs.
"""

import json

import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver, silver_rows
from conftest import SHARED

from sluice.decode_changes import decode_changes
from sluice.history.scd2 import fold, intervals_broken

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the shared data is absent")

# Cases in which we give something else on purpose; each has a test of its own that says why.
DIFFERENT = (
    "hard_deletes=new_record",
    "new_record with valid_to_current",
    "merge key is a partition",
    "explicit boundary timestamps",
)


def cases(file: str, member: str, *, different: bool = False) -> list:
    path = SHARED / "scd2" / file
    found = json.loads(path.read_text())[member] if path.exists() else []
    chosen = [case for case in found if case["name"].startswith(DIFFERENT) == different]
    return [pytest.param(case, id=case["name"]) for case in chosen]


def different(file: str, name: str) -> dict:
    """Give a case of DIFFERENT by how its name begins."""
    return next(c.values[0] for c in cases(file, "cases", different=True) if c.id.startswith(name))


def gaps(folded: pl.DataFrame, key: tuple[str, ...]) -> int:
    """Count the intervals in which keys were deleted: each follows a version that nothing follows at once."""
    begins = folded.select(*key, valid_to="valid_from")
    return folded.filter(~pl.col("is_current")).join(begins, on=[*key, "valid_to"], how="anti").height


def dtype(values: list) -> type | pl.DataType:
    value = next((v for v in values if v is not None), "")
    return pl.List(pl.Int64) if isinstance(value, list) else type(value)


def columns_of(rows: list[dict]) -> dict:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: dtype([row.get(name) for row in rows]) for name in names}


def images(
    snapshots: list,
    moments: list,
    key: tuple[str, ...],
    *,
    complete: bool,
    track: tuple[str, ...] | None = None,
):
    """Fold complete images, or batches of changed rows, told at moments; gives stream, all silver rows."""
    rows = [row | {"load_at": at} for at, image in zip(moments, snapshots, strict=True) for row in image]
    stream = changes_of(
        columns_of(rows),
        key,
        sequence="load_at",
        valid_from="load_at",
        snapshot="load_at" if complete else None,
        track=track,
        history=True,
    )
    return stream, silver_rows(stream, rows).sample(fraction=1.0, shuffle=True, seed=1)


# --- Databricks -------------------------------------------------------------------------------------------


@pytest.fixture
def feed() -> dict:
    return json.loads((SHARED / "scd2" / "databricks_docs_cases.json").read_text())["cdf"]


def of_feed(feed: dict, *, truncate: bool = False, **options) -> list[dict]:
    """Decode the feed from JSON and fold it, shuffled and doubled."""
    columns = {"userId": int, "name": str, "city": str, "operation": str, "sequenceNum": int}
    stream = changes_of(
        columns,
        "userId",
        sequence="sequenceNum",
        valid_from="sequenceNum",
        delete_when=pl.col("operation") == "DELETE",
        truncate_when=pl.col("operation") == "TRUNCATE",
        **({"track": ("name", "city")} | options),
    )
    rows = feed["rows"] + [feed["optional_truncate_row"]] * truncate
    silver = decoded_silver(stream, bronze(rows))
    silver = pl.concat([silver, silver]).sample(fraction=1.0, shuffle=True, seed=1)
    renamed = {"valid_from": "__START_AT", "valid_to": "__END_AT"}
    folded = fold(silver, stream).rename(renamed, strict=False).sort("userId")
    return folded.select(
        "userId", "name", "city", *[n for n in renamed.values() if n in folded.columns]
    ).to_dicts()


def test_databricks_scd1(feed):
    assert of_feed(feed) == feed["expected_scd1"]


def test_databricks_scd1_with_truncate(feed):
    assert of_feed(feed, truncate=True) == feed["expected_scd1_with_truncate"]


def test_databricks_scd2(feed):
    assert of_feed(feed, history=True) == feed["expected_scd2"]


def test_databricks_scd2_without_tracking_the_city(feed):
    expected = feed["expected_scd2_track_history_except_city"]
    assert of_feed(feed, history=True, track=("name",)) == expected


@pytest.mark.parametrize("case", cases("databricks_docs_cases.json", "snapshots"))
def test_databricks_snapshots(case):
    track = case.get("track_history_columns")
    moments = [image["at"] for image in case["snapshots"]]
    told = [image["rows"] for image in case["snapshots"]]
    stream, rows = images(told, moments, tuple(case["keys"]), complete=True, track=track and tuple(track))
    expected = case["expected_scd2"]
    folded = fold(rows, stream).rename({"valid_from": "__START_AT", "valid_to": "__END_AT"})
    order = [*case["keys"], "__START_AT"]
    assert folded.select(expected[0].keys()).sort(order).to_dicts() == sorted(
        expected, key=lambda row: [row[name] for name in order]
    )


# --- dbt --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("dbt_snapshot_cases.json", "cases"))
def test_dbt_snapshots(case):
    config, key = case["config"], tuple(case["key"])
    checked = config.get("check_cols")
    track = (config["updated_at"],) if checked is None else None if checked == "all" else tuple(checked)
    complete = case["hard_deletes"] == "invalidate"
    for count, expected in enumerate(case["expected_row_count_after_each"], 1):
        told = case["snapshots"][:count]
        stream, rows = images(told, list(range(count)), key, complete=complete, track=track)
        folded = fold(rows, stream)
        assert folded.height == expected
        assert intervals_broken(folded, key, history=True).is_empty()
    if "expected_ids_current" in case:
        assert folded.filter("is_current")["id"].to_list() == case["expected_ids_current"]
        assert folded.filter(~pl.col("is_current"))["id"].to_list() == case["expected_ids_closed"]


def test_dbt_new_record():
    """hard_deletes=new_record: a deletion is a version of its own; here it is a gap.

    A row that says "deleted" must be left out by each reader of the table; a gap cannot be joined by mistake.
    Each of dbt's rows of a deletion is one of our gaps, and nothing else differs.
    """
    case, key = different("dbt_snapshot_cases.json", "hard_deletes"), ("id", "first_name")
    for count, expected in enumerate(case["expected_row_count_after_each"], 1):
        told = case["snapshots"][:count]
        stream, rows = images(told, list(range(count)), key, complete=True, track=("updated_at",))
        folded = fold(rows, stream)
        assert folded.height + gaps(folded, key) == expected
        first = folded.filter(pl.col("id") == 1)
        assert first.height + gaps(first, key) == case["expected_rows_for_id_1_after_each"][count - 1]


def test_dbt_new_record_with_valid_to_current():
    """valid_to_current=9999-12-31: an open version has no end, whatever the type of `valid_from`."""
    case = different("dbt_snapshot_cases.json", "new_record with")
    stream, rows = images(case["snapshots"], [0, 1, 2], ("id",), complete=True)
    folded = fold(rows, stream)
    assert gaps(folded.filter(pl.col("id") == 1), ("id",)) == case["expected_deleted_rows_for_id_1"]
    assert folded.select("id", "valid_to").rows() == [(1, 1), (2, None)]


# --- dlt --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("dlt_scd2_cases.json", "cases"))
def test_dlt_loads(case):
    flat = [
        [
            {k: v for n, x in row.items() for k, v in (x.items() if isinstance(x, dict) else [(n, x)])}
            for row in load
        ]
        for load in case["loads"]
    ]
    flat = [[{"c2__nc1" if n == "nc1" else n: v for n, v in row.items()} for row in load] for load in flat]
    key = tuple(case.get("merge_key", ["nk"]))
    counts = case.get("expected_count_after_each", [])
    for count in range(1, len(flat) + 1):
        complete = "merge_key" not in case
        stream, rows = images(flat[:count], list(range(1, count + 1)), key, complete=complete)
        folded = fold(rows, stream).rename({"valid_from": "from", "valid_to": "to"})
        expected = case.get("expected_after_each", [None] * len(flat))[count - 1]
        if count == len(flat):
            expected = expected or case.get("expected_after_last") or case.get("expected_after_last_nk_to")
        if expected:
            told = folded.select(expected[0].keys()).to_dicts()
            assert sorted(map(repr, told)) == sorted(map(repr, expected))
        if counts:
            assert folded.height == counts[count - 1]


def test_dlt_merge_key_is_a_partition():
    """Reload of one day: what the day lacks is retired there; here an image is one of the whole stream.

    Absence in a part of the table says nothing by itself: the row stays until it is told as deleted, or until
    a whole image lacks it.
    """
    case = different("dlt_scd2_cases.json", "merge key is a partition")
    stream, rows = images(case["loads"], [1, 2, 3], ("date", "name"), complete=False)
    expected = case["expected_after_last"]
    names = ["date", "name"]
    assert fold(rows, stream).select(names).to_dicts() == [{n: row[n] for n in names} for row in expected]
    assert fold(rows, stream).filter("is_current").height == len(expected)
    told = case["loads"]
    marked = [{"op": "d", "load_at": 3} | row for row in told[0] if row not in told[2]]
    kept = [{"op": "u", "load_at": n} | row for n, load in enumerate(told, 1) for row in load]
    stream = changes_of(
        {"date": str, "name": str, "load_at": int},
        ("date", "name"),
        sequence="load_at",
        valid_from="load_at",
        delete_when=pl.col("op") == "d",
        history=True,
    )
    folded = fold(decoded_silver(stream, bronze(kept + marked)), stream).rename({"valid_to": "to"})
    assert folded.select(expected[0].keys()).to_dicts() == expected  # b, told as deleted, ends at 3


def test_dlt_explicit_boundary_timestamps():
    """A boundary before the last one: dlt closes a version before it began; here it is sorted in."""
    case = different("dlt_scd2_cases.json", "explicit boundary")
    rows = [row | {"at": load["at"]} for load in case["loads"][:3] for row in load["rows"]]
    rows = [row | {"at": row["at"] if "T" in row["at"] else row["at"] + "T00:00:00Z"} for row in rows]
    stream = changes_of(
        {"nk": int, "foo": str, "at": pl.Datetime("us", "UTC")},
        "nk",
        sequence="at",
        valid_from="at",
        snapshot="at",
        history=True,
    )
    folded = fold(decoded_silver(stream, bronze(rows)), stream)
    days = folded.select("nk", "foo", pl.col("valid_from", "valid_to").dt.day()).rows()
    assert days == [
        (1, "bar", 20, 21),
        (1, "foo", 21, 22),
        (1, "bar", 22, None),
        (2, "foo", 21, 22),
        (3, "foo", 22, None),
    ]
    refused = decode_changes(stream, bronze([{"nk": 1, "foo": "bar", "at": case["loads"][3]["at"]}]))
    assert refused.failures["column"].to_list() == ["at"]
