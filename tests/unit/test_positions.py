"""Positions of sources: what sorts before what, and who does not tell."""

import polars as pl
import pytest

from sluice.envelopes.positions import encode, in_log, of_source
from sluice.errors import PositionError, UnreadablePlaceError


def pg(lsn, sequence=None, snapshot="false", op="c"):
    return of_source({"connector": "postgresql", "lsn": lsn, "sequence": sequence, "snapshot": snapshot}, op)


def read(lsn, snapshot, ts_ms):
    """A row that a snapshot read, at the time that its clock tells."""
    source = {"connector": "postgresql", "lsn": lsn, "sequence": f'["90","{lsn}"]', "snapshot": snapshot}
    return of_source(source | {"ts_ms": ts_ms}, "r")


def truncate(lsn, table):
    return of_source({"connector": "postgresql", "lsn": lsn, "schema": "public", "table": table}, "t")


def my(file, pos, row=0, snapshot="false", op="c"):
    return of_source({"connector": "mysql", "file": file, "pos": pos, "row": row, "snapshot": snapshot}, op)


def mongo(ts_ms, ordinal, op="c"):
    return of_source({"connector": "mongodb", "ts_ms": ts_ms, "ord": ordinal}, op)


@pytest.mark.parametrize(
    "ordered",
    [
        [pg(9), pg(10), pg(2**63)],
        [pg(10, op="d"), pg(10, op="c"), pg(11, op="d")],
        [pg(100, '["50","100"]'), pg(90, '["60","90"]')],  # in the order of commits
        [pg(100, '[null,"100"]', "last", "r"), pg(90, '["100","90"]'), pg(101, '["101","101"]')],
        [pg(100, '["90","100"]'), pg(100, '["90","100"]', "incremental", "r"), pg(101, '["90","101"]')],
        [pg(80, '["60","80"]'), pg(None, '["90","95"]', "incremental", "r"), pg(85, '["95","85"]')],
        [pg(100, '["100","100"]', op="d"), pg(100, '[null,"100"]', op="d"), pg(100, '[null,"100"]')],
        [my("bin.000009", 500), my("bin.000010", 4), my("bin.1000000", 4)],
        [my("bin.1", 4, 0), my("bin.1", 4, 1), my("bin.1", 5, 0)],
        [my("bin.1", 4, snapshot="true", op="r"), my("bin.1", 4, op="d"), my("bin.1", 4)],
        [mongo(1000, 9), mongo(1000, 10), mongo(2000, 1)],
        [read(100, "first", None), read(100, "last", 0), read(100, "true", 5), pg(100, '["100","100"]')],
        [
            pg(100, '["90","100"]'),
            read(100, "incremental", 5),
            read(100, "incremental", 6),
            pg(101, '["90","101"]'),
        ],
        [truncate(100, "a"), truncate(100, "b"), truncate(101, "a")],
    ],
)
def test_positions_sort_as_the_source_orders(ordered):
    assert None not in ordered
    assert ordered == sorted(ordered, key=str.encode)
    assert len(set(ordered)) == len(ordered)


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"connector": "oracle", "scn": 1},
        {"connector": "postgresql"},
        {"connector": "mysql", "file": "", "pos": 0, "row": 0},
        {"connector": "mongodb", "ts_ms": 5},
    ],
)
def test_a_source_that_does_not_tell_gives_none(source):
    assert of_source(source, "c") is None


@pytest.mark.parametrize(
    ("source", "culprit"),
    [
        ({"connector": "postgresql", "lsn": 1, "sequence": "no json"}, "source.sequence"),
        ({"connector": "postgresql", "lsn": -5}, "source.lsn"),
        ({"connector": "postgresql", "lsn": 10**20}, "source.lsn"),
        ({"connector": "mysql", "file": "binlog", "pos": 4, "row": 0}, "source.file"),
        ({"connector": "mysql", "file": "binlog.000001", "pos": None, "row": 0}, "source.pos"),
        ({"connector": "mongodb", "ts_ms": "soon", "ord": 1}, "source.ts_ms"),
    ],
)
def test_a_place_that_cannot_be_read_is_refused(source, culprit):
    with pytest.raises(UnreadablePlaceError, match=culprit):
        of_source(source, "c")


def test_places_in_the_log_are_unique_and_ordered():
    frame = pl.DataFrame({"epoch": [1, 1, 1, 2], "offset": [9, 10, 10, 0], "partition": [0, 0, 1, 0]})
    texts = frame.select(in_log()).to_series().to_list()
    assert texts == sorted(set(texts), key=str.encode)


def test_a_null_gives_no_position():
    assert encode(pl.DataFrame({"a": [1, None]}), ["a"]).is_null().to_list() == [False, True]


def test_types_without_an_order_are_refused():
    with pytest.raises(PositionError, match="column 'a' of `sequence` has type List"):
        encode(pl.DataFrame({"a": [[1]]}), ["a"])
