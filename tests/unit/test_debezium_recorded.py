"""Every message that others recorded or documented: it is read, ignored or refused clearly, never an error.

What is refused is no message of the JSON converter (parts of a document, other formats, Canal's and Maxwell's
envelopes) or lacks what names its row; the counts say so.
"""

import json
from collections import Counter

import pandera.polars as pa
import polars as pl
import pytest
from changes import bronze, changes_of
from conftest import SHARED

from sluice import Debezium, Document
from sluice.decode_changes import decode_changes

HERE = SHARED / "debezium"
pytestmark = pytest.mark.skipif(not HERE.exists(), reason="the shared data of debezium is absent")


def values() -> list[bytes]:
    """Gather whole files, and their lines where they are one message a line."""
    found = []
    for path in sorted((HERE / "raw").rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found += [data] if path.suffix == ".json" else [data, *data.splitlines()]
    for name in ("debezium_docs_json_blocks", "risingwave_parser_test_messages"):
        lines = (HERE / "docs" / f"{name}.jsonl").read_text().splitlines()
        found += [json.dumps(json.loads(line)["json"]).encode() for line in lines]
    lines = (HERE / "docs" / "debezium_docs_unparsed_fragments.jsonl").read_text().splitlines()
    return [*found, *(json.loads(line)["raw"].encode() for line in lines)]


def stream(source: str):
    columns = {"id": str, "n": int, "d": pl.Decimal(10, 2), "at": pl.Datetime("us", "UTC"), "b": pl.Binary}
    columns |= {"l": pl.List(pl.Int64)} | ({"rest": Document} if source == "mongodb" else {})
    paths = {"id": "_id" if source == "mongodb" else "id", "rest": "*"}
    fields = {n: pa.Field(nullable=True, metadata={"path": paths.get(n, n)}) for n in columns}
    schema = type("Row", (pa.DataFrameModel,), {"__annotations__": columns, **fields})
    return changes_of({}, "id", value=Debezium(source), schema=schema)


@pytest.mark.parametrize("source", ["postgresql", "mysql", "mongodb"])
def test_every_recorded_message_is_in_one_place(source):
    told = values()
    records = bronze(told, [b'{"id": "1"}'] * len(told))
    decoded = decode_changes(stream(source), records)
    refused = decoded.failures["_row"].unique()
    places = pl.concat([decoded.rows["_row"], refused, decoded.tombstones, decoded.ignored])
    assert sorted(places) == list(range(len(told)))
    assert decoded.failures["reason"].str.len_chars().min() > 5
    assert decoded.rows.height > (5 if source == "mongodb" else 50)


@pytest.mark.parametrize("source", ["postgresql", "mysql", "mongodb"])
def test_an_envelope_is_never_refused_as_none(source):
    """Stage `decode` is for what is no envelope: those with an op and a row are read, or fail by a column."""
    whole = []
    for value in values():
        try:
            body = json.loads(value)
        except ValueError:
            continue
        body = body.get("payload", body) if isinstance(body, dict) and "op" not in body else body
        side = isinstance(body, dict) and body.get("before" if body.get("op") == "d" else "after")
        if isinstance(side, dict) and body.get("op") in ("c", "r", "u", "d"):
            whole.append(value)
    decoded = decode_changes(stream(source), bronze(whole, [b'{"id": "1"}'] * len(whole)))
    stages = Counter(decoded.failures["stage"])
    assert len(whole) > 100
    assert stages["decode"] == 0, decoded.failures.filter(pl.col("stage") == "decode")
