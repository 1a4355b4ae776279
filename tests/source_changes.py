"""Changes as Debezium tells them of a place, a server and a table, and the fold of them in any order."""

import polars as pl

from sluice import Debezium
from sluice.history.scd2 import fold
from tests.changes import bronze, changes_of, decoded_silver

COLUMNS = {"id": int, "v": str}


def pg(lsn, key, value, at, op="u", snapshot="false", table="t", sequence=None):
    """A change of PostgreSQL: its place, the row, the second at which the source committed it."""
    source = {"connector": "postgresql", "db": "shop", "schema": "public", "table": table, "lsn": lsn}
    source |= {"sequence": sequence, "ts_ms": int(at * 1000), "snapshot": snapshot}
    return envelope(source, key, value, op)


def my(server, file, pos, key, value, at, op="u", gtid=None, snapshot="false"):
    """A change of MySQL, by the server that made it."""
    source = {"connector": "mysql", "db": "shop", "table": "t", "server_id": server, "gtid": gtid}
    source |= {"file": f"binlog.{file:06}", "pos": pos, "row": 0, "ts_ms": at * 1000, "snapshot": snapshot}
    return envelope(source, key, value, op)


def envelope(source, key, value, op):
    row = None if op == "t" else {"id": key, "v": value}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return {"op": op, "source": source} | sides


def stream(source="postgresql", **options):
    return changes_of(COLUMNS, value=Debezium(source), **({"history": True} | options))


def orders(events, source="postgresql", *, partitions=None):
    """Fold the events as Kafka has them, processed in some orders and doubled; gives the one answer."""
    records = bronze(events, **({} if partitions is None else {"partition": partitions}))
    rows = decoded_silver(stream(source), records)
    answers = []
    for seed in range(6):
        shuffled = pl.concat([rows, rows.sample(fraction=0.5, seed=seed)])
        told = fold(shuffled.sample(fraction=1.0, shuffle=True, seed=seed), stream(source))
        answers.append(told.select("id", "v", "is_current").rows())
    assert all(answer == answers[0] for answer in answers)
    image = fold(rows, stream(source, history=False)).select("id", "v").rows()
    assert image == [(key, value) for key, value, current in answers[0] if current]
    return answers[0]


def of_key(answer, key=1):
    return [value for name, value, _ in answer if name == key]
