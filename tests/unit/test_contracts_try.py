"""`make try`: samples in, verdicts out, without Kafka or a lake."""

import json
from pathlib import Path

import pytest

from resources.try_contract import main

GOOD = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "product_id": "p-1",
    "quantity": 1,
    "status": "placed",
    "amount": "1.10",
    "currency": "EUR",
    "placed_at": "2026-02-03T04:05:06Z",
}
STREAMS = str(Path(__file__).resolve().parents[2] / "streams")


def attempt(tmp_path: Path, lines: list[bytes], stream: str = "orders") -> int:
    file = tmp_path / "samples.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    return main([stream, str(file), "--streams", STREAMS])


def line(**changed: object) -> bytes:
    return json.dumps(GOOD | changed).encode()


def test_what_passes_is_shown_as_a_table(tmp_path, capsys):
    assert attempt(tmp_path, [line(), b"", b"  ", line(order_id="o-2", campaign="x")]) == 0
    out = capsys.readouterr().out
    assert "2 samples: passed 2, blank lines skipped 2" in out
    assert "│ 4    ┆ o-2" in out
    assert "members that no column takes: campaign 1" in out
    assert "refused" not in out


def test_what_is_refused_is_named_by_line_with_every_failure(tmp_path, capsys):
    bad = line(quantity=1.5, amount="1.105", customer_id=None)
    assert attempt(tmp_path, [b"", bad, b"\xff\x00", line(status="lost", quantity=0), line()]) == 1
    out = capsys.readouterr().out
    assert "4 samples: passed 1, refused 3, blank lines skipped 1" in out
    refused = out.partition("refused:\n")[2]
    by_line = dict(part.split(":\n", 1) for part in refused.split("  line ")[1:])
    assert by_line.keys() == {"2", "3", "4"}
    assert all(column in by_line["2"] for column in ("quantity", "amount", "customer_id"))
    assert by_line["2"].count("schema (") == 3
    assert "decode" in by_line["3"]
    assert "rule isin" in by_line["4"]
    assert "rule ge" in by_line["4"]


def test_changes_are_tried_too(tmp_path, capsys):
    product = {"product_id": "p-1", "name": "Harp", "category": "music", "price": "10.00", "active": True}
    source = {"connector": "postgresql", "ts_ms": 1_770_000_000_000, "lsn": 5, "sequence": '["4","5"]'}
    envelopes = [
        {"before": None, "after": product, "source": source, "op": "c", "ts_ms": 1_770_000_000_000},
        {"before": None, "after": product | {"price": "0.00"}, "source": source, "op": "u", "ts_ms": 1},
    ]
    assert attempt(tmp_path, [json.dumps(envelope).encode() for envelope in envelopes], "products") == 1
    out = capsys.readouterr().out
    assert "passed 1, refused 1" in out
    assert "rule (column price, rule gt)" in out


def test_an_empty_file_has_nothing_to_refuse(tmp_path, capsys):
    assert attempt(tmp_path, []) == 0
    assert "0 samples" in capsys.readouterr().out


def test_an_unknown_stream_lists_the_known(tmp_path, capsys):
    assert attempt(tmp_path, [line()], "ordrs") == 2
    assert "customers, orders, pageviews, payments, products" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_an_unreadable_file_is_named(tmp_path, capsys, name):
    assert main(["orders", str(tmp_path / name), "--streams", STREAMS]) == 2
    assert "cannot read" in capsys.readouterr().err
