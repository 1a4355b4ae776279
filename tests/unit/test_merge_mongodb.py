"""A collection from the log to its dimension: merged tile by tile in any order, with changes told twice."""

import random

import polars as pl
import pytest
from mongodb_rows import Row, documents, row_of, versions
from mongodb_story import Story

from assets.merge import merge
from resources.lake import Lake
from sluice import Hourly, tables
from tests.engine import HOURS, both, prove, send
from tests.fake_kafka import FakeKafka

TILES = HOURS[:3]


def log_of(story: Story) -> FakeKafka:
    """Spread the changes over three hours, and over two partitions by their key; then tell some again."""
    kafka = FakeKafka()
    kafka.create("t", 2)
    again = random.Random(3).sample(story.records, 12)  # noqa: S311
    for place, (key, value) in enumerate([*story.records, *again]):
        send(kafka, value, 179 * place / (len(story.records) + 12), sum(key) % 2, key=key)
    return kafka


@pytest.mark.parametrize(
    ("mode", "order", "history"),
    [
        ("description", (2, 0, 1), True),
        ("event", (1, 2, 0), False),
    ],
)
def test_a_dimension_is_the_collection_and_its_history(tmp_path, mode, order, history):
    story = Story(11, mode, "strict")
    for _ in range(60):
        story.step()
    of = documents(history=history, topic="t", partitions=Hourly(start="2026-01-01"), name="documents")
    lake, kafka = Lake(str(tmp_path)), log_of(story)
    for tile in order:
        both(lake, kafka, of, [TILES[tile]])
        merge(lake, of, say=lambda _text: None)
    prove(lake, of)
    rows = lake.read(tables.dimension(of)).collect().sort("id")
    names = list(Row.to_schema().columns)
    if not history:
        expected = sorted((row_of(d) for d in story.documents.values()), key=lambda row: row["id"])
        assert rows.select(names).to_dicts() == expected
        return
    for key in range(4):
        mine = rows.filter(pl.col("id") == key).sort("version")
        begins, ends = (mine[name].dt.epoch("s").to_list() for name in ("valid_from", "valid_to"))
        found = list(zip(mine.select(names).to_dicts(), begins, ends, strict=True))
        assert found == versions(story.states, key)
