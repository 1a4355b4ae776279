"""What the Dagster side of every layer shares: partitions, descriptions, metadata, how failures end.

Transforms never see a context: the shells here take from it what a transform needs. A permanent error ends
a run without a retry; a retryable one is tried again, at growing intervals.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import dagster as dg
import polars as pl
from deltalake import DeltaTable

from resources import outages
from resources.lake import Lake
from sluice.columns import Column
from sluice.contract import Stream
from sluice.errors import LakeUnreachableError, RetryableError, SluiceError
from sluice.partitions import Hourly
from sluice.tables import Table

RETRIES = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


class Materialize(dg.Config):
    """How tiles are materialized."""

    replace: bool = False  # decide complete tiles anew, though nothing says that they need it


def partitions_of(stream: Stream) -> dg.TimeWindowPartitionsDefinition:
    """Give the stream's tiles as Dagster's partitions, the open one among them."""
    declared = stream.partitions
    start = declared.first.astimezone(_zone(stream)).strftime(declared.format)
    if isinstance(declared, Hourly):
        return dg.HourlyPartitionsDefinition(start_date=start, timezone="UTC", end_offset=1)
    return dg.DailyPartitionsDefinition(start_date=start, timezone=declared.timezone, end_offset=1)


def _zone(stream: Stream) -> Any:
    return stream.partitions.first.tzinfo if isinstance(stream.partitions, Hourly) else stream.partitions.zone


@contextmanager
def failing_clearly(retries: dg.RetryPolicy | None = None) -> Iterator[None]:
    """Let retryable errors be tried again, and nothing else; a run that is terminated ends.

    A step that has Dagster's retry policy is tried again when it is terminated, too: so none has.
    """
    try:
        yield
    except RetryableError as error:
        if retries:
            raise try_again(retries) from error
        raise
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:
        failure = outages.told("of this run", "the lake", error)
        if isinstance(failure, LakeUnreachableError):  # as a scan tells it that was collected late
            raise (try_again(retries) if retries else failure) from error
        told = str(error) if isinstance(error, SluiceError) else f"{type(error).__name__}: {error}"
        raise dg.Failure(description=told, allow_retries=False) from error


def try_again(retries: dg.RetryPolicy) -> dg.RetryRequested:
    """Give what asks Dagster to try the step again, later each time."""
    delay = retries.calculate_delay(dg.OpExecutionContext.get().retry_number + 1)
    return dg.RetryRequested(retries.max_retries, delay)


def seldom(say: Callable[[str], None], seconds: float = 1.0) -> Callable[[str], None]:
    """Say how far a run has come at most so often: each line is an event of Dagster's log."""
    last = float("-inf")

    def said(text: str) -> None:
        nonlocal last
        if monotonic() - last >= seconds:
            last = monotonic()
            say(text)

    return said


def described(stream: Stream, what: str) -> str:
    """Give an asset's description: what it is, then what the contract says of its stream."""
    return f"{what}\n\n{stream.description}" if stream.description else what


def column_schema(table: Table, columns: Sequence[Column] = ()) -> dg.TableSchema:
    """Describe a table's columns, with what the contract says of them."""
    told = {column.name: column for column in columns}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=name,
                type=str(dtype),
                description=told[name].description if name in told else None,
                tags={"pii": ""} if name in told and told[name].pii else None,
                constraints=dg.TableColumnConstraints(nullable=name not in told or told[name].nullable),
            )
            for name, dtype in table.columns.items()
        ]
    )


def column_lineage(upstream: str, columns: Mapping[str, Sequence[str]]) -> dg.TableColumnLineage:
    """Tell from which columns of one upstream table (its path) each column comes."""
    key = dg.AssetKey(upstream.split("/"))
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(asset_key=key, column_name=origin) for origin in origins]
            for name, origins in columns.items()
        }
    )


def table_metadata(lake: Lake, table: Table, handle: DeltaTable | None = None) -> dict[str, Any]:
    """Say where a table is, in which version, how many rows and bytes it has."""
    opened = handle or lake.ensure(table)
    files = pl.DataFrame(opened.get_add_actions(flatten=True))
    size = int(files["size_bytes"].sum()) if files.height else 0
    rows = int(files["num_records"].sum() or 0) if files.height else 0
    return {
        "dagster/uri": lake.path(table.name),
        "dagster/table_name": table.name.replace("/", "."),
        "dagster/row_count": rows,
        "table_version": int(opened.version()),
        "bytes": size,
    }


def tile_rows(handle: DeltaTable, column: str) -> dict[str, int]:
    """Count a table's rows by partition value, from the log alone."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if not files.height:
        return {}
    counted = files.group_by(f"partition.{column}").agg(pl.col("num_records").sum())
    return {str(value): int(count) for value, count in counted.iter_rows()}
