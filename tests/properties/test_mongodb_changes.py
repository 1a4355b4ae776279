"""Collections that live at random, told in every mode of the connector, in any order: the fold knows them."""

import json
import random

import polars as pl
import pytest
from changes import bronze, decoded_silver
from hypothesis import given, settings
from hypothesis import strategies as st
from mongodb_rows import Row, documents, row_of, versions
from mongodb_story import FORMS, MODES, Story

from sluice.decode_changes import decode_changes
from sluice.history.scd2 import fold


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
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), form=st.sampled_from(sorted(FORMS)), steps=st.integers(1, 30))
def test_the_fold_gives_the_collection_and_its_history(mode, seed, form, steps):
    story = Story(seed, mode, form)
    for _ in range(steps):
        story.step()
    expected = sorted((row_of(d) for d in story.documents.values()), key=lambda row: row["id"])
    now = fold(silver_of(story, documents(), seed), documents())
    names = list(Row.to_schema().columns)
    assert now.select(names).sort("id").to_dicts() == expected
    history = fold(silver_of(story, documents(history=True), seed), documents(history=True))
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
