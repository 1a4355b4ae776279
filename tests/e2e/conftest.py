"""What tests share whose runs are killed or stopped."""

import os
from collections.abc import Iterator

import pytest

from tests.crash import seam
from tests.crash.forks import Forks


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Give processes that die, or are stopped, where they are told."""
    preload = seam.built()
    if preload is None:
        assert not os.environ.get("CI"), "CI has a C compiler, from the wheel ziglang"
        pytest.skip("no C compiler: neither the wheel `ziglang` nor `cc` was found")
    with Forks(tmp_path_factory.mktemp("children"), preload) as made:
        yield made
