"""Complete images, told one after the other or not: versions are what changed between them."""

import random

import polars as pl
from changes import changes_of, silver_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.history.closers import closers
from sluice.history.scd2 import fold, intervals_broken

ROW = st.tuples(st.integers(0, 5), st.sampled_from("xyz"), st.sampled_from([None, 1]))
IMAGES = st.lists(st.lists(ROW, max_size=6, unique_by=lambda row: row[0]), min_size=1, max_size=8)


def simulated(images: list) -> list[tuple]:
    """Compare each image with the one before it, as one would by hand."""
    versions, alive = [], {}
    for number, image in enumerate(images):
        rows = {key: (a, b) for key, a, b in image}
        if not rows:  # an image of no rows cannot be told
            continue
        for key in [key for key in alive if rows.get(key) != alive[key]["row"]]:
            alive.pop(key)["to"] = number
        for key in rows.keys() - alive.keys():
            alive[key] = {"key": key, "row": rows[key], "from": number, "to": None}
            versions.append(alive[key])
    return sorted(((v["key"], *v["row"], v["from"], v["to"]) for v in versions), key=lambda v: (v[0], v[3]))


@settings(max_examples=150, deadline=None)
@given(images=IMAGES, shuffle=st.randoms(use_true_random=False), named=st.booleans())
def test_images_give_what_changed_between_them(images, shuffle: random.Random, named):
    """kafka-medallion 12: SCD2 from snapshots, whatever their order, in pieces and at once."""
    columns = {"day": int, "group": str, "id": int, "a": str, "b": int}
    options = {"sequence": "day"} if named else {}  # else the order of the log
    stream = changes_of(
        columns, ("group", "id"), valid_from="day", snapshot="day", track=("a", "b"), history=True, **options
    )
    rows = [
        {"day": day, "group": "g", "id": key, "a": a, "b": b, "_op": "r"}
        for day, image in enumerate(images)
        for key, a, b in image
    ]
    if not rows:
        return
    silver = silver_rows(stream, rows)
    silver = pl.concat([silver, silver]).sample(fraction=1.0, shuffle=True, seed=shuffle.randrange(10**6))
    folded = fold(silver, stream)
    assert folded.select("id", "a", "b", "valid_from", "valid_to").rows() == simulated(images)
    assert intervals_broken(folded, stream.keys, history=True, track=stream.track).is_empty()
    ends = closers(silver, stream)
    pieces = [fold(silver.filter(pl.col("id") == key), stream, ends) for key in range(6)]
    assert pl.concat(pieces).equals(folded)
