"""What a reconciliation with MongoDB says when the server, the address or the connector fails it."""

import json
import time

import pytest
from bson import Timestamp

from sluice import Mongo
from sluice.errors import MarkerLateError, SettingsError, SourceError, SourceUnreachableError
from tests import mongodb_server
from tests.mongodb_live import NAME, Alive, contract, document, lived, run


@pytest.fixture
def live(tmp_path, monkeypatch):
    """See `lived`."""
    with lived(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (mongodb_server.TOO_OLD, SourceError, "minSnapshotHistoryWindowInSeconds"),
        (mongodb_server.NO_REPLICAS, SourceError, "replica set"),
        (mongodb_server.UNAUTHORIZED, SourceError, "grant"),
        (mongodb_server.NOT_FOUND, SourceUnreachableError, "CursorNotFound"),
        ("drops", SourceUnreachableError, "AutoReconnect"),
    ],
)
def test_failures_are_told_in_clear_words_without_values(live, monkeypatch, error, kind, words):
    lake, kafka, server, connector = live
    monkeypatch.setattr("resources.source_mongodb._BATCH", 5)
    for key in range(20):
        connector.write(key, document(key))
    connector.deliver()
    with Alive(connector, keys=[0]):
        if error == "drops":
            server.drops = True
        else:
            server.failing["getMore"] = error
        with pytest.raises(kind, match=words) as raised:
            run(lake, kafka, contract())
    assert str(server.port) not in str(raised.value)
    assert "getMore" not in str(raised.value), "the server's words may have keys in them"
    server.failing, server.drops = {}, False
    with Alive(connector, keys=[0]):
        assert run(lake, kafka, contract()).verdict.compared.equal


def test_no_address_and_no_password_is_shown(live, monkeypatch):
    lake, kafka, server, _ = live
    uri = server.uri.replace("127.0.0.1", "reader:secret@127.0.0.1")
    for address, kind in (
        (uri, SourceError),  # refuses the password
        (uri.replace(str(server.port), "1").replace("=30000", "=50"), SourceUnreachableError),
        ("mongodb://reader:secret@host:port/", SourceError),
    ):
        monkeypatch.setenv("SOURCE_CONNECTIONS", json.dumps({"shop": address}))
        server.failing["saslStart"] = (18, "AuthenticationFailed")
        with pytest.raises(kind) as raised:
            run(lake, kafka, contract())
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert "MongoDB shop: shop.customers" in str(raised.value)
    monkeypatch.setenv("SOURCE_CONNECTIONS", "{}")
    with pytest.raises(SettingsError, match="SOURCE_CONNECTIONS"):
        run(lake, kafka, contract())


def test_a_collection_that_is_not_there_is_no_empty_one(live):
    lake, kafka, _, _ = live
    stream = contract(source=Mongo(collection="shop.custmers", connection="shop"))
    with pytest.raises(SourceError, match="no such collection"):
        run(lake, kafka, stream)


def offset(at, prefix="live", **value) -> tuple[bytes, bytes]:
    """Write a place as a worker commits it: the resume token begins with the cluster time."""
    token = f"82{at.time:08X}{at.inc:08X}2B0429296E1404"
    return json.dumps(["c", {"server_id": prefix}], separators=(",", ":")).encode(), json.dumps(
        {"resume_token": token} | value
    ).encode()


def test_a_quiet_collection_is_judged_by_the_place_that_the_connector_committed(live, monkeypatch):
    lake, kafka, server, connector = live
    monkeypatch.setattr("assets.as_of._LOOK", 0.0)
    stream = contract(source=Mongo(collection=NAME, connection="shop", messages="offsets"))
    for key in range(20):
        connector.write(key, document(key))
    connector.deliver()
    kafka.create("offsets", 1)
    now, ends = int(time.time() * 1000), kafka.watermarks
    wanted = [offset(Timestamp(server.clock.time + 1, 0))]
    behind = [
        offset(Timestamp(server.clock.time + 9, 1), prefix="another"),
        offset(server.clock),
        (b'{"serverName":"live"}', json.dumps({"ts_ms": now + 60_000}).encode()),  # a heartbeat: a clock
        (b"garbage", b"\xff{"),
    ]
    for told, passes in ((behind, False), ([*behind, *wanted], True)):
        sent = iter(told)

        def delivering(name, partitions, sent=sent):
            for key, value in sent if server.asked else ():
                kafka.produce("offsets", value, stamp_ms=now, key=key)
            return ends(name, partitions)

        monkeypatch.setattr(kafka, "watermarks", delivering)
        monkeypatch.setattr("assets.as_of.WAIT", 0.0)
        server.asked.clear()
        if passes:
            assert run(lake, kafka, stream).verdict.compared.equal
            continue
        with pytest.raises(MarkerLateError, match=r"cluster time .* in live.shop.customers or offsets"):
            run(lake, kafka, stream)
