"""60 days of a real shop through a real Kafka and Dagster, held against plain Python."""

import csv
import json
import random
import zlib
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from tests.running import Project, Record, assert_same, fill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
LONDON = ZoneInfo("Europe/London")
FIRST = date(2010, 12, 1)
LAST = date(2011, 2, 18)
TILES = [(FIRST + timedelta(days=n)).isoformat() for n in range((LAST - FIRST).days + 1)]


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[dict[str, str]]:
    """Read the lines of the first 60 days."""
    files = sorted((shared_data / "streams" / "online-retail" / "by-day").glob("*.csv"))[:60]
    read = [row for file in files for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]
    assert len(read) == 95_054
    return read


@pytest.fixture(scope="module")
def servers(kafka: str, rows: list[dict[str, str]]) -> str:
    """Send each line to Kafka once, stamped with its own time; an invoice stays in one partition."""
    fill(kafka, "retail.lines", (record(row) for row in rows), partitions=3)
    return kafka


def record(row: dict[str, str]) -> Record:
    """Write a line as JSON: numbers as the file has them, missing texts as null."""
    at = datetime.fromisoformat(row["InvoiceDate"]).replace(tzinfo=LONDON)
    value = {name: text or None for name, text in row.items()}
    invoice = row["InvoiceNo"].encode()
    return Record(json.dumps(value).encode(), int(at.timestamp() * 1000), invoice, zlib.crc32(invoice) % 3)


@pytest.fixture(scope="module")
def in_one(servers: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Bring all days into the lake by one run over the range."""
    made = Project(tmp_path_factory.mktemp("retail"), servers).declare("online_retail")
    made.both("lines", (TILES[0], TILES[-1])).good()
    return made


def test_every_line_is_counted_and_sums_are_exact(in_one: Project, rows: list[dict[str, str]]):
    distinct = {tuple(row.items()): row for row in rows}.values()
    silver = in_one.table("silver/lines")
    assert silver.height == len(distinct) == 94_187
    assert silver["quantity"].sum() == sum(int(row["Quantity"]) for row in distinct)
    exact = sum(int(row["Quantity"]) * Decimal(row["UnitPrice"]) for row in distinct)
    assert sum(q * p for q, p in silver.select("quantity", "price").iter_rows()) == exact
    told = in_one.accounts("lines")
    assert told["read"] == len(rows)
    assert told["duplicates"] == len(rows) - len(distinct) == in_one.table("losers/lines").height
    assert told["conflicts"] == told["quarantined"] == told["tombstones"] == told["ignored"] == 0
    in_one.prove("lines")


def test_what_is_missing_stays_missing(in_one: Project, rows: list[dict[str, str]]):
    distinct = list({tuple(row.items()): row for row in rows}.values())
    silver = in_one.table("silver/lines")
    assert silver["customer"].null_count() == sum(not row["CustomerID"] for row in distinct)
    assert silver["description"].null_count() == sum(not row["Description"] for row in distinct)
    assert silver["customer"].drop_nulls().n_unique() == len({r["CustomerID"] for r in rows} - {""})
    back = silver.filter(pl.col("invoice").str.starts_with("C"))
    assert back.height == sum(row["InvoiceNo"].startswith("C") for row in distinct)


def test_each_day_is_one_tile(in_one: Project, rows: list[dict[str, str]]):
    counted = Counter(row["InvoiceDate"][:10] for row in rows)
    bronze = in_one.table("bronze/lines")["tile"].value_counts()
    assert dict(bronze.iter_rows()) == counted
    tiles = in_one.table("system/tiles").filter(pl.col("next_offset").is_not_null())
    assert set(tiles["tile"]) >= set(TILES)


def test_a_second_run_adds_nothing(in_one: Project):
    tables = ("bronze/lines", "silver/lines", "losers/lines", "quarantine/lines", "system/ledger")
    before = [in_one.version(table) for table in tables]
    in_one.both("lines", (TILES[0], TILES[-1])).good()
    assert [in_one.version(table) for table in tables] == before


@pytest.mark.parametrize("order", ["in order", "shuffled"])
def test_days_and_ranges_give_the_tables_of_one_range(
    servers: str, in_one: Project, tmp_path: Path, order: str
):
    made = Project(tmp_path, servers).declare("online_retail")
    pieces: list[str | tuple[str, str]] = [*TILES[:4], (TILES[4], TILES[40]), *TILES[41:43]]
    pieces += [(TILES[43], TILES[-1])]
    if order == "shuffled":
        random.Random(5).shuffle(pieces)  # noqa: S311  # an order, nothing secret
    for piece in pieces:
        made.both("lines", piece).good()
    assert_same(made.state("lines"), in_one.state("lines"))
    assert made.accounts("lines") == in_one.accounts("lines")
    made.prove("lines")
