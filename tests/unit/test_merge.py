"""Changes end to end, from the log to dimensions: any order, only what was touched, whatever dies."""

import json
import shutil
import tempfile
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assets.ingest import Limits
from assets.maintenance import join_small
from assets.merge import files, merge
from resources.lake import Lake
from sluice import Changes, Hourly, Json, tables
from sluice.history.scd2 import intervals_broken
from tests.engine import (
    HOURS,
    assert_same,
    both,
    decide,
    dying_everywhere,
    load,
    meeting_everywhere,
    prove,
    send,
    state,
)
from tests.fake_kafka import FakeKafka

TILES = HOURS[:3]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes a second: shrinking takes minutes


class Customer(pa.DataFrameModel):
    id: int
    city: str = pa.Field(nullable=True)
    name: str = pa.Field(nullable=True)
    n: int
    op: str


def customers(**arguments) -> Changes:
    return Changes(
        **{
            "topic": "t",
            "value": Json(),
            "schema": Customer,
            "key": "id",
            "sequence": "n",
            "delete_when": pl.col("op") == "d",
            "truncate_when": pl.col("op") == "t",
            "history": True,
            "track": ("city",),
            "partitions": Hourly(start="2026-01-01"),
            "max_quarantined": 1.0,
            "name": "customers",
        }
        | arguments
    )


STREAM = customers()


def change(n: int, key: int | None, city: str | None, op: str = "u") -> bytes:
    return json.dumps({"id": key, "city": city, "name": f"name {n}", "n": n, "op": op}).encode()


def log_of(sent: list[bytes]) -> FakeKafka:
    """Spread changes over the tiles and two partitions, in the order given."""
    kafka = FakeKafka()
    kafka.create("t", 2)
    for place, raw in enumerate(sent):
        send(kafka, raw, 180 * place / len(sent), place % 2)
    return kafka


LIFE = [change(n, n % 5, f"city {n // 10}", "d" if n % 13 == 12 else "u") for n in range(1, 40)] + [
    change(20, None, None, "t"),
    change(41, 3, "late"),
    change(7, 2, "city 0"),
    change(7, 2, "another"),
]


def folded(lake: Lake) -> None:
    merge(lake, STREAM, say=lambda _text: None)


