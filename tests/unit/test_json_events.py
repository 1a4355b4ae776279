"""The verdict on each record of a batch of events: stages, their order, `where`, event times, rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from sluice import Events, Hourly, Json
from sluice.decode_events import decode_events
from sluice.decoded import FAILURES_SCHEMA, Decoded
from sluice.errors import RuleError
from sluice.rules import broken_rules, rule_name
from sluice.tables import BRONZE

STAMP = datetime(2026, 2, 1, tzinfo=UTC)


class Order(pa.DataFrameModel):
    order_id: str = pa.Field(str_matches="^o-", nullable=True)
    status: str = pa.Field(isin=["paid", "placed"], nullable=True)
    amount: pl.Decimal(12, 2) = pa.Field(ge=0)
    placed_at: pl.Datetime("us", "UTC") = pa.Field(nullable=True)
    city: str = pa.Field(nullable=True, metadata={"path": "ship.city"}, str_length={"max_value": 5})

    @pa.check("amount")
    def no_million(cls, data: Any) -> pl.LazyFrame:  # noqa: N805  # pandera's way
        return data.lazyframe.select(pl.col(data.key) < 1_000_000)

    @pa.dataframe_check
    def paid_has_amount(cls, data: Any) -> pl.LazyFrame:  # noqa: N805  # pandera's way
        return data.lazyframe.select((pl.col("status") != "paid") | (pl.col("amount") > 0))


def stream(**options: Any) -> Events:
    given = {
        "name": "orders", "topic": "shop.orders", "value": Json(), "schema": Order, "key": "order_id",
        "event_time": "placed_at", "partitions": Hourly(start="2026-01-01"),
    }  # fmt: skip
    return Events(**(given | options))


def records(*values: bytes | None, timestamp: datetime | None = STAMP) -> pl.DataFrame:
    given = {"value": list(values), "timestamp": [timestamp] * len(values)}
    return pl.DataFrame({n: given.get(n, [None] * len(values)) for n in BRONZE}, schema=BRONZE)


def order(**members: str) -> bytes:
    given = {
        "order_id": '"o-1"',
        "status": '"placed"',
        "amount": "1.5",
        "placed_at": '"2026-01-05T00:00:00Z"',
    }
    return ("{" + ",".join(f'"{name}":{value}' for name, value in (given | members).items()) + "}").encode()


def failures(decoded: Decoded) -> list[tuple[Any, ...]]:
    assert dict(decoded.failures.schema) == FAILURES_SCHEMA
    return decoded.failures.select("_row", "stage", "column", "rule").rows()


def test_every_record_is_in_one_place_and_every_failure_is_listed_in_order() -> None:
    decoded = decode_events(
        stream(),
        records(
            order(),
            None,
            b"{",
            order(order_id="null", status="1", amount="true"),
            order(order_id='"x"', status='"zz"', amount="-1", ship='{"city":"Amsterdam"}'),
            order(status='"paid"', amount="0"),
            order(placed_at='"9999-01-01T00:00:00Z"', amount="2000000"),
            order(placed_at="null"),
            b"{}",
            order(status="null", extra="1", ship='{"city":"Rome"}'),
        ),
    )
    assert decoded.rows["_row"].to_list() == [0, 9]
    assert decoded.rows["city"].to_list() == [None, "Rome"]
    assert dict(decoded.rows.drop("_row").schema) == {c.name: c.dtype for c in stream().columns}
    assert decoded.tombstones.to_list() == [1]
    assert decoded.ignored.is_empty()
    assert decoded.unknown == {"extra": 1}
    assert failures(decoded) == [
        (2, "decode", None, None),
        (3, "key", "order_id", None),
        (3, "schema", "status", None),
        (3, "schema", "amount", None),
        (4, "rule", "order_id", "str_matches"),
        (4, "rule", "status", "isin"),
        (4, "rule", "amount", "ge"),
        (4, "rule", "ship.city", "str_length"),
        (5, "rule", None, "paid_has_amount"),
        (6, "rule", "amount", "no_million"),
        (6, "rule", "placed_at", "event_time_range"),
        (7, "schema", "placed_at", None),
        (8, "key", "order_id", None),
        (8, "schema", "amount", None),
        (8, "schema", "placed_at", None),
    ]
    assert decoded.failures["reason"].str.starts_with("found ").sum() == len(decoded.failures) - 1


@pytest.mark.parametrize(
    ("where", "kept", "ignored", "failed"),
    [
        ({"status": "paid"}, [0], [1, 3, 4], [2]),
        ({"kind": "x"}, [1], [0, 3, 4], [2]),
        ({"kind": None}, [0], [1, 3], [2, 4]),
        ({"meta.n": 1}, [3], [0, 1, 4], [2]),
        (pl.col("status") == "paid", [0], [1, 3], [2, 4]),
        (pl.col("kind") == "x", [1], [0, 4], [2, 3]),
        (pl.col("amount") > 100, [], [0, 1, 3, 4], [2]),
        (pl.lit(value=False), [], [0, 1, 3, 4], [2]),
    ],
    ids=str,
)
def test_where(where: Any, kept: list[int], ignored: list[int], failed: list[int]) -> None:
    decoded = decode_events(
        stream(where=where),
        records(
            order(status='"paid"'),
            order(kind='"x"'),
            b"no json",
            order(kind="5", meta='{"n":1}'),
            order(status="7"),
        ),
    )
    assert decoded.rows["_row"].to_list() == kept
    assert decoded.ignored.to_list() == ignored
    assert decoded.failures["_row"].unique(maintain_order=True).to_list() == failed


@pytest.mark.parametrize(
    ("given", "timestamp", "time", "passes"),
    [
        ("default", STAMP, "2025-12-31T00:00:00Z", True),
        ("default", STAMP, "2025-12-30T23:59:59.999999Z", False),
        ("default", STAMP, "2026-02-02T00:00:00Z", True),
        ("default", STAMP, "2026-02-02T00:00:00.000001Z", False),
        ("default", None, "9999-12-31T00:00:00Z", True),
        (None, STAMP, "0001-01-01T00:00:00Z", True),
        ((None, STAMP), STAMP, "0001-01-01T00:00:00Z", True),
        ((None, STAMP), STAMP, "2026-02-01T00:00:01Z", False),
        ((STAMP, None), STAMP, "2026-01-31T00:00:00Z", False),
        ((STAMP, STAMP + timedelta(days=1)), STAMP, "2026-02-01T12:00:00Z", True),
    ],
)
def test_event_time_range(given: Any, timestamp: datetime | None, time: str, passes: bool) -> None:
    batch = records(order(placed_at=f'"{time}"'), timestamp=timestamp)
    decoded = decode_events(stream(event_time_range=given), batch)
    assert len(decoded.rows) == passes
    assert failures(decoded) == ([] if passes else [(0, "rule", "placed_at", "event_time_range")])


def test_no_records() -> None:
    decoded = decode_events(stream(), records())
    assert (len(decoded.rows), len(decoded.failures)) == (0, 0)
    assert dict(decoded.rows.schema) == {"_row": pl.UInt32(), **{c.name: c.dtype for c in stream().columns}}


def test_rules_are_named_as_in_the_contract() -> None:
    checks = Order.to_schema().columns["amount"].checks
    assert [rule_name(check) for check in checks] == ["ge", "no_million"]


def test_a_rule_that_cannot_be_computed_is_an_error() -> None:
    class Wrong(pa.DataFrameModel):
        amount: int

        @pa.dataframe_check
        def misspelt(cls, data: Any) -> pl.LazyFrame:  # noqa: N805  # pandera's way
            return data.lazyframe.select(pl.col("amuont") > 0)

    with pytest.raises(RuleError, match="misspelt"):
        broken_rules(pl.DataFrame({"amount": [1]}), Wrong)


def test_nulls_pass_the_rules_of_their_column() -> None:
    frame = pl.DataFrame(
        {c.name: pl.Series([None], dtype=c.dtype) for c in stream().columns},
    )
    assert broken_rules(frame, Order).is_empty()
