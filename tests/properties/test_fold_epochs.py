"""Sources that fail over, restart, truncate and are read anew: the fold gives what the database had."""

import json
import random
import tempfile

import polars as pl
import pytest
from changes import bronze, changes_of, decoded_silver
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from assets.merge import merge
from resources.lake import Lake
from sluice import Debezium, Hourly, tables
from sluice.history.scd2 import fold, intervals_broken
from tests.engine import HOURS, both, send
from tests.fake_kafka import FakeKafka

SECOND = 1000


class Database:
    """A database on one server after the other, and what its connector sends, in order."""

    def __init__(self, kind: str, rng: random.Random) -> None:
        self.kind, self.rng = kind, rng
        self.rows: dict[int, str] = {}
        self.states: list[tuple[int, dict[int, str]]] = []  # second, all rows then
        self.log: list[tuple[int | None, dict]] = []  # key (null: a truncate), envelope
        self.server, self.place, self.clock, self.since = 1, rng.randrange(1000, 9000), 0, 0

    def fail_over(self) -> None:
        """Go on with another server, whose places begin anywhere; that takes a minute."""
        self.clock += 60
        self.server, self.place, self.since = self.server + 1, self.rng.randrange(1, 9000), len(self.log)

    def change(self) -> None:
        key = self.rng.randrange(5)
        self._tick()
        if key in self.rows and self.rng.random() < 0.3:
            self._tell(key, "d", self.rows.pop(key))
        else:
            op = "u" if key in self.rows else "c"
            self.rows[key] = f"v{self.clock}"
            self._tell(key, op, self.rows[key])
        self.states.append((self.clock, dict(self.rows)))

    def truncate(self) -> None:
        self._tick()
        self.rows.clear()
        self._tell(None, "t", None)
        self.states.append((self.clock, {}))

    def read_anew(self) -> None:
        """The connector reads all rows, from its first marker to its last."""
        self._tick()
        self._read()

    def read_while_open(self) -> None:
        """The same, while a transaction is open that wrote before the read's place and commits behind it."""
        key = self.rng.randrange(5)
        self._tick()
        wrote, committed = self.place, self.clock
        self.place, self.clock = wrote + 1, committed + self.rng.randrange(2, 50)
        self._read()
        read, self.clock = (self.place, self.clock), committed
        if self.kind == "postgresql":  # MySQL's reads have a place that tells
            self.place = wrote
        op = "u" if key in self.rows else "c"
        self.rows[key] = f"v{self.clock} written before"
        known = self.rng.choice(
            ["null", f'"{self._told(wrote - 1)}"']
        )  # of a connector that was there before, and read anew
        self._tell(key, op, self.rows[key], sequence=f'[{known},"{self._told(wrote)}"]')
        self.states.append((committed, dict(self.rows)))
        self.place, self.clock = read

    def _read(self) -> None:
        if len(self.rows) < 2:  # one row does not tell both markers
            return
        marks = ["first", *["true"] * (len(self.rows) - 2), "last"]
        for mark, (key, value) in zip(marks, self.rows.items(), strict=True):
            self._tell(key, "r", value, mark)

    def restart(self) -> None:
        """The connector sends again what it sent last, from this server."""
        back = self.rng.randrange(self.since, len(self.log) + 1)
        self.log += self.log[back:]

    def partitions(self) -> list[int]:
        """Name the Kafka partition of each record: by key; a truncate has none."""
        return [self.rng.randrange(3) if key is None else key % 3 for key, _ in self.log]

    def _tick(self) -> None:
        self.clock += self.rng.randrange(1, 200)
        self.place += self.rng.randrange(1, 500)

    def _told(self, place: int) -> int:
        """Give the place as this server tells it: in 64 bits, no two servers tell the same by chance."""
        return place * 64 + self.server

    def _tell(self, key, op, value, snapshot="false", sequence=None) -> None:
        source = {"connector": self.kind, "db": "shop", "table": "t", "snapshot": snapshot}
        source["ts_ms"] = self.clock * SECOND
        if self.kind == "mysql":
            place = self._told(self.place)
            source |= {"file": f"binlog.{place // 6400:06}", "pos": place, "row": 0}
            source["server_id"] = self.server if snapshot == "false" else 0
        else:
            source |= {"lsn": self._told(self.place), "sequence": sequence, "schema": "public"}
        row = None if op == "t" else {"id": key, "v": value}
        sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
        self.log.append((key, {"op": op, "source": source} | sides))


