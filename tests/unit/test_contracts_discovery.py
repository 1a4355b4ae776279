"""A file in the folder of contracts is all it takes, and a wrong one says what is wrong."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from resources.streams import load_streams
from sluice.contract import _DECODERS, Changes, Events
from sluice.errors import ContractError, SettingsError

HEAD = '''\
"""What {name} are."""

import pandera.polars as pa
import polars as pl
from sluice import Changes, Debezium, Events, Hourly, Json


class Model(pa.DataFrameModel):
    """One of the {name}."""

    id: str
    at: pl.Datetime("us", "UTC")
    amount: int = pa.Field(ge={least})


'''
EVENTS = '{name} = Events(topic="{name}", value=Json(), schema=Model, key="id", event_time="at", {more})\n'
CHANGES = '{name} = Changes(topic="{name}", value=Json(), schema=Model, key="id", {more})\n'
HOURLY = 'partitions=Hourly(start="2026-01-01")'


def write(folder: Path, name: str, more: str = HOURLY, *, word: str = EVENTS, least: int = 0) -> Path:
    path = folder / f"{name}.py"
    path.write_text(HEAD.format(name=name, least=least) + word.format(name=name, more=more))
    return path


def test_every_stream_of_the_folder_by_name(tmp_path):
    write(tmp_path, "b")
    write(tmp_path, "a", word=CHANGES)
    write(tmp_path, "c", HOURLY + ', name="first", description="Said here."')
    (tmp_path / "_helpers.py").write_text("raise RuntimeError('not a contract')")
    (tmp_path / "notes.txt").write_text("not a module")
    a, b, first = load_streams(tmp_path)
    assert [(type(s), s.name) for s in (a, b, first)] == [(Changes, "a"), (Events, "b"), (Events, "first")]
    assert b.description == "What b are.\n\nOne of the b."
    assert first.description == "Said here."
    assert b.columns[2].name == "amount"


def test_several_streams_of_one_module_and_one_bound_twice(tmp_path):
    path = write(tmp_path, "a")
    path.write_text(path.read_text() + EVENTS.format(name="b", more=HOURLY) + "again = b\n_private = b\n")
    assert [stream.name for stream in load_streams(tmp_path)] == ["a", "b"]


def test_no_contracts_and_no_folder(tmp_path):
    assert load_streams(tmp_path) == ()
    with pytest.raises(SettingsError, match="STREAMS_DIR"):
        load_streams(tmp_path / "missing")


def test_contracts_shadow_no_module(tmp_path):
    before = sys.modules["json"], list(sys.path)
    write(tmp_path, "json")
    (stream,) = load_streams(tmp_path)
    assert stream.name == "json"
    assert (sys.modules["json"], sys.path) == before


def test_an_edited_file_is_read_again_and_changes_the_code_version(tmp_path):
    write(tmp_path, "a", least=1)
    (old,) = load_streams(tmp_path)
    version = old.code_version
    write(tmp_path, "a", least=2)  # as long as before, perhaps within the same second
    (new,) = load_streams(tmp_path)
    assert new.code_version != version
    assert old.code_version == version
    write(tmp_path, "a", least=1)
    (back,) = load_streams(tmp_path)
    assert back.code_version == version


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        ('owners=["team:x"], tags={"a": "b"}, max_quarantined=0.5, description="d"', False),
        ('name="other"', False),
        ("epoch=2", False),  # the tiles of older epochs stay as they were decided
        ('where={"type": "order"}', True),
        ("dedupe_within=__import__('datetime').timedelta(hours=1)", True),
        ("event_time_range=None", True),
    ],
)
def test_what_changes_the_code_version(tmp_path, more, changes):
    write(tmp_path, "a")
    (plain,) = load_streams(tmp_path)
    write(tmp_path, "a", f"{HOURLY}, {more}")
    (changed,) = load_streams(tmp_path)
    assert (changed.code_version != plain.code_version) is changes


MADE = '''"""Rules that no text of the model tells."""

import pandera.polars as pa
import polars as pl
from sluice import Events, Hourly, Json

LEAST, KINDS = 0, {"alpha", "beta", "gamma", "delta", "epsilon"}


class Parent(pa.DataFrameModel):
    note: str = pa.Field(str_matches="a")


class Made(Parent):
    id: str = pa.Field(isin=KINDS)
    n: int = pa.Field(ge=LEAST)
    at: pl.Datetime("us", "UTC")

    @pa.check("n")
    def small(cls, data):
        return data.lazyframe.select(pl.col(data.key) < 100)


hours = Hourly(start="2026-01-01")
made = Events(topic="t", value=Json(), schema=Made, key="id", event_time="at", partitions=hours)
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [("LEAST, KINDS = 0", "LEAST, KINDS = 1"), ('"a")', '"b")'), ('"alpha", ', ""), ("100", "9")],
)
def test_a_rule_that_changes_elsewhere_changes_the_code_version(tmp_path, before, after):
    versions = []
    for text in (MADE, MADE.replace(before, after)):
        (tmp_path / "made.py").write_text(text)
        (stream,) = load_streams(tmp_path)
        versions.append(stream.code_version)
    assert versions[0] != versions[1]


def test_a_mended_decoder_changes_the_code_version_of_its_streams_only(tmp_path, monkeypatch):
    for source in ("mysql", "postgresql"):
        write(tmp_path, source, word=CHANGES.replace("Json()", f"Debezium(source='{source}')"))

    def versions() -> list[str]:
        return [stream.code_version for stream in load_streams(tmp_path)]

    before = versions()
    monkeypatch.setitem(_DECODERS, "postgresql", _DECODERS["postgresql"] + 1)
    after = versions()
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


def test_every_process_gives_the_same_code_version(tmp_path):
    (tmp_path / "made.py").write_text(MADE)
    (stream,) = load_streams(tmp_path)
    asked = dedent(f"""
        from pathlib import Path
        from resources.streams import load_streams
        print(load_streams(Path({str(tmp_path)!r}))[0].code_version)
    """)
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", asked],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == stream.code_version


def test_one_wrong_contract_does_not_hide_the_errors_of_another(tmp_path):
    write(tmp_path, "fine")
    write(tmp_path, "range", HOURLY + ", max_quarantined=2, epoch=0")
    write(tmp_path, "typo", HOURLY + ", ownrs=[]")
    write(tmp_path, "twice", HOURLY + ', name="fine"')
    (tmp_path / "broken.py").write_text("import sluice\n\ndef f(:\n")
    (tmp_path / "fails.py").write_text(dedent("x = 1\n\ny = {}['missing']\n"))
    with pytest.raises(ContractError) as caught:
        load_streams(tmp_path)
    named = {(p.file.partition("/")[2], p.stream, p.argument) for p in caught.value.problems}
    typo_line = HEAD.count("\n") + 1
    assert named == {
        ("range.py", "range", "max_quarantined"),
        ("range.py", "range", "epoch"),
        ("typo.py", f"line {typo_line}", "ownrs"),
        ("twice.py", "fine", "name"),
        ("broken.py", "line 3", "module"),
        ("fails.py", "line 3", "module"),
    }
    text = str(caught.value)
    assert "do you mean 'owners'" in text
    assert "allowed_lateness" in text
    assert f"{tmp_path.name}/fine.py" in text
    assert "KeyError" in text


def test_what_a_failing_module_declared_before_is_checked_too(tmp_path):
    path = write(tmp_path, "early", HOURLY + ", epoch=0")
    path.write_text(path.read_text() + "late = Nothing()\n")
    with pytest.raises(ContractError) as caught:
        load_streams(tmp_path)
    assert [p.argument for p in caught.value.problems] == ["module", "epoch"]
