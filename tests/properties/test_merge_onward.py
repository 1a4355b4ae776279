"""A dimension brought onward batch by batch equals the fold over all of silver, whatever the batches hold."""

import json
import tempfile

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assets import folding, rewrite
from resources.lake import Lake
from sluice import Changes, Debezium, tables
from sluice.dedupe import placed
from sluice.history.scd2 import fold, intervals_broken
from tests.merging import customers, deliver, merged, minutes, silver_rows

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
STREAMS = {
    "history": customers(),
    "every column tracked": customers(track=None),
    "latest": customers(history=False, track=None),
    "two keys": customers(key=("id", "part")),
    "nulls ignored": customers(ignore_null=True),
    "latest, nulls ignored": customers(history=False, track=None, ignore_null=True),
    "by offset": customers(sequence=None),
    "images": customers(snapshot="image"),
    "debezium": customers(sequence=None, value=Debezium("postgresql")),
    "debezium, latest": customers(sequence=None, value=Debezium("postgresql"), history=False, track=None),
}

change = st.fixed_dictionaries(
    {
        "n": st.integers(1, 40),
        "id": st.integers(1, 4),
        "city": st.sampled_from([None, "a", "b"]),
        "op": st.sampled_from("c" + "u" * 20 + "ddddt"),
        "minute": st.one_of(st.none(), st.integers(0, 40)),  # none: as late as it comes
        "old": st.sampled_from([None] * 9 + [1, 2, 3]),
        "unavailable": st.sampled_from([False] * 4 + [True]),
        "partition": st.sampled_from([0] * 5 + [1]),
        "snapshot": st.sampled_from([None] * 20 + ["first", "last", "first_in_data_collection"]),
        "server": st.sampled_from([None] * 3 + ["1"] * 8 + ["2"]),
    }
)
batches = st.lists(st.lists(change, min_size=1, max_size=6), min_size=1, max_size=5)


def rows_of(stream: Changes, batch: list[dict], first: int, calm: bool) -> pl.DataFrame:
    """Make rows of silver; `calm`: in order, of one partition and server, as most batches are."""
    rows = []
    for number, told in enumerate(batch, first):
        n = 100 + number if calm else told["n"]
        late = told["minute"] is None or calm
        at = minutes(100 + number if late else told["minute"])
        truncate = told["op"] == "t" and not (calm and told["n"] % 8)
        op = "t" if truncate else ("u" if told["op"] == "t" else told["op"])
        previous = told["old"] if told["old"] != told["id"] and not truncate and not calm else None
        rows.append(
            {
                "id": None if truncate else told["id"],
                "part": None if truncate else "x",
                "city": told["city"],
                "note": f"note {number}",
                "n": n,
                "image": None if truncate else f"image {n // 10}",
                "_op": "r" if told["snapshot"] and not truncate and not calm else op,
                "_epoch": 1,
                "_partition": 0 if calm else told["partition"],
                "_offset": number,
                "_timestamp": at,
                "_valid_from": at,
                "_previous_key": None if previous is None else json.dumps({"id": previous, "part": "x"}),
                "_unavailable": ["city"] if told["unavailable"] and told["op"] == "u" else None,
                "_source": {
                    "server": "1" if calm else told["server"],
                    "table": "t",
                    "snapshot": None if calm else told["snapshot"],
                    "committed_at": at,
                },
            }
        )
    return silver_rows(stream, rows)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch) -> None:
    """Fold few changes at a time, write small files, and leave those alone that are not touched."""
    monkeypatch.setattr(folding, "PIECE", 5)
    monkeypatch.setattr(rewrite, "FILE_ROWS", 3)
    monkeypatch.setattr(rewrite, "_SMALL", 1)


def sorted_rows(rows: pl.DataFrame, stream: Changes) -> pl.DataFrame:
    columns = [name for name in tables.dimension(stream).columns if name != "_bucket"]
    by = [*stream.keys, "version"] if stream.history else list(stream.keys)
    return rows.select(columns).sort(by)


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=6, phases=PHASES, deadline=None)
@given(batches, st.sampled_from([31, 31, 30, 29, 27, 15, 21, 10, 0]))
def test_batch_by_batch_is_as_all_at_once(name, found, calm):
    """(kafka-medallion 12; kinesis 25, 37)."""
    stream = STREAMS[name]
    with tempfile.TemporaryDirectory() as folder:
        lake, first = Lake(folder), 0
        for number, batch in enumerate(found):
            deliver(lake, stream, rows_of(stream, batch, first, calm=bool(calm >> number & 1)))
            first += len(batch)
            if number % 2 == 0 or number == len(found) - 1:
                merged(lake, stream)
        silver = lake.read(tables.silver(stream)).collect()
        rows = lake.read(tables.dimension(stream)).collect()
        wanted, got = sorted_rows(fold(silver, stream), stream), sorted_rows(rows, stream)
        assert got.equals(wanted), f"{got}\n{wanted}"
        assert placed(rows.drop("_bucket"), stream)["_bucket"].equals(rows["_bucket"])
        if stream.history:
            assert intervals_broken(got, stream.keys, history=True).is_empty()
