"""Offsets are asked for until each is told: an answer may come without one, and without an error."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaException

from resources.kafka_client import KafkaClient


def answering(monkeypatch, *offsets: int) -> tuple[KafkaClient, Any]:
    """Make a client and a question that is answered with these offsets, the last one again and again."""
    left, client = list(offsets), KafkaClient({"bootstrap.servers": "127.0.0.1:1"})
    monkeypatch.setattr(client, "metadata", lambda: SimpleNamespace(cluster_id="c"))

    def question(_admin, things, _seconds):
        found: Future[Any] = Future()
        found.set_result(SimpleNamespace(offset=left.pop(0) if len(left) > 1 else left[0]))
        return dict.fromkeys(things, found)

    return client, question


def test_an_answer_without_an_offset_is_asked_for_again(monkeypatch):
    """While a leader is elected, brokers may answer so: it is no offset, and no log was cut."""
    client, question = answering(monkeypatch, OFFSET_INVALID, OFFSET_INVALID, 7)
    assert client.ask(question, [0], patience=5)[0].offset == 7


def test_no_record_after_a_time_is_an_answer(monkeypatch):
    client, question = answering(monkeypatch, -1)
    assert client.ask(question, [0], patience=5)[0].offset == -1


def test_it_is_an_error_that_may_pass_where_none_is_told(monkeypatch):
    client, question = answering(monkeypatch, OFFSET_INVALID)
    with pytest.raises(KafkaException, match="LEADER_NOT_AVAILABLE"):
        client.ask(question, [0], patience=0.3)
