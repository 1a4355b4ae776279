"""How fast JSON records become typed columns: the fast way, the strict decoder, DuckDB's json_transform.

Run `python benchmarks/decode.py [rows]`. Orders of about 250 bytes with nested items, decimals and
date-times; 0, 1 and 50 % of them bad in several ways. DuckDB is the lenient peer: it rounds, turns misfits
into null and says nothing, so it does less than the other two.
"""

import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sluice import Json
from sluice.columns import Column
from sluice.json_columns import read_columns
from sluice.json_rows import read_rows

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
    """Rows per second of some work."""
    begin = time.perf_counter()
    work()
    return rows / (time.perf_counter() - begin)


def main(rows: int) -> None:
    """Measure and print."""
    chance = random.Random(7)
    good = [order(number, chance) for number in range(rows)]
    print(f"{rows:,} values of {sum(map(len, good)) / rows:.0f} bytes; rows/s")
    for share in (0.0, 1 / rows, 0.01, 0.5):
        values = [spoiled(value, chance) if chance.random() < share else value for value in good]
        series = pl.Series(values, dtype=pl.Binary)
        read_columns(series.head(1000), COLUMNS, Json())
        fast = rate(rows, lambda series=series: read_columns(series, COLUMNS, Json()))  # type: ignore[misc]
        few = values[:STRICT_ROWS]
        strict = rate(len(few), lambda few=few: read_rows(few, COLUMNS, Json()))  # type: ignore[misc]
        text = pl.DataFrame({"value": [value.decode() for value in values]}).to_arrow()
        connection = duckdb.connect()
        connection.register("records", text)
        peer = rate(rows, lambda c=connection: c.sql(PEER).to_arrow_table())  # type: ignore[misc]
        print(f"{share:8.4%} bad: fast {fast:>9,.0f}  strict {strict:>7,.0f}  json_transform {peer:>9,.0f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
