"""How long two tables of many rows take to be held together: `benchmarks/reconcile.py --rows=100000000`.

The lake's table has 16 buckets of keys, the source's the same rows in another order, seven columns each. Told
are the two scans alone (the least that any comparison costs), equal tables, and one row that differs.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import duckdb
from deltalake import DeltaTable, write_deltalake
from measure import arguments, measured, table, tell, told, write_section

_ROW = """
    i::BIGINT AS id, 'customer-' || (i % 1000003) AS name, (i * 7919 % 1000000)::DECIMAL(12, 2) AS amount,
    to_timestamp(1700000000 + i % 10000000) AS placed_at, (i % 97)::INT AS region, i % 3 = 0 AS active,
    i * 0.37::DOUBLE AS score
"""
_COLUMNS = ("id", "name", "amount", "placed_at", "active", "score")
_CHANGED = "changed.parquet"


def make(folder: Path, rows: int) -> None:
    """Write both tables, and in a file by itself one row of the source as it is after a change."""
    for name, by in (("lake", "(i % 16)::INT AS _bucket"), ("source", "(i * 31 % 10)::INT AS part")):
        if (folder / name).exists():
            continue
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
            query = f"SELECT {_ROW}, {by} FROM range({rows}) t(i)"  # noqa: S608  # constants
            made = connection.sql(query).to_arrow_reader(1_000_000)
            partition = by.rsplit(" ", 1)[1]
            write_deltalake(str(folder / name), made, partition_by=[partition], target_file_size=128 << 20)
    last = _files(folder, "source")[-1]
    changed = "CASE WHEN file_row_number = 1000 THEN 'other' ELSE name END AS name"
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * EXCLUDE (file_row_number) REPLACE ({changed}) "  # noqa: S608  # constants
            f"FROM read_parquet('{last}', file_row_number = true)) TO '{folder / _CHANGED}'"
        )


def _files(folder: Path, name: str) -> list[str]:
    return sorted(DeltaTable(str(folder / name)).file_uris())


def part(folder: Path, what: str) -> None:
    """Do one part in this process, and tell what it cost."""
    from resources.table_compare import compare  # noqa: PLC0415  # the parent needs none of it
    from resources.table_sides import Side  # noqa: PLC0415

    names = {name: name for name in _COLUMNS}
    lake, source = _files(folder, "lake"), _files(folder, "source")
    if what == "one row differs":
        source = [*source[:-1], str(folder / _CHANGED)]

    def scans() -> int:
        with duckdb.connect() as connection:
            connection.execute("SET preserve_insertion_order = false")
            every = ", ".join(f"max({name})" for name in _COLUMNS)
            for files in (lake, source):
                query = f"SELECT count(*), {every} FROM read_parquet({files!r})"  # noqa: S608  # constants
                connection.execute(query).fetchall()
        return 2

    def held() -> int:
        found = compare(Side(lake, names), Side(source, names), ["id"], folder=folder)
        expected = 1 if what == "one row differs" else 0
        if (found.missing, found.extra, found.different) != (0, 0, expected):
            raise AssertionError(found)
        return found.lake_rows

    tell(measured(scans if what == "two scans alone" else held))


def postgres(rows: int) -> list[list[str]]:
    """Hold a table of PostgreSQL against files, beside COPY of the same columns, in turns: least of three."""
    from contextlib import closing  # noqa: PLC0415  # of this part alone

    import pandera.polars as pa  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    from demo.postgres import Postgres as Server  # noqa: PLC0415
    from resources.source_postgres import snapshot_of  # noqa: PLC0415
    from resources.table_sides import Side  # noqa: PLC0415
    from resources.text_compare import LakeTexts, Progress, differing, rows_of  # noqa: PLC0415
    from sluice import Postgres  # noqa: PLC0415
    from sluice.columns import model_columns  # noqa: PLC0415
    from sluice.compare.canonical import Texts  # noqa: PLC0415

    types = {
        "id": int,
        "name": str,
        "amount": pl.Decimal(12, 2),
        "placed_at": pl.Datetime("us", "UTC"),
        "active": bool,
        "score": float,
    }
    columns = model_columns(type("Row", (pa.DataFrameModel,), {"__annotations__": types}))
    texts, source = Texts(("id",), columns), Postgres(table="customers", connection="shop")
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as made, Server() as server:
        folder = Path(made)
        with server.connect(autocommit=True) as session:
            session.execute(
                "CREATE TABLE customers (id bigint PRIMARY KEY, name text, amount numeric(12, 2), "
                "placed_at timestamptz, active boolean, score double precision)"
            )
            session.execute(
                "INSERT INTO customers SELECT i, 'customer-' || i %% 1000003, "
                "(i * 7919 %% 1000000)::numeric, "
                "to_timestamp(1700000000 + i %% 10000000), i %% 3 = 0, i * 0.37::float8 "
                "FROM generate_series(1::bigint, %s::bigint) i",
                [rows],
            )
            session.execute("VACUUM ANALYZE customers")
            with duckdb.connect() as connection:
                query = f"SELECT {_ROW} FROM range(1, {rows} + 1) t(i)"  # noqa: S608  # constants
                connection.execute(f"SET TimeZone = 'UTC'; COPY ({query}) TO '{folder / 'lake.parquet'}'")
            side = Side([str(folder / "lake.parquet")], {name: name for name in texts.names})

            def copied() -> None:
                with session.cursor().copy("COPY customers TO STDOUT") as out:
                    for _ in out:
                        pass

            def held(expected: int) -> None:
                with (
                    closing(LakeTexts(side, texts, folder)) as lake,
                    snapshot_of(source, texts, server.dsn, parallel=2) as there,
                ):
                    ranges, _ = differing(lake, there, Progress(), lambda _: None)
                    _, counts = rows_of(lake, there, ranges, 10)
                    if sum(counts.values()) != expected:
                        raise AssertionError(counts)

            for _ in range(3):
                for what, work in (("COPY of the same columns", copied), ("equal", lambda: held(0))):
                    least[what] = min(least.get(what, 1e9), measured(lambda w=work: w() or rows).seconds)
            session.execute("UPDATE customers SET name = 'other' WHERE id = %s", [rows // 2])
            least["one row differs"] = measured(lambda: held(1) or rows).seconds
    base = least["COPY of the same columns"]
    return [[what, f"{seconds:.1f}", f"{seconds / base:.2f}"] for what, seconds in least.items()]


def main() -> None:
    """Print what each part costs, and check its outcome."""
    given = arguments()
    if "part" in given:
        part(Path(given["folder"]), given["part"])
        return
    rows = int(given.get("rows", 1_000_000))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(given.get("folder", made))
        if not (folder / _CHANGED).exists():
            make(folder, rows)
        lines = []
        for what in ("two scans alone", "equal", "one row differs"):
            command = [sys.executable, __file__, f"--part={what}", f"--folder={folder}"]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            cost = told(output)
            lines.append([what, f"{cost.seconds:.1f}", f"{cost.cpu:.1f}", f"{cost.peak_mb:.0f}"])
            print(*lines[-1], sep="\t", flush=True)
    of_postgres = postgres(int(given.get("postgres", max(rows // 50, 1000))))
    for line in of_postgres:
        print("PostgreSQL", *line, sep="\t", flush=True)
    if given.get("write") == "yes":
        head = f"## Reconciliation: {rows:,} rows against {rows:,} rows, Delta against Delta\n\n"
        write_section(
            "reconcile",
            head
            + table(["what", "s", "CPU s", "peak MB"], lines)
            + "\n\nAgainst PostgreSQL, two sessions:\n\n"
            + table(["what", "s", "to COPY"], of_postgres),
        )


if __name__ == "__main__":
    main()
