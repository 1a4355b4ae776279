"""What all tests share: the shared data, hypothesis profiles, a real Kafka for those that ask for one.

On CI (`CI=true`) a server that cannot be had fails the tests that need it; elsewhere they skip with the
reason. Server tests skip rather than run against anything that only looks like the server.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of real data and test vectors, which lies beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no shared data: ../shared/data does not exist")
    return SHARED