def dimension(lake: Lake, stream: Changes = STREAM) -> pl.DataFrame:
    return lake.read(tables.dimension(stream)).collect().sort("id", "version")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Give a lake with silver of all changes, and no dimension yet."""
    folder = tmp_path_factory.mktemp("whole")
    both(Lake(str(folder)), log_of(LIFE), STREAM, TILES)
    return folder


def test_a_dimension_exists_from_the_first_run_on(tmp_path):
    """Empty or not, so what reads it can read it."""
    lake = Lake(str(tmp_path))
    done = merge(lake, STREAM)
    assert (done.rows, lake.open(tables.dimension(STREAM).name) is not None) == (0, True)
    assert dimension(lake).schema == pl.Schema(tables.dimension(STREAM).columns)


def test_the_life_of_customers_is_told_as_versions(whole, tmp_path):
    """Disjoint, at most one current, deletes and truncates close (kafka-medallion 12, kinesis 25)."""
    lake = copied(whole, tmp_path)
    folded(lake)
    prove(lake, STREAM)
    rows = dimension(lake)
    assert {"valid_from", "valid_to", "is_current", "version"} <= set(rows.columns)
    assert intervals_broken(rows, STREAM.keys, history=True).is_empty()
    assert rows.filter((pl.col("id") == 3) & pl.col("is_current"))["city"].to_list() == ["late"]
    assert rows.filter(pl.col("is_current").sum().over("id") > 1).is_empty()


def copied(start: Path, folder: Path) -> Lake:
    shutil.copytree(start, folder / "lake")
    return Lake(str(folder / "lake"))


changes = st.lists(
    st.tuples(
        st.integers(1, 12), st.sampled_from([1, 2, 3]), st.sampled_from("ab"), st.sampled_from("uuudt")
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=4, phases=PHASES)
@given(changes, st.permutations(TILES), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_dimension(found, order, random):
    """Shuffled log, shuffled tiles, merged after each or once: equal (kafka-medallion 12; kinesis 37)."""
    sent = [change(n, None if op == "t" else key, city, op) for n, key, city, op in found]
    straight = log_of(sorted(sent))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        sorted_lake, lake = Lake(one), Lake(two)
        both(sorted_lake, straight, STREAM, TILES)
        folded(sorted_lake)
        for tile in order:
            both(lake, straight, STREAM, [tile])
            if random.random() < 0.6:
                folded(lake)
        folded(lake)
        prove(lake, STREAM)
        assert_same(state(sorted_lake, STREAM), state(lake, STREAM))
        assert dimension(lake).equals(dimension(sorted_lake))


def test_only_the_buckets_that_were_touched_are_written(whole, tmp_path):
    """A new change of one key leaves the files of other buckets as they are (kinesis 37)."""
    lake = copied(whole, tmp_path)
    kafka = log_of(LIFE)
    folded(lake)
    table = tables.dimension(STREAM).name
    before = files(lake.open(table))
    send(kafka, change(99, 4, "new"), 200)
    both(lake, kafka, STREAM, HOURS[3:4])
    done = merge(lake, STREAM)
    after = files(lake.open(table))
    changed = {bucket for _, bucket in before.items() ^ after.items()}
    mine = set(dimension(lake).filter(pl.col("id") == 4)["_bucket"])
    assert (done.buckets, changed) == (1, mine)
    assert len(set(after.values())) > 1


def test_nothing_new_commits_nothing(whole, tmp_path):
    lake = copied(whole, tmp_path)
    folded(lake)
    before = lake.open(tables.dimension(STREAM).name).version()
    assert (merge(lake, STREAM).buckets, merge(lake, STREAM).version) == (0, before)


def test_compaction_of_silver_folds_nothing_anew(whole, tmp_path):
    """Its files are others, its rows are the same; and a change after it is seen as ever."""
    lake, kafka = copied(whole, tmp_path), log_of(LIFE)
    folded(lake)
    for number in range(12):
        send(kafka, change(100 + number, 4, f"city {number}"), 200)
    both(lake, kafka, STREAM, HOURS[3:4], Limits(1, 2**40))  # a commit each
    folded(lake)
    before = dimension(lake)
    assert join_small(lake, tables.silver(STREAM).name, target=2**24)[0] > 8
    assert merge(lake, STREAM).buckets == 0
    assert dimension(lake).equals(before)
    send(kafka, change(200, 4, "last"), 260)
    both(lake, kafka, STREAM, HOURS[4:5])
    assert merge(lake, STREAM).buckets == 1
    assert "last" in dimension(lake)["city"]


def test_a_truncate_concerns_every_bucket(whole, tmp_path):
    lake, kafka = copied(whole, tmp_path), log_of(LIFE)
    folded(lake)
    send(kafka, change(100, None, None, "t"), 200)
    both(lake, kafka, STREAM, HOURS[3:4])
    folded(lake)
    assert dimension(lake).filter("is_current").is_empty()
    assert dimension(lake).height > 0


def test_a_new_rule_and_the_old_one_again(whole, tmp_path):
    """What is tracked changes, and changes back: each time all is folded as the contract says now."""
    lake = copied(whole, tmp_path)
    folded(lake)
    by_city = dimension(lake)
    by_name = customers(track=("name",))
    merge(lake, by_name)
    fresh = copied(whole, tmp_path / "fresh")
    merge(fresh, by_name)
    assert dimension(lake).equals(dimension(fresh))
    assert not dimension(lake).equals(by_city)
    folded(lake)
    assert dimension(lake).equals(by_city)
    assert merge(lake, STREAM).buckets == 0


def test_rows_of_silver_decided_anew_are_folded_anew(whole, tmp_path):
    """A stricter contract takes changes away; the dimension follows."""

    class InCity(Customer):
        city: str = pa.Field(nullable=True, isin=["city 0", "city 1", "late"])

    strict = customers(schema=InCity)
    lake, fresh = copied(whole, tmp_path), Lake(str(tmp_path / "fresh"))
    folded(lake)
    decide(lake, strict, TILES)
    merge(lake, strict)
    both(fresh, log_of(LIFE), strict, TILES)
    merge(fresh, strict)
    assert dimension(lake, strict).equals(dimension(fresh, strict))
    assert set(dimension(lake, strict)["city"]) <= {"city 0", "city 1", "late"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_anywhere_between_the_log_and_the_dimension(whole, tmp_path, after):
    """(kinesis 15, 16)."""
    wanted = copied(whole, tmp_path / "wanted")
    folded(wanted)
    empty = tmp_path / "empty"
    load(Lake(str(empty)), log_of(LIFE), STREAM, TILES[:1])

    def work(lake: Lake) -> None:
        both(lake, log_of(LIFE), STREAM, TILES)
        folded(lake)

    def check(lake: Lake) -> None:
        prove(lake, STREAM)
        assert_same(state(wanted, STREAM), state(lake, STREAM))
        assert dimension(lake).equals(dimension(wanted))

    assert dying_everywhere(empty, tmp_path, work, check, after=after) >= 5


def test_two_merges_and_a_writer_of_silver_meet(whole, tmp_path):
    """(kafka-medallion 40)."""
    wanted = copied(whole, tmp_path / "wanted")
    folded(wanted)

    def check(lake: Lake) -> None:
        folded(lake)
        assert dimension(lake).equals(dimension(wanted))

    def writer(lake: Lake) -> None:
        decide(lake, STREAM, TILES[:1], replace=True)

    assert meeting_everywhere(whole, tmp_path, folded, folded, check) >= 1
    assert meeting_everywhere(whole, tmp_path, folded, writer, check) >= 1


def test_without_history_there_is_one_row_a_key(tmp_path):
    """The latest image, none of deleted keys."""
    latest, lake = customers(history=False, track=None), Lake(str(tmp_path))
    kafka = log_of(
        [change(1, 1, "a"), change(3, 1, "c"), change(2, 1, "b"), change(4, 2, "x"), change(5, 2, "", "d")]
    )
    both(lake, kafka, latest, TILES)
    merge(lake, latest)
    rows = lake.read(tables.dimension(latest)).collect()
    assert rows.select("id", "city").rows() == [(1, "c")]
