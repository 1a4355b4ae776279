"""What is killed: contracts and records in which everything happens, and the runs over them.

Two batches of records (the second arrives after the first was read): good ones, wrong ones, the same again,
in conflict, late, tombstones, over two Kafka partitions and four days. The first is read as if it were
yesterday, so that the second closes a tile that was open; the last one, today's, stays open.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.conftest import MadeTopic
from tests.running import Record, fill

NOW = datetime.now(UTC) - timedelta(minutes=1)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = [(TODAY - timedelta(days=back)).strftime("%Y-%m-%d") for back in (3, 2, 1, 0)]
VISITS, ACCOUNTS, LOST = "crash.visits", "crash.accounts", "crash.lost"
_CONTRACT = '''"""Visits of pages, the accounts of who visits, and a topic that loses records."""

from datetime import timedelta
from pathlib import Path

import pandera.polars as pa
import polars as pl

from sluice import Changes, Daily, Events, Hourly, Json, Parquet


class Visit(pa.DataFrameModel):
    """A visit."""

    visit: int
    page: str = pa.Field(isin={pages})
    amount: pl.Decimal({digits}, 2) = pa.Field(ge={least})
    at: pl.Datetime("us", "UTC")
{more}

class Account(pa.DataFrameModel):
    """An account after one of its changes."""

    account: int
    number: int
    place: str = pa.Field(nullable=True)
    gone: bool = pa.Field(nullable=True)


def events(topic):
    return Events(
        topic=topic, value=Json(), schema=Visit, key="visit", event_time="at", max_quarantined=1.0,
        partitions={tiles}, dedupe_within=timedelta(days=1), event_time_range=None,
    )


visits, lost = events("crash.visits"), events("crash.lost")
accounts = Changes(
    topic="crash.accounts", value=Json(), schema=Account, key="account", sequence="number",
    delete_when=pl.col("gone"), history=True, partitions=Daily(start="{start}"),
    source=Parquet(path=str(Path(__file__).with_name("accounts.parquet"))),
)
'''


def contract(**rules: object) -> str:
    """Write the contract, today's or (with other rules) tomorrow's."""
    usual = {"pages": ["a", "b", "c"], "digits": 8, "least": 0, "more": "", "start": DAYS[0]}
    usual["tiles"] = f'Daily(start="{DAYS[0]}")'
    return _CONTRACT.format(**usual | rules)


STRICTER = {"pages": ["a", "c"], "digits": 12, "more": "    note: str = pa.Field(nullable=True)\n"}
SILVER = 'key:"silver/{0}" or key:"quarantine/{0}" or key:"losers/{0}"'
BASE = 'key:"bronze/{0}" or ' + SILVER


@dataclass(frozen=True)
class Scenario:
    """Runs over a state of the lake (`empty`, `half`, `whole`, `spoiled`) under some rules.

    What comes after a death is the same `steps`, or `again` where those would not end by themselves.
    `now` is the time that its tiles open and close by, where that must not go on.
    """

    name: str
    state: str
    steps: Sequence[Mapping[str, Any]]
    rules: Mapping[str, object] = field(default_factory=dict)
    again: Sequence[Mapping[str, Any]] = ()
    now: str = ""


def _over(select: str, first: int, last: int, **config: object) -> dict[str, Any]:
    return {"select": select, "tiles": [DAYS[first], DAYS[last]], "config": config}


EVENTS = BASE.format("visits")
CHANGES = BASE.format("accounts") + ' or key:"dimensions/accounts"'
AGAIN = {"bronze_visits": {"replace": True}, "silver_visits": {"replace": True}}
LOSING = [_over('key:"bronze/lost"', 2, 3) | {"red": True}, _over(SILVER.format("lost"), 2, 3)]
ALL = [_over(EVENTS, 0, 3), _over(CHANGES, 0, 3), *LOSING]
BEFORE = (TODAY - timedelta(hours=1)).isoformat()  # when yesterday's tile was open
HALF = [_over(f"{EVENTS} or {CHANGES} or {BASE.format('lost')}", 0, 2)]
FOLLOWED = {"continuous": ["--streams", "visits,accounts", "--rows", "70", "--upkeep", "0.3"]}
REPAIRING = [
    {
        "select": 'key:"reconciliation/accounts"',
        "tiles": None,
        "config": {"reconciliation_accounts": {"repair": "yes"}},
        "read_at": NOW.isoformat(),
    },
    {"job": "reconcile", "config": {"streams": ["accounts"], "against": "log"}},
]
SCENARIOS = [
    Scenario("events", "empty", [_over(EVENTS, 0, 3)]),
    Scenario("changes", "empty", [_over(CHANGES, 0, 3)]),
    Scenario("more events", "half", [_over(EVENTS, 2, 3)]),
    Scenario("more changes", "half", [_over(CHANGES, 2, 3)]),
    Scenario("losses", "half", LOSING),
    Scenario("replace", "whole", [_over(EVENTS, 0, 1, **AGAIN)]),
    Scenario("other rules", "whole", [_over(EVENTS, 0, 3)], STRICTER),
    Scenario(
        "replay", "whole", [{"job": "replay_quarantine", "config": {"stream": "visits"}}], {"least": -5}
    ),
    Scenario("maintenance", "whole", [{"maintain": {"hours": 0}}]),
    Scenario(
        "races lost",
        "half",
        [_over(EVENTS, 2, 3) | {"races_lost": 2, "table": "silver/visits"}],
        again=[_over(EVENTS, 2, 3)],
    ),
    Scenario("mend", "spoiled", [_over(EVENTS, 1, 1)]),
    Scenario(
        "acknowledge",
        "whole",
        [{"job": "acknowledge_loss", "config": {"stream": "lost", "reason": "a test"}}],
    ),
    Scenario("reconcile and repair", "whole", REPAIRING, again=[step | {"ahead": 60} for step in REPAIRING]),
    Scenario("continuous", "half", [FOLLOWED | {"until": "caught_up"}]),
    Scenario(
        "continuous worker",
        "half",
        [FOLLOWED | {"until": "stopped", "seconds": 3}],
        again=[FOLLOWED | {"until": "caught_up"}],
    ),
]
_HOURS = [NOW.replace(minute=0, second=0) - timedelta(hours=back) for back in range(50)][::-1]
_FIRST, _OPEN = (hour.strftime("%Y-%m-%d-%H:00") for hour in (_HOURS[0], _HOURS[-1]))
FIFTY = Scenario(
    "fifty tiles",
    "empty",
    [{"select": EVENTS, "tiles": [_FIRST, _OPEN]}],
    {"tiles": f'Hourly(start="{_HOURS[0]:%Y-%m-%d-%H:00}")'},
    now=NOW.isoformat(),
)


def _changes(count: int) -> list[dict[str, Any]]:
    return [
        {"account": n % 11, "number": n * 37 % 101, "place": f"p{n % 4}", "gone": n % 9 == 0}
        for n in range(count)
    ]


def source() -> pl.DataFrame:
    """Give the accounts as their source has them: one change never came to Kafka, and one account."""
    newest = {row["account"]: row for row in sorted(_changes(50), key=lambda row: row["number"])}
    there = [row for row in newest.values() if not row["gone"]]
    there[0] = there[0] | {"number": 1000, "place": "mended"}
    return pl.DataFrame([*there, {"account": 77, "number": 1, "place": "lost", "gone": False}])


def send(servers: str, batch: int) -> None:
    """Produce the first or the second batch of records."""
    rng = random.Random(batch)  # noqa: S311  # made-up data
    begin = TODAY - timedelta(days=3)
    today, late = max(TODAY, NOW - timedelta(minutes=30)), TODAY - timedelta(minutes=5)
    visits: list[Record] = []
    for n in range(110 if batch == 1 else 60):
        at = begin + timedelta(minutes=37 * n) if batch == 1 else late if n < 6 else today
        happened = at - timedelta(hours=rng.choice([0, 0, 0, 1, 20, 60]))
        row = {"visit": n * 7 % 41, "page": rng.choice("abc"), "amount": f"{n % 3}.50"}
        value: bytes | None = json.dumps(row | {"at": happened.isoformat(), "note": f"n{n}"}).encode()
        if n % 12 == 5:
            value = (b"garbage", None, b"{}", json.dumps(row | {"amount": "-1"}).encode())[n // 12 % 4]
        if n % 12 == 9:
            value = json.dumps(row | {"amount": "-2.00", "at": happened.isoformat()}).encode()
        visits += [Record(value, _ms(at), partition=n % 2)] * (2 if n % 15 == 0 else 1)
    changes = [
        Record(
            json.dumps(change).encode(),
            _ms(begin + timedelta(hours=1.2 * n) if batch == 1 else today),
            partition=n % 2,
        )
        for n, change in enumerate(_changes(50 if batch == 1 else 20))
    ]
    lost = [Record(r.value, _ms(late if batch == 1 else today)) for r in visits[:12]]
    for topic, records, partitions in ((VISITS, visits, 2), (ACCOUNTS, changes, 2), (LOST, lost, 1)):
        made = fill(servers, topic, records if batch == 1 else (), partitions)
        if batch == 2:
            _produce(made, records, partitions)
    if batch == 2:  # what came meanwhile is gone before it was read, but for the last
        gone = TopicPartition(LOST, 0, 20)
        admin = AdminClient({"bootstrap.servers": servers})  # kept: dropped, it cancels what it was asked
        admin.delete_records([gone])[gone].result(30)


def _produce(made: MadeTopic, records: Sequence[Record], partitions: int) -> None:
    for partition in range(partitions):
        mine = [r for r in records if r.partition == partition]
        made.produce((r.value for r in mine), stamps=(r.stamp_ms for r in mine), partition=partition)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
