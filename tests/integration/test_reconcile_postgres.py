"""Lake against a real PostgreSQL: values as text on both sides, and one position while others write."""

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pandera.polars as pa
import polars as pl
import pytest

from demo.postgres import Postgres as Server
from resources import source_postgres
from resources.lake_texts import LakeTexts
from resources.source_postgres import PostgresSnapshot, snapshot_of, values_of
from resources.table_sides import Side
from resources.text_compare import Progress, differing, rows_of
from sluice import Postgres
from sluice.columns import model_columns, to_storage
from sluice.compare.canonical import Texts
from sluice.compare.kept import condition
from sluice.errors import DemoServerError, SourceError, SourceUnreachableError
from tests.changes import changes_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL of this module."""
    try:
        with Server() as made:
            yield made
    except DemoServerError as error:
        pytest.skip(str(error))


class Typed(pa.DataFrameModel):
    id: int
    small: pl.Int16 = pa.Field(nullable=True)
    price: pl.Decimal(20, 4) = pa.Field(nullable=True)
    score: float = pa.Field(nullable=True)
    ratio: pl.Float32 = pa.Field(nullable=True)
    active: bool = pa.Field(nullable=True)
    name: str = pa.Field(nullable=True)
    at: pl.Datetime("us", "UTC") = pa.Field(nullable=True)
    wall: pl.Datetime("us") = pa.Field(nullable=True)
    day: pl.Date = pa.Field(nullable=True)
    clock: pl.Time = pa.Field(nullable=True)
    raw: pl.Binary = pa.Field(nullable=True)
    tags: pl.List(pl.String) = pa.Field(nullable=True)
    numbers: pl.List(pl.Int64) = pa.Field(nullable=True)
    pair: pl.Struct(
        {"n": pl.Int64, "told": pl.Struct({"price": pl.Decimal(20, 4), "at": pl.Datetime("us", "UTC")})}
    ) = pa.Field(nullable=True)
    free: pl.Struct(
        {"a": pl.List(pl.Struct({"s": pl.String, "f": pl.Float64})), "raw": pl.Binary, "b": pl.Boolean}
    ) = pa.Field(nullable=True)
    grid: pl.List(pl.List(pl.Int64)) = pa.Field(nullable=True)


COLUMNS = model_columns(Typed)
TYPES = {
    "id": "bigint primary key",
    "small": "smallint",
    "price": "numeric",
    "score": "double precision",
    "ratio": "real",
    "active": "boolean",
    "name": "text",
    "at": "timestamptz",
    "wall": "timestamp",
    "day": "date",
    "clock": "time",
    "raw": "bytea",
    "tags": "text[]",
    "numbers": "bigint[]",
    "pair": "pair",
    "free": "jsonb",
    "grid": "json",
}
AT = datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)
PAIR = {"n": -7, "told": {"price": Decimal("12.3400"), "at": AT}}
FREE = {"a": [{"s": "ä,1:~", "f": 0.1}, None, {"s": None, "f": -0.0}], "raw": b"\x00\xff", "b": True}
EMPTY = {"a": [], "raw": None, "b": None}
GRID = [[1, 2], [], None, [None, -3]]
REST = [time(23, 59, 59, 999999), b"\x00\xff", ["a", None, "b,c"], [1, None], PAIR, FREE, GRID]
ROWS = [
    [
        1,
        -7,
        Decimal("12.3400"),
        0.1,
        0.1,
        True,
        "plain",
        AT,
        AT.replace(tzinfo=None),
        date(1900, 2, 28),
        *REST,
    ],
    [2, *([None] * 16)],
    [
        3,
        0,
        Decimal(0),
        -0.0,
        -0.0,
        False,
        "",
        *([None] * 4),
        b"",
        [],
        [],
        {"n": None, "told": None},
        EMPTY,
        [],
    ],
    [4, 1, Decimal("-999999999999.0001"), float("nan"), float("nan"), True, "ä|~:1\n\t€𝄞", *([None] * 10)],
    [5, 1, Decimal(1), float("inf"), float("-inf"), True, "~", *([None] * 10)],
    [6, 1, Decimal("0.1"), 1e300, 1e-30, True, "0:", *([None] * 10)],
    [7, 1, Decimal(100), 5e-324, 16777216.0, True, "e", *([None] * 10)],
]


def filled(server, rows=ROWS, table="typed"):
    """Write rows into a table; give its word."""
    with server.connect(autocommit=True) as session:
        session.execute(f"DROP TABLE IF EXISTS {table}")
        session.execute("DROP TYPE IF EXISTS pair, told")
        session.execute("CREATE TYPE told AS (at timestamptz, price numeric)")
        session.execute("CREATE TYPE pair AS (n integer, told told)")
        session.execute(f"CREATE TABLE {table} ({', '.join(f'{n} {t}' for n, t in TYPES.items())})")
        composite = "CASE WHEN %s THEN ROW(%s::int, CASE WHEN %s THEN ROW(%s, %s)::told END)::pair END"
        marks = ", ".join([*["%s"] * (len(TYPES) - 3), composite, "%s", "%s"])
        with session.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", [_given(row) for row in rows])
    return Postgres(table=table, connection="shop")


def _given(row: list) -> list:
    """Write a row as the statement takes it: a composite type by its parts, documents as JSON."""
    *plain, pair, free, grid = row
    told = pair and pair["told"]
    parts = [
        pair is not None,
        pair and pair["n"],
        told is not None,
        told and told["at"],
        told and told["price"],
    ]
    if free is not None:
        free = free | {"raw": free["raw"] and "\\x" + free["raw"].hex(), "more": "not of the contract"}
    return [*plain, *parts, *(None if one is None else json.dumps(one) for one in (free, grid))]


def side(tmp_path, rows=ROWS) -> Side:
    """Write rows as the lake does."""
    frame = pl.DataFrame(rows, schema={c.name: c.dtype for c in COLUMNS}, orient="row")
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
    to_storage(frame, COLUMNS).write_parquet(path)
    return Side([str(path)], {c.name: c.name for c in COLUMNS})


def compared(server, source, lake, tmp_path, columns=COLUMNS, keys=("id",), most=100, **limits):
    """Compare a table with files."""
    texts = Texts(keys, columns)
    here = LakeTexts(lake, texts, tmp_path)
    with snapshot_of(source, texts, server.dsn, **limits) as there:
        ranges, total = differing(here, there, Progress(), lambda _: None)
        rows, counts = rows_of(here, there, ranges, most)
    here.close()
    return total, rows, counts


def test_values_of_every_type_have_one_text_on_both_sides(server, tmp_path):
    total, rows, counts = compared(server, filled(server), side(tmp_path), tmp_path)
    assert rows.is_empty(), rows
    assert sum(counts.values()) == 0
    assert (total.lake_rows, total.source_rows, total.differing) == (7, 7, 0)


@pytest.mark.parametrize("name", [name for name in TYPES if name != "id"])
def test_a_value_that_differs_is_found_in_its_column(server, tmp_path, name):
    place = list(TYPES).index(name)
    other = [list(row) for row in ROWS]
    other[0][place] = None
    _, rows, counts = compared(server, filled(server), side(tmp_path, other), tmp_path)
    assert counts == {"missing": 0, "extra": 0, "different": 1}
    assert rows["columns"].to_list() == [[name]]
    assert rows["lake"][0][name] is None
    told = rows["source"].struct.field(name)[0]
    assert told is not None


def test_what_the_source_says_is_read_back_as_the_lake_stores_it(server, tmp_path):
    _, rows, counts = compared(server, filled(server), side(tmp_path, []), tmp_path)
    assert counts["missing"] == 7
    there = rows.sort("id")["source"].struct.unnest()
    wanted = pl.DataFrame(ROWS, schema={c.name: c.dtype for c in COLUMNS}, orient="row")
    assert there.equals(to_storage(wanted, COLUMNS))


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("kind", ["bigint", "text", 'text COLLATE "und-x-icu"', "uuid", "bytea"])
def test_one_row_among_many_is_found_by_ranges(server, tmp_path, monkeypatch, kind, parallel):
    monkeypatch.setattr(source_postgres, "_PAGES", 100)
    fetch, queries = PostgresSnapshot._fetch, []

    def watched(table, query, values):
        queries.append(query)
        return fetch(table, query, values)

    monkeypatch.setattr(PostgresSnapshot, "_fetch", watched)
    key_type = {"bigint": int, "bytea": pl.Binary}.get(kind, str)
    named = type("Named", (pa.DataFrameModel,), {"__annotations__": {"id": key_type, "value": str}})
    key = {
        "bigint": "n",
        "text": "CASE n % 2 WHEN 0 THEN 'kéy ' ELSE 'Key' END || n",
        "uuid": "md5(n::text)::uuid",
        "bytea": "decode(md5(n::text), 'hex')",
    }
    key = key[kind.split()[0]]
    with server.connect(autocommit=True) as session:
        session.execute("DROP TABLE IF EXISTS many")
        session.execute(f"CREATE TABLE many (id {kind} PRIMARY KEY, value text)")
        session.execute(f"INSERT INTO many SELECT {key}, 'v' || n FROM generate_series(1, 50000) n")
        held = session.execute("SELECT id::text, value FROM many").fetchall()
        session.execute("UPDATE many SET value = 'other' WHERE value = 'v777'")
        session.execute("DELETE FROM many WHERE value = 'v40000'")
    frame = pl.DataFrame(held, schema=["id", "value"], orient="row")
    if kind == "bigint":
        frame = frame.with_columns(pl.col("id").cast(pl.Int64))
    if kind == "bytea":
        frame = frame.with_columns(pl.col("id").str.strip_prefix("\\x").str.decode("hex"))
    frame.write_parquet(tmp_path / "many.parquet")
    lake = Side([str(tmp_path / "many.parquet")], {"id": "id", "value": "value"})
    source = Postgres(table="many", connection="shop")
    total, rows, counts = compared(
        server, source, lake, tmp_path, model_columns(named), parallel=parallel, rows_per_second=1_000_000
    )
    assert counts == {"missing": 0, "extra": 1, "different": 1}
    assert total.ranges == 6
    assert total.differing in (1, 2)
    assert set(rows["lake"].struct.field("value")) == {"v777", "v40000"}
    paged = [query for query in queries if "ctid" in query]
    assert (len(paged) > 2) == ("icu" in kind), "where keys have another order, pages bound a query"


@pytest.mark.parametrize(
    ("where", "kept"), [({"name": "a%b"}, 1), ({"name": None}, 3), ({"n": 2, "name": "it's"}, 2)]
)
def test_rows_that_where_leaves_out_are_no_rows_of_the_table(server, tmp_path, where, kept):
    class Named(pa.DataFrameModel):
        id: int
        name: str = pa.Field(nullable=True)
        n: int

    rows = [(1, "a%b", 1), (2, "it's", 2), (3, None, 3), (4, "it's", 4)]
    with server.connect(autocommit=True) as session, session.cursor() as cursor:
        session.execute("DROP TABLE IF EXISTS kept")
        session.execute("CREATE TABLE kept (id bigint PRIMARY KEY, name text, n integer)")
        cursor.executemany("INSERT INTO kept VALUES (%s, %s, %s)", rows)
    frame = pl.DataFrame(rows, schema=["id", "name", "n"], orient="row").filter(id=kept)
    frame.write_parquet(tmp_path / "kept.parquet")
    lake = Side([str(tmp_path / "kept.parquet")], {name: name for name in frame.columns})
    source, columns = Postgres(table="kept", connection="shop"), model_columns(Named)
    stream = changes_of({}, schema=Named, where=where, source=source)
    told = condition(stream, values_of(source, Texts(("id",), columns)))
    total, rows, _ = compared(server, source, lake, tmp_path, columns, kept=told)
    assert (rows.height, total.lake_rows, total.source_rows) == (0, 1, 1)


def test_a_lake_far_behind_is_compared_in_pieces(server, tmp_path):
    with server.connect(autocommit=True) as session:
        session.execute("DROP TABLE IF EXISTS far")
        session.execute("CREATE TABLE far (id bigint PRIMARY KEY, value text)")
        session.execute("INSERT INTO far SELECT n, 'v' FROM generate_series(1, 30000) n")
    pl.DataFrame({"id": [1, 2], "value": ["v", "v"]}).write_parquet(tmp_path / "far.parquet")

    class Far(pa.DataFrameModel):
        id: int
        value: str

    lake = Side([str(tmp_path / "far.parquet")], {"id": "id", "value": "value"})
    source = Postgres(table="far", connection="shop")
    _, rows, counts = compared(server, source, lake, tmp_path, model_columns(Far), most=50)
    assert counts["missing"] == 29_998
    assert rows.height == 50


def test_what_cannot_be_read_is_named_without_its_address(server, tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        compared(server, Postgres(table="nowhere", connection="shop"), side(tmp_path), tmp_path)
    source, texts = filled(server), Texts(("id",), COLUMNS)
    with (
        pytest.raises(SourceUnreachableError) as told,
        snapshot_of(source, texts, "postgresql://u:secret@127.0.0.1:1/x"),
    ):
        pass
    assert "secret" not in str(told.value)
