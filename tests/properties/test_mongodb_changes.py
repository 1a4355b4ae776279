"""Collections that live at random, told in every mode of the connector, in any order: the fold knows them."""

import json
import random

import pandera.polars as pa
import polars as pl
import pytest
from bson import json_util
from changes import bronze, changes_of, decoded_silver
from hypothesis import given, settings
from hypothesis import strategies as st
from mongodb_story import FORMS, MODES, Story

from sluice import Debezium, Document
from sluice.decode_changes import decode_changes
from sluice.extended_json import canonical, document
from sluice.scd2 import fold

TAKEN = ("_id", "name", "n", "tags", "address", "blob")


class Row(pa.DataFrameModel):
    id: int = pa.Field(metadata={"path": "_id"})
    name: str = pa.Field(nullable=True)
    n: int = pa.Field()
    tags: pl.List(pl.String) = pa.Field(nullable=True)
    address: pl.Struct({"city": pl.String, "points": pl.List(pl.Float64)}) = pa.Field(nullable=True)
    city: str = pa.Field(nullable=True, metadata={"path": "address.city"})
    blob: Document = pa.Field(nullable=True)
    rest: Document = pa.Field(nullable=True, metadata={"path": "*"})


def stream(*, history: bool):
    return changes_of({}, "id", value=Debezium("mongodb"), schema=Row, history=history)


def row_of(told: dict | None) -> dict | None:
    """Say by hand what a document is in the columns."""
    if told is None:
        return None
    address = told.get("address")
    kept = {name: value for name, value in told.items() if name not in TAKEN}

    def text(value):
        return (
            None
            if value is None
            else canonical(document(json_util.dumps(value, json_options=FORMS["canonical"])))
        )

    return {
        "id": told["_id"],
        "name": told.get("name"),
        "n": told["n"],
        "tags": told.get("tags"),
        "address": None if address is None else {name: address.get(name) for name in ("city", "points")},
        "city": (address or {}).get("city"),
        "blob": text(told.get("blob")),
        "rest": text(kept),
    }


def versions(states: list, key: int) -> list[tuple]:
    """Give (row, begin, end) of a key by one pass in order; of one second the last state counts."""
    last = {second: row_of(told) for at, second, told in states if at == key}
    found, before = [], None
    for second, row in last.items():
        if row != before:
            if found and before is not None:
                found[-1] = (*found[-1][:2], second)
            if row is not None:
                found.append((row, second, None))
        before = row
    return found


def silver_of(story: Story, of, seed: int) -> pl.DataFrame:
    """Decode the records in random batches of random order, some of them twice."""
    shuffled = random.Random(seed)  # noqa: S311
    places = list(range(len(story.records)))
    twice = [place for place in places if shuffled.random() < 0.3]
    records = [*story.records, *(story.records[place] for place in twice)]
    log = bronze([value for _, value in records], [key for key, _ in records])
    order = list(range(len(records)))
    shuffled.shuffle(order)
    size = shuffled.randrange(1, len(order) + 1)
    parts = [log[order[at : at + size]] for at in range(0, len(order), size)]
    assert [decode_changes(of, part).failures.to_dicts() for part in parts] == [[]] * len(parts)
    return pl.concat([decoded_silver(of, part) for part in parts])


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), form=st.sampled_from(sorted(FORMS)), steps=st.integers(1, 30))
def test_the_fold_gives_the_collection_and_its_history(mode, seed, form, steps):
    story = Story(seed, mode, form)
    for _ in range(steps):
        story.step()
    expected = sorted((row_of(d) for d in story.documents.values()), key=lambda row: row["id"])
    now = fold(silver_of(story, stream(history=False), seed), stream(history=False))
    names = list(Row.to_schema().columns)
    assert now.select(names).sort("id").to_dicts() == expected
    history = fold(silver_of(story, stream(history=True), seed), stream(history=True))
    for key in range(4):
        mine = history.filter(pl.col("id") == key).sort("version")
        begins, ends = (mine[name].dt.epoch("s").to_list() for name in ("valid_from", "valid_to"))
        assert list(zip(mine.select(names).to_dicts(), begins, ends, strict=True)) == versions(
            story.states, key
        )


def test_the_stories_have_what_they_should():
    """Nested edits, cuts, removals, transactions and re-inserts do come up."""
    story = Story(7, "description", "strict")
    for _ in range(400):
        story.step()
    told = [json.loads(value) for _, value in story.records]
    described = [event["updateDescription"] for event in told if "updateDescription" in event]
    assert any("." in name for d in described for name in json.loads(d["updatedFields"]))
    assert any("." in name for d in described for name in d["removedFields"] or [])
    assert any(d["truncatedArrays"] for d in described)
    assert any(event["source"]["txnNumber"] is not None for event in told)
    assert {event["op"] for event in told} == {"c", "u", "d"}
