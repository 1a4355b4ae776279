"""How fast JSON records become typed columns, each way beside the others, in rows a CPU second.

Run `python benchmarks/decode.py [--rows N]`. Orders of about 250 bytes with nested items, decimals and
date-times; none, one, 1 % and 50 % of them bad in several ways. Beside machine code stand the fast way
without it (DuckDB and Arrow), the strict decoder that both equal, and DuckDB's json_transform. That one is
lenient: it rounds, turns misfits into null and says nothing, so it does less than the others.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import duckdb
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import peak_mb

from sluice import Json
from sluice.columns import Column
from sluice.json.columns import read_columns
from sluice.json.machine import machine_code
from sluice.json.rows import read_rows

ITEMS = pl.List(pl.Struct({"sku": pl.String(), "qty": pl.Int32(), "price": pl.Decimal(10, 2)}))
DTYPES: dict[str, pl.DataType] = {
    "order_id": pl.String(),
    "customer_id": pl.String(),
    "status": pl.String(),
    "amount": pl.Decimal(12, 2),
    "quantity": pl.Int32(),
    "placed_at": pl.Datetime("us", "UTC"),
    "coupon": pl.String(),
    "items": ITEMS,
}
COLUMNS = [Column(name, dtype, nullable=True, path=(name,)) for name, dtype in DTYPES.items()]
TRANSFORM = """{"order_id":"VARCHAR","customer_id":"VARCHAR","status":"VARCHAR","amount":"DECIMAL(12,2)",
"quantity":"INTEGER","placed_at":"TIMESTAMP","coupon":"VARCHAR",
"items":[{"sku":"VARCHAR","qty":"INTEGER","price":"DECIMAL(10,2)"}]}"""
PEER = f"SELECT CASE WHEN json_valid(value) THEN json_transform(value, '{TRANSFORM}') END FROM records"  # noqa: S608  # a constant
COUPONS = ("null", '"WELCOME"')
STRICT_ROWS = 20_000
TURNS = 3


def order(number: int, chance: random.Random) -> bytes:
    """Make a good value."""
    items = ",".join(
        f'{{"sku":"sku-{chance.randrange(9999):04}","qty":{chance.randrange(1, 5)},'
        f'"price":"{chance.randrange(100)}.{chance.randrange(100):02}"}}'
        for _ in range(chance.randrange(1, 4))
    )
    return (
        f'{{"order_id":"ord-{number:08}","customer_id":"cust-{chance.randrange(99999):05}",'
        f'"status":"{chance.choice(["placed", "paid", "shipped"])}",'
        f'"amount":{chance.randrange(10000)}.{chance.randrange(100):02},"quantity":{chance.randrange(10)},'
        f'"placed_at":"2026-01-{chance.randrange(1, 29):02}T{chance.randrange(24):02}:00:00.125Z",'
        f'"coupon":{chance.choice(COUPONS)},"items":[{items}]}}'
    ).encode()


def spoiled(value: bytes, chance: random.Random) -> bytes:
    """Make a value bad: cut, of a wrong type, with too many digits, no date, or nested wrongly."""
    kind = chance.randrange(5)
    if kind == 0:
        return value[: len(value) // 2]
    found, put = [
        (b'"quantity":', b'"quantity":"x'),
        (b'"quantity":', b'"quantity":true,"q":'),
        (b'.125Z"', b'.125+99:00"'),
        (b'"amount":', b'"amount":0.001,"a":'),
        (b'"qty":', b'"qty":[1],"q":'),
    ][kind]
    return value.replace(found, put, 1)


def rate(rows: int, work: Callable[[], object]) -> float:
    """Rows per CPU second of some work, all threads counted."""
    begin = time.process_time()
    work()
    return rows / (time.process_time() - begin)


def ways(values: list[bytes]) -> dict[str, tuple[int, Callable[[], object]]]:
    """Name the ways of decoding: how many rows, and the work."""
    series, few = pl.Series(values, dtype=pl.Binary), values[:STRICT_ROWS]
    connection = duckdb.connect()
    connection.register("records", pl.DataFrame({"value": [value.decode() for value in values]}).to_arrow())
    found: dict[str, tuple[int, Callable[[], object]]] = {
        "without": (len(values), lambda: read_columns(series, COLUMNS, Json(), native=False)),
        "strict": (len(few), lambda: read_rows(few, COLUMNS, Json())),
        "json_transform": (len(values), lambda: connection.sql(PEER).to_arrow_table()),
    }
    if machine_code():
        found = {"machine code": (len(values), lambda: read_columns(series, COLUMNS, Json()))} | found
    return found


def main(rows: int) -> None:
    """Measure, the ways in turn, and print the medians."""
    chance = random.Random(7)
    good = [order(number, chance) for number in range(rows)]
    print(f"{rows:,} values of {sum(map(len, good)) / rows:.0f} bytes; rows a CPU second, median of {TURNS}")
    for share in (0.0, 1 / rows, 0.01, 0.5):
        known = ways([spoiled(value, chance) if chance.random() < share else value for value in good])
        turns = [{name: rate(*way) for name, way in known.items()} for _ in range(TURNS)]
        figures = (f"{name} {median(turn[name] for turn in turns):>9,.0f}" for name in known)
        print(f"{share:8.4%} bad:  " + "   ".join(figures), flush=True)
    print(f"peak memory {peak_mb():,.0f} MB")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000, help="values to decode (default 100,000)")
    main(options.parse_args().rows)
