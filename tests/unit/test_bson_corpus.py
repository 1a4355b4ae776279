"""The BSON corpus: every valid document is kept as its canonical text, every invalid one is refused.

Two things differ on purpose: `{"$date": 42}` is refused by the corpus and written by Debezium, so it is read;
and a relaxed whole number is an int32 wherever it fits one, so relaxed int64s come back as that. From BSON
itself `bson` reads symbols as text, pointers as references and undefined as null (`converted_extjson`).
"""

import json

import bson
import pandera.polars as pa
import pytest
from bson import json_util
from changes import bronze, changes_of
from conftest import SHARED

from sluice import Debezium, Document
from sluice.decode_changes import decode_changes
from sluice.envelopes.extended_json import canonical, document, from_bson
from sluice.errors import NotExtendedJsonError, NotJsonError

CORPUS = SHARED / "bson-corpus"
pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason="the shared data of bson-corpus is absent")
FORMS = ("canonical_extjson", "relaxed_extjson", "degenerate_extjson")
AS_DEBEZIUM_WRITES = "Bad $date (number, not string or hash)"
LIKE_A_REFERENCE = (
    "Document with key names similar to those of a DBRef"  # which `json_util` cannot tell apart
)


KEY = json.dumps({"id": '"1"'})


def cases(kind: str) -> list:
    """List the corpus's cases of a kind, each with its file and description as its name."""
    files = sorted(CORPUS.glob("*.json")) if CORPUS.exists() else []
    told = [(path.stem, case) for path in files for case in json.loads(path.read_text()).get(kind, [])]
    return [
        pytest.param(name, case, id=f"{name}-{number}-{case['description']}")
        for number, (name, case) in enumerate(told)
    ]


def alike(text: str):
    """Read JSON so that what is written otherwise but is the same is equal."""

    def plain(value):
        if isinstance(value, dict) and value.keys() == {"$numberDouble"}:
            told = value["$numberDouble"]
            return ("double", told if told.strip("-") in ("NaN", "Infinity") else repr(float(told)))
        if isinstance(value, dict):
            return [(name, plain(member)) for name, member in value.items()]
        return [plain(item) for item in value] if isinstance(value, list) else value

    return plain(json.loads(text))


@pytest.mark.parametrize(("name", "case"), cases("valid"))
def test_a_valid_document_is_kept(name, case):
    wanted = alike(case["canonical_extjson"])
    for form in FORMS:
        if form in case:
            kept = canonical(document(case[form]))
            relaxed = form == "relaxed_extjson" and name == "int64"
            told = kept.replace("$numberInt", "$numberLong") if relaxed else kept
            assert alike(told) == wanted, form
            assert canonical(document(kept)) == kept


@pytest.mark.parametrize(("name", "case"), cases("valid"))
def test_a_valid_document_comes_from_bson_and_goes_back(name, case):
    wanted = [alike(case[form]) for form in ("canonical_extjson", "converted_extjson") if form in case]
    for form in ("canonical_bson", "degenerate_bson"):
        if form in case:
            assert alike(canonical(from_bson(bytes.fromhex(case[form])))) in wanted
    if not case.get("lossy") and case["description"] != LIKE_A_REFERENCE:
        options = json_util.JSONOptions(datetime_conversion=bson.codec_options.DatetimeConversion.DATETIME_MS)
        read = json_util.loads(canonical(document(case["canonical_extjson"])), json_options=options)
        back = bson.encode(read).hex().upper()
        assert back in [case[form].upper() for form in ("canonical_bson", "converted_bson") if form in case]


def refusal(text: str) -> str | None:
    """Give the reason why a text is refused."""
    try:
        canonical(document(text))
    except (NotExtendedJsonError, NotJsonError) as error:
        return str(error)
    return None


@pytest.mark.parametrize(("name", "case"), cases("parseErrors"))
def test_an_invalid_text_is_refused_and_its_record_quarantined(name, case):
    text = case["string"]
    if name.startswith("decimal128"):
        text = json.dumps({"d": {"$numberDecimal": text}})
    if case["description"] == AS_DEBEZIUM_WRITES:
        assert canonical(document(text)) == '{"a":{"$date":{"$numberLong":"42"}}}'
        return
    assert refusal(text)
    failures = decode_changes(KEPT, bronze([event(text)], [KEY])).failures
    assert failures.height == 1
    assert failures["stage"][0] in ("schema", "decode")
    assert failures["reason"][0].startswith(("found", "invalid JSON"))


@pytest.mark.parametrize(("name", "case"), cases("decodeErrors"))
def test_invalid_bson_is_refused(name, case):
    with pytest.raises(NotExtendedJsonError, match="no BSON"):
        from_bson(bytes.fromhex(case["bson"]))


def test_valid_documents_arrive_in_a_column():
    texts = [param.values[1]["canonical_extjson"] for param in cases("valid")]
    rows = decode_changes(KEPT, bronze([event(text) for text in texts], [KEY] * len(texts))).rows
    for text, of, rest in zip(texts, rows["id"], rows["rest"], strict=True):
        assert of == json.loads(text).get("_id", {"$oid": "1"})["$oid"]
        assert alike(rest) == [member for member in alike(text) if member[0] != "_id"]


def event(text: str) -> dict:
    return {"op": "c", "after": text, "source": {}}


class _Kept(pa.DataFrameModel):
    id: str = pa.Field(nullable=True, metadata={"path": "_id"})
    rest: Document = pa.Field(nullable=True, metadata={"path": "*"})


KEPT = changes_of({}, "id", value=Debezium("mongodb"), schema=_Kept)
