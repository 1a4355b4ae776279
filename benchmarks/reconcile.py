"""How long two tables of many rows take to be held together: `benchmarks/reconcile.py --rows=100000000`.

The lake's table has 16 buckets of keys, the source's the same rows in another order, seven columns each. Told
are the two scans alone (the least that any comparison costs), equal tables, and one row that differs.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

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
    if given.get("write") == "yes":
        head = f"## Reconciliation: {rows:,} rows against {rows:,} rows, Delta against Delta\n\n"
        write_section("reconcile", head + table(["what", "s", "CPU s", "peak MB"], lines))


if __name__ == "__main__":
    main()
