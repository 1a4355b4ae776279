"""Any order of tiles, any grouping in runs, any batches: one silver, which plain Python gives too."""

import tempfile
from datetime import timedelta

import polars as pl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assets.ingest import Limits
from resources.lake import Lake
from sluice import tables
from tests.engine import (
    HOURS,
    assert_same,
    both,
    busy_log,
    decide,
    load,
    oracle,
    orders,
    prove,
    send,
    state,
    told,
    value,
)
from tests.fake_kafka import FakeKafka

STREAM = orders()
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes a second: shrinking takes minutes
TILES = HOURS[:4]
FIELDS = ["partition", "offset", "timestamp_ms", "timestamp_type", "key", "value", "headers"]

facts = st.builds(
    value,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["0.10", "0.1", "7"]),
    st.integers(0, 12).map(lambda n: n * 30),  # chains and ties within, and beyond, two hours
)
values = st.one_of(
    facts, facts, facts, st.sampled_from([None, b"", b"\xff{", b"[1]", b"{}", value("a", "-1", 30)])
)
records = st.lists(
    st.tuples(values, st.integers(0, 239), st.integers(0, 1), st.booleans()), min_size=1, max_size=25
).map(lambda found: sorted(found, key=lambda record: record[1]))


def log_of(given_records) -> FakeKafka:
    kafka = FakeKafka()
    kafka.create("t", 2)
    for raw, minutes, partition, gap in given_records:
        send(kafka, raw, minutes, partition)
        if gap:
            kafka.gap("t", partition)
    return kafka


def all_records(kafka: FakeKafka) -> list[dict]:
    return [record for log in kafka.topics["t"] for record in log.records.values()]


@settings(max_examples=6, phases=PHASES)
@given(records, st.permutations(TILES), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_order_grouping_and_batch_gives_what_the_oracle_says(found, order, rows, random):
    """Equal silver, losers with verdict and winner, quarantine (kafka-medallion 5, 7, 14; kinesis 15, 43)."""
    kafka = log_of(found)
    wanted = oracle(all_records(kafka))
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        at = 0
        while at < len(order):  # groups of tiles that are one run, some of them asked for twice
            size = random.randint(1, 3)
            both(lake, kafka, STREAM, order[at : at + size], Limits(rows, 2**40))
            at += random.randint(1, size)
        prove(lake, STREAM)
        got = told(lake, STREAM)
        assert got == {name: wanted[name] for name in got}


@settings(max_examples=6, phases=PHASES)
@given(records)
def test_one_run_gives_what_the_oracle_says(found):
    """Each record in one place, refused ones by stage (kafka-medallion 4, kinesis 39, event-streaming 5)."""
    kafka = log_of(found)
    wanted = oracle(all_records(kafka))
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        done = both(lake, kafka, STREAM, TILES)
        got = told(lake, STREAM)
        assert got == {name: wanted[name] for name in got}
        counted = {
            n: sum(getattr(a, n) for a in done.accounts) for n in ("accepted", "quarantined", "tombstones")
        }
        assert counted == {
            "accepted": len(wanted["silver"]),
            "quarantined": len(wanted["quarantine"]),
            "tombstones": len(wanted["tombstones"]),
        }


keys = st.one_of(st.none(), st.binary(max_size=4))
headers = st.lists(st.tuples(st.sampled_from(["h", "h", "é", ""]), keys), max_size=3)


@settings(max_examples=10, phases=PHASES)
@given(
    st.lists(
        st.tuples(keys, keys, headers, st.sampled_from([0, 60_000, 2**62, -1, 2**53 + 1])),
        min_size=1,
        max_size=8,
    )
)
def test_bronze_keeps_every_field_as_it_came(found):
    """Bytes, nulls, headers twice, stamps that overflow (kafka-medallion 1, 2, 3; kinesis 13, 14, 46)."""
    kafka = FakeKafka()
    kafka.create("t")
    for key, raw, sent, stamp in found:
        kafka.produce("t", raw, stamp_ms=stamp, key=key, headers=sent)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        stream = orders(partitions=type(STREAM.partitions)(start="1970-01-01"))
        first = ["1970-01-01-00:00"]
        load(lake, kafka, stream, first, now=stream.partitions.first + timedelta(minutes=30))
        rows = lake.read(tables.bronze(stream)).collect().sort("offset")
        begin = kafka.topics["t"][0].offsets_for_times([0])[0]
        sent_records = [
            r for o, r in kafka.topics["t"][0].records.items() if begin is not None and o >= begin
        ]
        assert rows.select(FIELDS).to_dicts() == [{f: r[f] for f in FIELDS} for r in sent_records]
        told_of_all = rows.select("topic", "epoch", "ingested_at", "tile")
        assert told_of_all.null_count().sum_horizontal().item() == 0
        assert set(rows["tile"]) <= set(first)


@settings(max_examples=3, phases=PHASES)
@given(st.lists(st.tuples(st.sampled_from(TILES), st.booleans()), max_size=4))
def test_materializing_again_changes_nothing(again):
    """Tiles decided again stay what they were (kafka-medallion 5, event-streaming 6)."""
    kafka = busy_log()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        both(lake, kafka, STREAM, TILES)
        before = state(lake, STREAM)
        raw = lake.read(tables.bronze(STREAM)).collect().sort("partition", "offset")
        for tile, replace in again:
            load(lake, kafka, STREAM, [tile])
            done = decide(lake, STREAM, [tile], replace=replace)
            assert bool(done.accounts) == replace
        assert_same(before, state(lake, STREAM))
        assert lake.read(tables.bronze(STREAM)).collect().sort("partition", "offset").equals(raw)
        prove(lake, STREAM)


def test_rows_are_stored_by_the_date_of_their_event(tmp_path):
    """A row lies in the partition of its own event time, whatever its tile (kafka-medallion 11)."""
    lake = Lake(str(tmp_path))
    both(lake, busy_log(), STREAM, TILES)
    rows = lake.read(tables.silver(STREAM)).collect()
    assert rows.filter(pl.col("_event_date") != pl.col("at").dt.date()).is_empty()
    assert rows["_event_date"].n_unique() > 1


def test_metrics_of_a_run_are_those_of_the_tables(tmp_path):
    """The ledger's counts equal what is counted in the tables (kafka-medallion 10)."""
    lake, kafka = Lake(str(tmp_path)), busy_log()
    both(lake, kafka, STREAM, TILES, Limits(5, 2**40))
    ledger = lake.read(tables.LEDGER_TABLE).filter(pl.col("layer") == "silver").collect()
    found = state(lake, STREAM)
    assert ledger["quarantined"].sum() == found["quarantine"].height
    assert ledger["read"].sum() == len(all_records(kafka))
    verdicts = found["losers"]["verdict"]
    moved = ledger["duplicates"].sum() + ledger["conflicts"].sum()
    assert ledger["accepted"].sum() + moved == found["silver"].height + verdicts.len()
