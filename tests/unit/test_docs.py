"""What README and `docs/` name exists: tests, settings, commands, files, links; every property has a row."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from resources.settings import PROJECT, Settings

README = PROJECT / "README.md"
PROPERTIES = PROJECT / "docs" / "properties.md"
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
NUMBERED = {"kafka-medallion": 44, "kinesis-iceberg": 48, "event-streaming": 21, "lambda-architecture": 45}
CASES = {f"T{number}" for number in range(217, 233)} | {f"US{number}" for number in range(1, 9)}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))


def prose(page: Path) -> str:
    """Give a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def section(page: Path, heading: str) -> str:
    """Give what stands under a heading, up to the next one of its rank."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"{page.name} has no section {heading!r}"
    return found[1]


def table(text: str) -> list[list[str]]:
    """Give the cells of a table's rows, without its head."""
    rows = [line.strip()[1:-1] for line in text.splitlines() if line.lstrip().startswith("|")]
    return [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)] for row in rows[2:]]


@cache
def functions(file: Path) -> frozenset[str]:
    """Name the functions that a file defines."""
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Name the places that links may lead to, as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)


@each_page
def test_named_tests_exist(page):
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text())
    gone = [f"{file}::{name}" for file, name in named if name not in functions(PROJECT / file)]
    assert gone == []


@each_page
def test_named_files_exist(page):
    named = re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|sql|md|yml|yaml|toml))\b", prose(page))
    made = {"streams/returns.py"}  # the README's example
    assert [name for name in named if name not in made and not (PROJECT / name).exists()] == []


@each_page
def test_links_resolve(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@each_page
def test_named_commands_exist(page):
    named = set(re.findall(r"(?:`|^ *)make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named <= set(help_of_make())


def help_of_make() -> dict[str, str]:
    """Give what `make help` lists."""
    found = re.findall(r"^([a-z]+):.*?## *(.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    return dict(found)


def test_the_table_of_commands_is_that_of_make_help():
    told = {
        cells[0].strip("`").removeprefix("make "): cells[1] for cells in table(section(README, "Commands"))
    }
    assert {name: text.replace("`", "") for name, text in told.items()} == help_of_make()


def test_the_table_of_settings_is_that_of_the_settings():
    told = {cells[0].strip("`"): cells[1:] for cells in table(section(README, "Settings"))}
    assert list(told) == [name.upper() for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        default, description = told[name.upper()]
        value = field.default
        relative = str(value).removeprefix(f"{PROJECT}/")
        assert default == ("unset" if value in (None, {}) else f"`{relative}`"), name
        assert description == field.description, name


def test_every_promise_names_where_it_is_tested():
    rows = table(section(README, "What it promises, and where that is tested"))
    assert [cells[0] for cells in rows] == [str(number) for number in range(1, 9)]
    for number, _, proof in rows:
        assert "::" in proof or "not built yet" in proof, number


def test_every_property_of_the_seeds_has_one_row():
    rows = table(PROPERTIES.read_text())
    told = [(seed, number) for seed, number, *_ in rows]
    assert len(told) == len(set(told))
    wanted = {(seed, str(n)) for seed, last in NUMBERED.items() for n in range(1, last + 1)}
    assert set(told) == wanted | {("mongodb-cdc-delta", case) for case in CASES}
    for seed, number, says, proven in rows:
        assert says, (seed, number)
        assert "::" in proven or proven.startswith("to come:"), (seed, number)
