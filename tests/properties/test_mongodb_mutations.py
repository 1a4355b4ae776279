"""Changes of MongoDB with something wrong in them: refused with a reason, or read; never an error."""

import json
import random

import polars as pl
from changes import bronze, decoded_silver
from hypothesis import given, settings
from hypothesis import strategies as st
from mongodb_rows import documents
from mongodb_story import FORMS, MODES, Story

from sluice.decode_changes import decode_changes
from sluice.history.scd2 import fold

ODD = [
    None, True, 0, -1, 1.5, 2**70, "", "x", "{", "[]", "{}", "null", [], {}, [None], {"$oid": 1}, "\ud800",
    "a.b", {"$numberDouble": "NaN"}, {"$date": 10**30}, {"$date": {"$numberLong": "9" * 19}}, "$set",
    '{"$oid": "x"}',
]  # fmt: skip


def mutated(value, chance: random.Random):
    """Replace something in a parsed value, or rename or drop a member; texts that are JSON are opened."""
    if isinstance(value, str) and value[:1] in "{[" and chance.random() < 0.7:
        try:
            return json.dumps(mutated(json.loads(value), chance))
        except ValueError:
            return value
    if chance.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return chance.choice(ODD)
    if isinstance(value, list):
        place = chance.randrange(len(value))
        return [mutated(item, chance) if n == place else item for n, item in enumerate(value)]
    name = chance.choice(list(value))
    rest = {n: item for n, item in value.items() if n != name}
    match chance.randrange(6):
        case 0:
            return rest
        case 1:
            return rest | {
                chance.choice(["$oid", "a.b", "", "$ref", "op", "tags.0", "blob.x.y"]): value[name]
            }
    return value | {name: mutated(value[name], chance)}


def broken(raw: bytes, chance: random.Random) -> bytes:
    """Break a value or a key: in its bytes, or in what it says."""
    if chance.random() < 0.2:
        place = chance.randrange(len(raw))
        return raw[:place] + chance.choice([b"", b"\xff", b"\x00", b'"', b"}", raw[:3]]) + raw[place + 1 :]
    return json.dumps(mutated(json.loads(raw), chance)).encode()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), mode=st.sampled_from(MODES), form=st.sampled_from(sorted(FORMS)))
def test_nothing_stops_a_batch_or_the_fold(seed, mode, form):
    chance = random.Random(seed)  # noqa: S311
    story = Story(seed, mode, form)
    for _ in range(15):
        story.step()
    told = [
        (
            broken(key, chance) if chance.random() < 0.1 else key,
            broken(value, chance) if chance.random() < 0.5 else value,
        )
        for key, value in story.records
    ]
    of = documents()
    records = bronze([value for _, value in told], [key for key, _ in told])
    decoded = decode_changes(of, records)
    places = [decoded.rows["_row"], decoded.failures["_row"].unique(), decoded.tombstones, decoded.ignored]
    assert sorted(pl.concat(places)) == list(range(records.height))
    assert decoded.failures["reason"].null_count() == 0
    fold(decoded_silver(of, records), of)
