"""The fold of a real log, of incidents: its versions are those counted by hand."""

import json
import zipfile
from datetime import UTC, datetime
from itertools import pairwise

import polars as pl
import pytest
from changes import changes_of, silver_rows
from conftest import SHARED

from sluice.history.scd2 import fold, intervals_broken

LOG = SHARED / "streams" / "incidents" / "incident_event_log.zip"
pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the shared data is absent")


@pytest.fixture(scope="module")
def incidents() -> list[dict]:
    """Read the log; `?` is null, times are to the minute."""
    with zipfile.ZipFile(LOG) as archive:
        text = archive.read("incident_event_log/incident_event_log.csv")
    names = [
        "number",
        "ident_state",
        "sys_mod_count",
        "sys_updated_at",
        "priority",
        "assignment_group",
        "assigned_to",
    ]
    frame = pl.read_csv(text, infer_schema=False, null_values="?").select(names)
    when = pl.col("sys_updated_at").str.to_datetime("%d/%m/%Y %H:%M", time_unit="us", time_zone="UTC")
    return frame.with_columns(when, pl.col("sys_mod_count").cast(pl.Int64)).to_dicts()


def counted(rows: list[dict], track: tuple[str, ...]) -> int:
    """Count versions by hand: of equal places the last row, running maximum, last of equal beginnings."""
    count = 0
    by_number: dict[str, dict[int, dict]] = {}
    for row in rows:
        by_number.setdefault(row["number"], {})[row["sys_mod_count"]] = row
    for places in by_number.values():
        clock, states = datetime(1, 1, 1, tzinfo=UTC), {}
        for place in sorted(places):
            clock = max(clock, places[place]["sys_updated_at"])
            states[clock] = tuple(places[place][name] for name in track)
        images = list(states.values())
        count += 1 + sum(left != right for left, right in pairwise(images))
    return count


@pytest.mark.parametrize(
    "track", [("ident_state",), ("ident_state", "assignment_group", "assigned_to", "priority")]
)
def test_the_incidents_fold_as_counted_by_hand(incidents, track):
    columns = {
        "number": str,
        "ident_state": str,
        "sys_mod_count": int,
        "sys_updated_at": pl.Datetime("us", "UTC"),
    }
    columns |= {"priority": str, "assignment_group": str, "assigned_to": str}
    stream = changes_of(
        columns, "number", sequence="sys_mod_count", valid_from="sys_updated_at", track=track, history=True
    )
    rows = silver_rows(stream, incidents)
    folded = fold(rows.sample(fraction=1.0, shuffle=True, seed=3), stream)
    assert folded.height == counted(incidents, track)
    assert intervals_broken(folded, ("number",), history=True, track=track).is_empty()
    facts = json.loads((LOG.parent / "facts.json").read_text())
    final = folded.filter("is_current")["ident_state"].value_counts()
    assert dict(final.iter_rows()) == facts["final_state_by_max_sys_mod_count"]
    # The facts count every change of state; the fold has no version for a state of no duration.
    assert folded.height < facts["scd2_versions_tracking_" + "+".join(track)]
