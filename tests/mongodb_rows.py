"""The documents of a `mongodb_story` as rows of a contract: what each is, said by hand."""

import pandera.polars as pa
import polars as pl
from bson import json_util
from changes import changes_of
from mongodb_story import FORMS

from sluice import Changes, Debezium, Document
from sluice.envelopes.extended_json import canonical, document

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


def documents(**options) -> Changes:
    """Make the contract."""
    return changes_of({}, "id", **({"value": Debezium("mongodb"), "schema": Row} | options))


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
