"""With the index of keys, without it, with a cache that is stale or damaged: equal tables."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from resources import key_index as index_module
from resources.key_index import Hits, KeyIndex, hashed, key_index
from resources.key_runs import merged, of_files, opened
from resources.lake import Lake
from tests.engine import HOURS, Limits, assert_same, both, orders, prove, send, state, value
from tests.fake_kafka import FakeKafka

STREAM = orders()
TILES = HOURS[:3]


def log(chance: random.Random) -> FakeKafka:
    """Make a log of three hours with few keys, near and far apart, early and late."""
    kafka = FakeKafka()
    kafka.create("t", 2)
    for number in range(60):
        minutes = number * 3
        at = minutes + chance.choice((0, 0, -60, 24 * 60, -24 * 60)) + 48 * 60
        send(kafka, value(f"o{chance.randrange(25)}", f"{chance.randrange(2)}.10", at), minutes, number % 2)
    return kafka


@contextmanager
def cached(folder: Path) -> Iterator[None]:
    """Keep every run on disk, in a folder, and merge few: so that files matter."""
    key_index.cache_clear()
    kept = KeyIndex.__init__

    def with_folder(self, path, keys, by, told, _folder, most):
        kept(self, path, keys, by, told, folder, most)

    with (
        patch.object(KeyIndex, "__init__", with_folder),
        patch.object(index_module, "KEPT_FROM", 1),
        patch.object(index_module, "MERGED_TO", 12),
    ):
        yield
    key_index.cache_clear()


def everything(self, lake, handle, probes) -> Hits:
    """Answer as if nothing were known: each file may hold each key."""
    return Hits(probes["hash"].unique(), self._active(handle)["path"].to_list())


def ever(rows: pl.DataFrame) -> pl.DataFrame:
    """Ask for orders on all dates."""
    ends = {"low": pl.lit(date.min), "high": pl.lit(date.max)}
    return hashed(rows, ["order_id"]).alias("hash").to_frame().with_columns(**ends)


def damage(folder: Path, chance: random.Random) -> None:
    """Cut, change, empty or remove files of the cache; leave some."""
    for path in sorted(folder.rglob("*.keys")):
        raw = bytearray(path.read_bytes())
        path.unlink()  # never in place: someone may have it mapped
        match chance.randrange(4) if raw else 0:
            case 0:
                path.write_bytes(raw[: chance.randrange(len(raw) + 1)])
            case 1:
                raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
                path.write_bytes(raw)
            case 2:
                path.write_bytes(raw)


def run(folder: Path, seed: int, rows: int, between: Callable[[], object] = lambda: None) -> Lake:
    """Bring the tiles in, in an order and batches of their own; something happens between them."""
    lake, chance = Lake(str(folder)), random.Random(seed)  # noqa: S311  # a test
    kafka = log(chance)
    for tile in chance.sample(TILES, len(TILES)):
        both(lake, kafka, STREAM, [tile], Limits(rows, 2**40))
        between()
    return lake


@settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 2**32), st.sampled_from([7, 25, 100]))
def test_with_index_without_and_with_a_damaged_cache_the_tables_are_equal(tmp_path_factory, seed, rows):
    folder = tmp_path_factory.mktemp("keys")
    with patch.object(KeyIndex, "look", everything):
        wanted = state(run(folder / "without", seed, rows), STREAM)
    chance = random.Random(seed)  # noqa: S311  # a test

    def harm() -> None:
        key_index.cache_clear()  # the next batch is another process
        damage(folder / "cache", chance)

    with cached(folder / "cache"):
        whole = run(folder / "with", seed, rows)
        assert_same(wanted, state(whole, STREAM))
        harmed = run(folder / "harmed", seed, rows, harm)
        assert_same(wanted, state(harmed, STREAM))
        prove(harmed, STREAM)


def test_an_index_follows_compaction_and_finds_what_others_wrote(tmp_path):
    """Files that replaced others are read anew; what is gone is not an answer."""
    with cached(tmp_path / "cache"):
        lake = run(tmp_path / "lake", 1, 25)
        handle = lake.open("silver/orders")
        rows = lake.scan(handle).collect()
        index = key_index(lake.path("silver/orders"), ("order_id",), "_event_date")
        before = index.look(lake, handle, ever(rows))
        handle.optimize.compact()
        handle = lake.open("silver/orders")
        after = index.look(lake, handle, ever(rows))
        assert set(after.paths) == set(index._active(handle)["path"]) != set(before.paths)
        assert after.hashes.sort().equals(before.hashes.sort())
        unknown = pl.DataFrame({"order_id": ["never", None]})
        assert index.look(lake, handle, ever(unknown)).paths == []


def test_no_byte_of_a_kept_run_can_change_unseen(tmp_path):
    run = of_files([("a", pl.Series([3, 1, 1], dtype=pl.UInt64)), ("b", pl.Series([1, 9], dtype=pl.UInt64))])
    kept = run.keep(tmp_path)
    assert kept.kept is not None
    raw = kept.kept.read_bytes()
    probes = pl.Series([0, 1, 9, 10], dtype=pl.UInt64)
    found = sorted(kept.hits(probes).rows())
    assert found == sorted(run.hits(probes).rows()) == [(1, "a"), (1, "b"), (9, "b")]
    for place in [*range(36), *range(64, len(raw))]:  # between lies padding
        changed = bytearray(raw)
        changed[place] ^= 0x10
        other = tmp_path / "other.keys"
        other.unlink(missing_ok=True)
        other.write_bytes(changed)
        assert opened(other) is None, place


@pytest.mark.parametrize("parts", [[[]], [[5]], [[5, 5], [5]], [[2, 1], [], [2**64 - 1, 0]]])
def test_merged_runs_answer_as_their_parts(parts):
    runs = [of_files([(f"f{n}", pl.Series(part, dtype=pl.UInt64))]) for n, part in enumerate(parts)]
    probes = pl.Series([0, 1, 2, 5, 2**64 - 1], dtype=pl.UInt64)
    apart = sorted(row for run in runs for row in run.hits(probes).rows())
    assert sorted(merged(runs).hits(probes).rows()) == apart