DOINGS = st.lists(
    st.sampled_from(["change"] * 6 + ["truncate", "read_anew", "read_while_open", "restart", "fail_over"]),
    max_size=40,
)


# A transaction that was open as a snapshot was taken, of a server that began after places of the one before.
OPEN_ELSEWHERE = [*["change"] * 7, "fail_over", "truncate", "change", "change", "read_while_open"]
# A snapshot shows a new server, and what was written before its clock came after it, not to a log long ended.
READ_FIRST = (
    "change truncate change fail_over read_while_open change truncate change change change change change"
)
READ_FIRST = [*READ_FIRST.split(), "fail_over", "change", "change", "fail_over", "read_while_open"]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
@settings(max_examples=100, deadline=None)
@given(doings=DOINGS, seed=st.integers(0, 2**32))
@example(doings=OPEN_ELSEWHERE, seed=584)
@example(doings=READ_FIRST, seed=214)
def test_the_fold_gives_what_the_database_had(kind, doings, seed):
    """kafka-medallion 12, kinesis-iceberg 25: whatever server tells it, and however often."""
    rng = random.Random(seed)  # noqa: S311  # a seeded test
    database = Database(kind, rng)
    for doing in doings:
        getattr(database, doing)()
    log, partitions = database.log, database.partitions()
    rows = decoded_silver(stream(kind), bronze([envelope for _, envelope in log], partition=partitions))
    folded = fold(rows.sample(fraction=1.0, shuffle=True, seed=seed % 1000), stream(kind))
    agree(folded, database)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
@settings(max_examples=3, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(doings=DOINGS.filter(lambda doings: len(doings) > 20), seed=st.integers(0, 2**32))
def test_merged_as_it_comes_it_is_the_same(kind, doings, seed):
    """kinesis-iceberg 37: a dimension that follows silver batch by batch is that folded at once."""
    rng = random.Random(seed)  # noqa: S311  # a seeded test
    database = Database(kind, rng)
    for doing in doings:
        getattr(database, doing)()
    kafka, contract = FakeKafka(), stream(kind)
    kafka.create("t", 3)
    size = len(database.log)
    for place, ((_, told), partition) in enumerate(zip(database.log, database.partitions(), strict=True)):
        send(kafka, json.dumps(told).encode(), 300 * place / size, partition)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        for tile in HOURS[:5]:
            both(lake, kafka, contract, [tile])
            merge(lake, contract, say=str)
        table = tables.dimension(contract)
        whole = fold(lake.read(tables.silver(contract)).collect(), contract)
        merged = lake.read(table).collect().select(whole.columns)
        assert merged.sort("id", "version").equals(whole.sort("id", "version"))
        agree(whole, database)


def stream(kind: str):
    return changes_of(
        {"id": int, "v": str}, topic="t", value=Debezium(kind), history=True, partitions=Hourly("2026-01-01")
    )


def agree(folded: pl.DataFrame, database: Database) -> None:
    """Hold versions against what the database had, at the end and whenever it changed."""
    assert intervals_broken(folded, ("id",), history=True, track=("v",)).is_empty()
    current = dict(folded.filter("is_current").select("id", "v").iter_rows())
    assert current == database.rows
    begins, ends = (pl.col(name).dt.epoch("s") for name in ("valid_from", "valid_to"))
    versions = folded.select("id", "v", begins, ends).rows()
    for second, wanted in database.states:
        then = {i: v for i, v, begin, end in versions if begin <= second and (end is None or second < end)}
        assert then == wanted
