"""dbt for Dagster: this environment's dbt on `dbt_project/`, its manifest, and what that says of gold.

The manifest must exist when definitions load: it is parsed here when it is missing or older than the
project's files, once, under a lock; that needs no network and no lake. It refuses a project that does not
parse. Which models can exist depends on the streams that are declared: `models_within` leaves out the others.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dagster_dbt import DbtCliResource
from packaging.version import Version

from resources.settings import PROJECT
from sluice.errors import DbtParseError

DBT_PROJECT = PROJECT / "dbt_project"
_MADE = ("target", "logs")  # by dbt, not part of the project

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class AsOfJoin:
    """A model sees a dimension as of a time of its facts: `silver/<fact>.<time>`, joined by `key`."""

    model: str
    dimension: str
    fact: str
    key: str
    time: str


def dbt_executable() -> str:
    """Give the dbt beside this Python, whatever PATH says; else the one on PATH."""
    beside = Path(sys.executable).with_name("dbt")
    return str(beside) if beside.exists() else shutil.which("dbt") or "dbt"


class Dbt(DbtCliResource):
    """dagster-dbt's resource without what it does before each command.

    It runs `dbt --version`, which asks the package registry for news (measured: 3 s of work, and as long as a
    closed network takes to say no), and makes an adapter of its own, which cannot see a database in memory.
    """

    @cached_property
    def _cli_version(self) -> Version:
        return Version(version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:  # noqa: ARG002  # dagster-dbt's signature
        return None


def dbt_resource() -> Dbt:
    """Make the resource `dbt`."""
    folder = str(DBT_PROJECT)
    return Dbt(project_dir=folder, profiles_dir=folder, dbt_executable=dbt_executable())


def prepared_manifest(project: Path = DBT_PROJECT) -> dict[str, Any]:
    """Give the manifest of the project as its files are now, parsed first where that is due.

    Raises:
        DbtParseError: the project does not parse.
    """
    path = project / "target" / "definitions" / "manifest.json"
    if not _fresh(path, project):
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _fresh(path, project):  # nobody else parsed it while this process waited
                _parse(project, path)
    manifest: dict[str, Any] = json.loads(path.read_bytes())
    return manifest


def _fresh(manifest: Path, project: Path) -> bool:
    if not manifest.exists():
        return False
    made = manifest.stat().st_mtime_ns
    files = (p for p in project.rglob("*") if p.relative_to(project).parts[0] not in _MADE)
    return all(p.stat().st_mtime_ns <= made for p in files)


def _parse(project: Path, manifest: Path) -> None:
    with tempfile.TemporaryDirectory(dir=manifest.parent) as folder:
        arguments = ["parse", "--project-dir", project, "--profiles-dir", project, "--target-path", folder]
        parsed = subprocess.run(  # noqa: S603  # our own project, by this environment's dbt
            [dbt_executable(), "--quiet", *map(str, arguments), "--log-path", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if parsed.returncode:
            raise DbtParseError((parsed.stdout + parsed.stderr).strip()[-2000:])
        for name in ("partial_parse.msgpack", "manifest.json"):  # readers see the old file or the new one
            if (made := Path(folder) / name).exists():
                os.replace(made, manifest.with_name(name))  # noqa: PTH105  # atomic, and says so


def models(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Give the models that are tables of gold, by unique id."""
    nodes: Mapping[str, dict[str, Any]] = manifest["nodes"]
    return {
        name: node
        for name, node in nodes.items()
        if node["resource_type"] == "model" and node["config"]["materialized"] == "delta"
    }


def ancestors(manifest: Manifest, unique_id: str) -> Iterator[str]:
    """Give all that a node reads, directly and indirectly: unique ids of nodes and sources."""
    for parent in manifest["parent_map"].get(unique_id, ()):
        yield parent
        yield from ancestors(manifest, parent)


def source_table(manifest: Manifest, unique_id: str) -> str:
    """Give the table of the lake that a source stands for, `silver/orders`."""
    source = manifest["sources"][unique_id]
    return f"{source['source_name']}/{source['name']}"


def sources_of(manifest: Manifest, unique_id: str) -> set[str]:
    """Give the tables of silver and dimensions that a node reads, directly and indirectly."""
    return {source_table(manifest, i) for i in ancestors(manifest, unique_id) if i in manifest["sources"]}


def columns_read(manifest: Manifest, unique_id: str) -> dict[str, list[str]]:
    """Give the columns, as dbt_project declares them, of the tables that a node reads."""
    found = {}
    for name in ancestors(manifest, unique_id):
        if name in manifest["sources"]:
            found[source_table(manifest, name)] = list(manifest["sources"][name]["columns"])
        elif name in models(manifest):
            found[f"gold/{manifest['nodes'][name]['name']}"] = list(manifest["nodes"][name]["columns"])
    return found


def models_within(manifest: Manifest, tables: Mapping[str, Collection[str]]) -> dict[str, dict[str, Any]]:
    """Give the models whose sources are all declared, with the columns that gold needs of them.

    Args:
        manifest: dbt's manifest.
        tables: the columns of each table that is declared.
    """
    missing = {
        name
        for name, source in manifest["sources"].items()
        if not set(source["columns"]) <= set(tables.get(source_table(manifest, name), ()))
        or source_table(manifest, name) not in tables
    }
    return {n: m for n, m in models(manifest).items() if missing.isdisjoint(ancestors(manifest, n))}


def as_of_joins(manifest: Manifest) -> list[AsOfJoin]:
    """List the as-of joins that models declare in `meta.as_of`, and so which changes touch past dates."""
    return [
        AsOfJoin(model=model["name"], **join)
        for model in models(manifest).values()
        for join in model["config"].get("meta", {}).get("as_of", ())
    ]
