"""The records of the contracts `meters`, and what must come of them."""

import json
import random
from datetime import UTC, datetime, timedelta

from tests.running import Record, fill

START = datetime(2026, 1, 5, tzinfo=UTC)
HOURS = [f"2026-01-05-{hour:02}:00" for hour in range(4)]
READINGS = "meters.readings"
CHANGES = "meters.changes"
NAMES = ("meter_readings", "meters")


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def produce(servers: str) -> None:
    """Send four hours of readings (late, twice, corrected, wrong) and changes."""
    rng = random.Random(23)  # noqa: S311  # made-up data
    readings, changes = [], []
    for n in range(4000):
        sent = START + timedelta(seconds=3.5 * n)
        at = sent - timedelta(minutes=rng.choice([0, 0, 0, 4, 61, 130]))
        kwh = rng.choice(["1.000", "1.000", "2.5", "-1"] if n % 40 == 0 else ["1.000"])
        value = json.dumps({"meter": rng.randrange(60), "at": at.isoformat(), "kwh": kwh}).encode()
        if n % 97 == 0:
            value = b"not JSON" if n % 2 else None
        readings += [Record(value, ms(sent), partition=n % 3)] * (2 if n % 13 == 0 else 1)
    for n in range(800):
        row = {"meter": n % 50, "number": n * 7919 % 801, "place": f"p{n % 3}", "gone": n % 19 == 0}
        changes.append(
            Record(json.dumps(row).encode(), ms(START + timedelta(seconds=17 * n)), partition=n % 2)
        )
    fill(servers, READINGS, readings, partitions=3)
    fill(servers, CHANGES, changes, partitions=2)
