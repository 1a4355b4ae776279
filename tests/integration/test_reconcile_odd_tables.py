"""Tables of PostgreSQL that no one would make for a test: no keys, odd names, hidden rows, wide values."""

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from demo.postgres import Postgres as Server
from resources.lake_texts import LakeTexts
from resources.source_postgres import snapshot_of
from resources.table_sides import Side
from resources.text_compare import Progress, differing, rows_of
from sluice import Postgres
from sluice.columns import model_columns
from sluice.compare.canonical import Texts
from sluice.errors import DemoServerError, SourceError, SourceUnreachableError

pytestmark = pytest.mark.integration


class Odd(pa.DataFrameModel):
    id: int
    v: str = pa.Field(nullable=True)


class Narrow(pa.DataFrameModel):
    id: pl.Int32
    v: pl.Decimal(4, 1) = pa.Field(nullable=True)


class Personal(Narrow):
    v: pl.Decimal(4, 1) = pa.Field(nullable=True, metadata={"pii": True})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL of this module."""
    try:
        with Server() as made:
            yield made
    except DemoServerError as error:
        pytest.skip(str(error))


def made(server: Server, *statements: str) -> None:
    with server.connect(autocommit=True) as session:
        session.execute("DROP TABLE IF EXISTS odd")
        for statement in statements:
            session.execute(statement)


def found(server: Server, folder: Path, held: list, model=Odd, *, dsn: str = "", **source):
    """Compare the table `odd` with what a lake holds: the rows that differ."""
    columns = model_columns(model)
    frame = pl.DataFrame(held, schema={c.name: c.dtype for c in columns}, orient="row")
    frame.write_parquet(folder / "held.parquet")
    texts = Texts(("id",), columns)
    here = LakeTexts(Side([str(folder / "held.parquet")], {c.name: c.name for c in columns}), texts, folder)
    told = Postgres(**{"table": "odd", "connection": "shop"} | source)
    with snapshot_of(told, texts, dsn or server.dsn) as there:
        ranges, _ = differing(here, there, Progress(), lambda _: None)
        rows, _ = rows_of(here, there, ranges, 100)
    here.close()
    return rows.select("id", "kind").rows()


@pytest.mark.parametrize("size", [1, 30_000])
def test_rows_without_a_key_are_missing_from_the_lake(server, tmp_path, size):
    made(
        server,
        "CREATE TABLE odd (id bigint, v text)",
        f"INSERT INTO odd SELECT n, 'x' FROM generate_series(1, {size}) n",
        "INSERT INTO odd VALUES (NULL, 'y')",
    )
    assert found(server, tmp_path, [[n + 1, "x"] for n in range(size)]) == [(None, "missing")]


def test_names_and_expressions_may_have_a_percent_sign(server, tmp_path):
    made(
        server,
        'DROP TABLE IF EXISTS "odd %"',
        'CREATE TABLE "odd %" ("id %" bigint PRIMARY KEY, n integer)',
        'INSERT INTO "odd %" VALUES (1, 17), (2, 18)',
    )
    named = {"table": '"odd %"', "columns": {"id": '"id %"', "v": "(n % 5)::text"}}
    assert found(server, tmp_path, [[1, "2"], [2, "9"]], **named) == [(2, "different")]


def test_rows_that_a_policy_hides_do_not_count_as_gone(server, tmp_path):
    """A repair would delete them."""
    made(
        server,
        "DROP ROLE IF EXISTS half_blind",
        "CREATE ROLE half_blind LOGIN",
        "CREATE TABLE odd (id bigint PRIMARY KEY, v text)",
        "INSERT INTO odd VALUES (1, 'x'), (2, 'x')",
        "ALTER TABLE odd ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY one ON odd USING (id = 1)",
        "GRANT SELECT ON odd TO half_blind",
    )
    dsn = server.dsn.replace("//test", "//half_blind")
    with pytest.raises(SourceError, match="row-level security"):
        found(server, tmp_path, [[1, "x"], [2, "x"]], dsn=dsn)
    assert found(server, tmp_path, [[1, "x"]], dsn=dsn, filtered=True) == []  # then it is what is meant
    made(server, "DROP ROLE half_blind")


@pytest.mark.parametrize(
    ("row", "said"),
    [("1, 1.25", "'v': it has 1.25"), ("1, 1e9", "'v': it has"), ("9e9, 1", "'id': it has 9")],
)
def test_a_value_that_its_column_cannot_hold_is_named(server, tmp_path, row, said):
    """Rounded, or null, it would be a value that the source has not; a repair would write it."""
    made(server, "CREATE TABLE odd (id bigint PRIMARY KEY, v numeric)", f"INSERT INTO odd VALUES ({row})")
    with pytest.raises(SourceError, match=said):
        found(server, tmp_path, [[1, Decimal("1.2")]], Narrow)
    with pytest.raises(SourceError) as told:
        found(server, tmp_path, [[1, Decimal("1.2")]], Personal)
    assert "1.25" not in str(told.value)


def test_the_snapshot_outlives_a_database_that_ends_idle_transactions(server, tmp_path):
    made(
        server,
        "CREATE TABLE odd (id bigint PRIMARY KEY, v text)",
        "INSERT INTO odd VALUES (1, 'x')",
        "ALTER ROLE test SET idle_in_transaction_session_timeout = '100ms'",
    )
    source, texts = Postgres(table="odd", connection="shop"), Texts(("id",), model_columns(Odd))
    ended = pytest.raises(SourceUnreachableError, match="held the snapshot")
    with ended, snapshot_of(source, texts, server.dsn) as there:
        time.sleep(0.5)
        assert there.rows([], 0, None).rows() == [("1", "x")]
        with server.connect(autocommit=True) as session:
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice'"
            )
        there.rows([], 0, None)
    made(server, "ALTER ROLE test RESET idle_in_transaction_session_timeout")
