"""What several of these tests begin from."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from resources.lake import Lake
from tests.engine import HOURS, both, busy_log, orders


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a lake of four busy hours that one run made, with nothing to disturb it; nobody writes to it."""
    folder = tmp_path_factory.mktemp("whole")
    both(Lake(str(folder)), busy_log(), orders(), HOURS[:4])
    return folder


@pytest.fixture
def busy_lake(whole: Path, tmp_path: Path) -> Lake:
    """Give a copy of that lake."""
    return Lake(str(shutil.copytree(whole, tmp_path / "lake")))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Give a lake that holds nothing yet."""
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Give an instance of Dagster that ends with the test."""
    with dg.instance_for_test() as made:
        yield made
