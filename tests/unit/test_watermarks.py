"""Watermarks are asked for until each is told: an answer may come without an offset."""

from types import SimpleNamespace

import pytest

from resources.kafka import KafkaResource, Watermarks
from sluice.errors import KafkaReadError

UNTOLD = -1001


def answering(monkeypatch, *offsets: int) -> KafkaResource:
    """Make a resource whose brokers answer with these offsets, the last one again and again."""
    left = list(offsets)

    def ask(_self, _name, _question, things, **_more):
        offset = left.pop(0) if len(left) > 1 else left[0]
        return {thing: SimpleNamespace(offset=offset) for thing in things}

    monkeypatch.setattr(KafkaResource, "_ask", ask)
    return KafkaResource(stall_seconds=0.3)


def test_an_answer_without_an_offset_is_asked_for_again(monkeypatch):
    """While a leader is elected, brokers may answer so: it is no offset, and no log was cut."""
    kafka = answering(monkeypatch, 0, UNTOLD, 7, UNTOLD, UNTOLD, 9)
    assert kafka.watermarks("t", [0]) == {0: Watermarks(0, 7, 9)}


def test_it_is_an_error_that_may_pass_where_none_is_told(monkeypatch):
    with pytest.raises(KafkaReadError, match=r"how far partitions \[0\] go"):
        answering(monkeypatch, UNTOLD).watermarks("t", [0])
