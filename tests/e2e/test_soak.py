"""A short soak: hundreds of random deaths while numbered records flow; then the lake equals the log."""

import os
from pathlib import Path

import pytest

from tests.crash.soak import Soak

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(3600)]
KILLS, BROKER_KILLS, MINUTES = (200, 5, 40) if os.environ.get("CI") else (20, 1, 5)


@pytest.mark.usefixtures("kafka")  # says why, where none can be had
def test_whatever_dies_each_record_is_there_once(tmp_path: Path):
    """Kafka-medallion 40-42: none lost, none twice, in order within a key."""
    soak = Soak(tmp_path / "soak", KILLS, BROKER_KILLS, MINUTES)
    figures = soak.run()
    assert not soak.errors, "\n\n".join([f"{soak.seed=}", *soak.errors[:3]])
    assert figures["records"] > 0
    assert soak.killed["worker"] >= KILLS
    assert soak.killed["broker"] >= BROKER_KILLS
