"""Gold whose run is killed, dbt with it: its tables are as they were, or whole."""

import os
import random
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.crash import seam
from tests.crash.forks import Forks
from tests.crash.sites import sites

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]
SAMPLE, SEED = int(os.environ.get("CRASH_SAMPLE", "4")), 2


def test_gold_that_is_killed_is_built_by_the_next_run(tmp_path: Path, forks: Forks):
    """Kafka-medallion 42: dbt and the run that started it die at a write of gold."""
    peace, log = tmp_path / "peace", tmp_path / "events"

    def run(function: str, **arguments: object) -> int:
        child = forks.start(f"gold_work.{function}", **arguments)
        code = child.wait(300)
        assert code in (0, -9), child.said()
        return code

    run("prepare", uri=str(peace))
    shutil.copytree(peace, tmp_path / "before")
    run("run", uri=str(peace), log=str(log))
    events = [event for event in seam.read(log) if " gold/" in event.label or "dbt_delta" in event.label]
    passed = {event.label.partition(" ")[2] for event in events}
    assert {site for site in sites() if site.startswith("resources/dbt_delta.py")} <= passed
    deaths = seam.deaths(events)
    chosen = random.Random(SEED).sample(deaths, min(SAMPLE, len(deaths)))  # noqa: S311
    for number, death in enumerate(chosen):
        lake = tmp_path / f"death-{number}"
        shutil.copytree(tmp_path / "before", lake)
        arguments = {"uri": str(lake), "log": str(tmp_path / f"events-{number}"), "death": asdict(death)}
        assert run("run", **arguments) == -9, f"it did not die {death}"
        assert run("run", uri=str(lake), expected=str(peace)) == 0
