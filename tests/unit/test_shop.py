"""The demo's generator and what is expected of it: deterministic, odd in every way promised, adding up."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from demo.expected import NAMES, Version, as_of, expected
from demo.expected_events import FACTS, events
from demo.message import CUSTOMERS, ORDERS, PAGEVIEWS, PAYMENTS, PRODUCTS, TOPICS, Message
from demo.oddities import KINDS, SPOILT
from demo.shop import generate

START = datetime(2026, 5, 4, tzinfo=UTC)
HOURS = 24


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return list(generate(7, START, HOURS, orders_per_hour=50))


@pytest.fixture(scope="module")
def outcome(messages):
    return expected(messages)


def test_the_seed_decides_everything(messages):
    assert list(generate(7, START, HOURS, orders_per_hour=50)) == messages
    assert list(generate(8, START, HOURS, orders_per_hour=50)) != messages


def test_records_come_in_the_order_of_their_stamps_within_the_hours_asked_for(messages):
    stamps = [message.timestamp_ms for message in messages]
    assert stamps == sorted(stamps)
    assert START.timestamp() * 1000 <= stamps[0]
    assert stamps[-1] < (START + timedelta(hours=HOURS)).timestamp() * 1000
    assert {message.topic for message in messages} == set(TOPICS)


@pytest.mark.parametrize("start", [datetime(2026, 5, 4), START + timedelta(minutes=5)])  # noqa: DTZ001  # on purpose
def test_a_start_that_is_no_full_hour_is_refused(start):
    with pytest.raises(ValueError, match="full hour"):
        next(generate(7, start, 1))


def test_the_demo_is_as_large_as_promised():
    topics = Counter(message.topic for message in generate(7, START))
    assert 20_000 < topics.total() < 50_000
    assert min(topics.values()) > 300


def test_every_account_adds_up(messages, outcome):
    read = Counter(NAMES[message.topic] for message in messages)
    assert {name: account.read for name, account in outcome.accounts.items()} == read
    assert all(account.adds_up() for account in outcome.accounts.values())


@pytest.mark.parametrize("topic", [ORDERS, PAYMENTS, PAGEVIEWS])
def test_every_oddity_of_events_occurs(outcome, topic):
    account = outcome.accounts[NAMES[topic]]
    stages = Counter(stage for stage, _ in SPOILT.values() if stage)
    assert all(account.quarantined[stage] >= least for stage, least in stages.items())
    assert account.duplicates >= 1
    assert account.conflicts >= 2  # a re-send that loses, and one that wins
    assert account.tombstones >= 1
    assert len(KINDS) == len(SPOILT) + 4


def test_every_oddity_of_changes_occurs(messages, outcome):
    for topic in (CUSTOMERS, PRODUCTS):
        account = outcome.accounts[NAMES[topic]]
        assert account.duplicates >= 1
        assert account.quarantined["decode"] >= 1
        assert account.quarantined["schema"] >= 1
    assert outcome.accounts["customers"].quarantined["rule"] == 1
    changes = [json.loads(m.value) for m in messages if m.topic == CUSTOMERS and m.value and m.key != b"?"]
    assert {change["op"] for change in changes} == {"r", "c", "u", "d"}
    assert any("loyalty" in (change["after"] or {}) for change in changes)
    versions = outcome.versions["customers"].values()
    assert any(of_key[-1].valid_to for of_key in versions)  # gone
    neighbours = [pair for of_key in versions for pair in pairwise(of_key)]
    assert any(first.valid_to != second.valid_from for first, second in neighbours)  # gone, and back
    assert any(first.values["country"] != second.values["country"] for first, second in neighbours)


def test_orders_come_late_out_of_order_and_before_their_customer(messages, outcome):
    sent = {}
    for message in messages:
        if message.topic == ORDERS and message.key and message.key not in sent:
            sent[message.key.decode()] = message.timestamp_ms
    rows = [row for row in outcome.accounts["orders"].rows if row["order_id"] in sent]
    delays = [sent[row["order_id"]] / 1000 - row["placed_at"].timestamp() for row in rows]
    assert max(delays) > 3 * 3600
    times = [row["placed_at"] for row in sorted(rows, key=lambda row: sent[row["order_id"]])]
    assert sum(later < earlier for earlier, later in pairwise(times)) > 10
    assert len(outcome.early_orders) >= 3


@pytest.mark.parametrize("orders_per_hour", [40, 120])
def test_an_hour_has_at_most_five_percent_of_bad_records(orders_per_hour):
    hours: dict[tuple[str, int], list[Message]] = {}
    for message in generate(3, START, HOURS, orders_per_hour):
        hours.setdefault((message.topic, message.timestamp_ms // 3_600_000), []).append(message)
    for (topic, _), of_hour in hours.items():
        account = events(topic, of_hour) if topic in FACTS else expected(of_hour).accounts[NAMES[topic]]
        assert account.quarantined.total() <= 0.05 * account.read


def test_revenue_adds_up_to_the_orders(outcome):
    orders = outcome.accounts["orders"].rows
    cells = outcome.revenue.values()
    assert sum(cell.orders + cell.cancelled_orders for cell in cells) == len(orders)
    paid = sum((row["amount"] for row in orders if row["status"] != "cancelled"), Decimal(0))
    assert sum((cell.revenue for cell in cells), Decimal(0)) == paid
    assert sum((cell.cancelled_amount for cell in cells), Decimal(0)) > 0


def test_versions_are_disjoint_and_numbered(outcome):
    for of_dimension in outcome.versions.values():
        for versions in of_dimension.values():
            assert [version.version for version in versions] == list(range(1, len(versions) + 1))
            assert all(
                version.valid_to is None or version.valid_from < version.valid_to for version in versions
            )
            assert all(a.valid_to <= b.valid_from for a, b in pairwise(versions))


def test_as_of_is_half_open_and_earlier_takes_the_first():
    first, second = Version({}, START, START + timedelta(1), 1), Version({}, START + timedelta(2), None, 2)
    assert as_of([first, second], START - timedelta(1)) is first
    assert as_of([first, second], START) is first
    assert as_of([first, second], START + timedelta(2)) is second
    with pytest.raises(LookupError):
        as_of([first, second], START + timedelta(1))
