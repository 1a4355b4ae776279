"""Hold the lake against what must come of the shop's records; tell every difference, and what was made."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from demo.expected import Expected, Version, expected
from demo.expected_events import Account, Row
from demo.message import Message
from resources.lake import Lake

_STREAMS = ("orders", "payments", "pageviews", "customers", "products")


def verify(lake: Lake, messages: Sequence[Message]) -> list[str]:
    """List what in the lake differs from the computation in plain Python; empty: nothing does."""
    truth = expected(messages)
    found: list[str] = []
    for name, account in truth.accounts.items():
        found += _stream(lake, name, account)
    for name, versions in truth.versions.items():
        found += _dimension(lake, name, versions)
    found += _revenue(lake, truth)
    early = set(
        _rows(lake, "gold/fct_orders").filter(pl.col("customer_match") == "first_version")["order_id"]
    )
    if early != truth.early_orders:
        found.append(f"gold/fct_orders: {len(early ^ truth.early_orders)} orders differ in taking version 1")
    return found


def _rows(lake: Lake, name: str) -> pl.DataFrame:
    handle = lake.open(name)
    if handle is None:
        raise SystemExit(f"table {name} does not exist: run `make demo` again")
    return lake.scan(handle).collect()


def _stream(lake: Lake, name: str, account: Account) -> Iterator[str]:
    losers, refused = _rows(lake, f"losers/{name}"), _rows(lake, f"quarantine/{name}")
    counts = Counter(losers["verdict"])
    stages = Counter(refused.filter(pl.col("resolved_at").is_null())["stage"])
    told: dict[str, tuple[Any, Any]] = {
        "records": (_rows(lake, f"bronze/{name}").height, account.read),
        "duplicates": (counts["duplicate"], account.duplicates),
        "conflicts": (counts["conflict"], account.conflicts),
        "quarantine": (stages, account.quarantined),
    }
    for what, (is_, must) in told.items():
        if is_ != must:
            yield f"{name}: {what}: {is_}, not {must}"
    silver = _rows(lake, f"silver/{name}")
    if name in ("orders", "payments", "pageviews"):
        is_rows = silver.select(pl.exclude(r"^_.*$")).iter_rows(named=True)
        if differing := _multiset(is_rows) - _multiset(account.rows) | _multiset(account.rows) - _multiset(
            silver.select(pl.exclude(r"^_.*$")).iter_rows(named=True)
        ):
            yield f"silver/{name}: {differing.total()} rows differ, such as {next(iter(differing))[:300]}"


def _multiset(rows: Iterable[Row]) -> Counter[str]:
    return Counter(json.dumps(row, sort_keys=True, default=str) for row in rows)


def _dimension(lake: Lake, name: str, versions: dict[str, list[Version]]) -> Iterator[str]:
    rows = _rows(lake, f"dimensions/{name}").sort("version")
    key = rows.columns[0]
    is_: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows.iter_rows(named=True):
        values = {k: v for k, v in row.items() if k in next(iter(versions.values()))[0].values}
        told = (json.dumps(values, sort_keys=True, default=str), row["valid_from"], row["valid_to"])
        is_.setdefault(row[key], []).append((*told, row["version"]))
    must = {
        k: [
            (json.dumps(v.values, sort_keys=True, default=str), v.valid_from, v.valid_to, v.version)
            for v in of
        ]
        for k, of in versions.items()
        if of
    }
    if differing := [k for k in is_.keys() | must.keys() if is_.get(k) != must.get(k)]:
        one = min(differing)
        yield f"dimensions/{name}: {len(differing)} keys differ: {one}: {is_.get(one)}, not {must.get(one)}"


def _revenue(lake: Lake, truth: Expected) -> Iterator[str]:
    rows = _rows(lake, "gold/daily_revenue")
    columns = ("orders", "revenue", "cancelled_orders", "cancelled_amount")
    is_ = {
        (r["order_date"], r["category"], r["country"]): tuple(r[c] for c in columns) for r in rows.to_dicts()
    }
    must = {cell: tuple(getattr(sums, c) for c in columns) for cell, sums in truth.revenue.items()}
    if differing := [cell for cell in is_.keys() | must.keys() if is_.get(cell) != must.get(cell)]:
        one = min(differing, key=str)
        yield f"gold/daily_revenue: {len(differing)} cells: {one}: {is_.get(one)}, not {must.get(one)}"


def report(lake: Lake, *, produced: int, seconds: float) -> str:
    """Say what the lake holds, for people."""
    lines = ["", f"{'stream':<12}{'records':>9}{'silver':>9}{'losers':>9}{'quarantine':>12}{'versions':>10}"]
    for name in _STREAMS:
        sizes = [
            _rows(lake, f"{layer}/{name}").height for layer in ("bronze", "silver", "losers", "quarantine")
        ]
        history = _rows(lake, f"dimensions/{name}").height if name in ("customers", "products") else ""
        lines.append(f"{name:<12}{sizes[0]:>9,}{sizes[1]:>9,}{sizes[2]:>9,}{sizes[3]:>12,}{history:>10}")
    gold = ", ".join(
        f"{name} {_rows(lake, f'gold/{name}').height:,}"
        for name in ("fct_orders", "fct_payments", "daily_revenue", "customer_activity")
    )
    revenue = _rows(lake, "gold/daily_revenue")["revenue"].sum()
    added = f"{produced:,} records sent" if produced else "nothing was sent, nothing was added twice"
    lines += ["", f"gold rows: {gold}; revenue {revenue:,} EUR", f"{added}; {seconds:.0f} s", ""]
    return "\n".join(line.rstrip() for line in lines)
