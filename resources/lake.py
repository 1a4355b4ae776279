"""The lake: where its Delta tables are, how one is opened, read and committed to.

Decides what every commit of this project has in common: it is made from the handle that was read, it
carries its progress and its fences as application transactions, it never cleans the log, and losing a
race is told apart from failing. It refuses progress that would go backwards. What is written is decided
by its callers. Measured: delta-rs refuses a second commit that raced the first one with the same id, but
takes a lower version from a fresh handle, hence the test before each commit.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake import WriterProperties as DeltaWriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from resources.handles import Handles
from resources.schema_changes import adopt_columns
from resources.settings import settings
from resources.transactions import committed, transactions
from sluice.errors import LakeError, RaceLostError, StaleWriterError
from sluice.tables import Table

T = TypeVar("T")
Mode = Literal["append", "overwrite"]

ATTEMPTS = 12  # of one read-modify-write, before a lost race is an error
_CONFIGURATION = {"delta.enableExpiredLogCleanup": "false"}  # commits carry the accounts: only we clean up
_AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_WRITER = DeltaWriterProperties(compression="ZSTD", compression_level=1)


class LostRace(Exception):  # noqa: N818  # a signal between commit and retry, never shown
    """Another commit came between reading and writing: read again."""


@dataclass(frozen=True)
class Lake:
    """A folder or bucket of Delta tables, named by their path below it (`silver/orders`)."""

    uri: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)  # holds secrets
    handles: Handles | None = field(default=None, repr=False, compare=False)

    def holding(self) -> "Lake":
        """Give this lake for a long run: a table is opened once, and moved on where it is asked for again."""
        return replace(self, handles=self.handles or Handles())

    def path(self, name: str) -> str:
        """Give the URI of a table."""
        return f"{self.uri.rstrip('/')}/{name}"

    def open(self, name: str, version: int | None = None) -> DeltaTable | None:
        """Open a table at its newest or a given version; None where there is none.

        Raises:
            LakeError: the store cannot be read, or the version is gone.
        """

        def opened() -> DeltaTable | None:
            try:
                return DeltaTable(self.path(name), version, dict(self.storage_options))
            except TableNotFoundError:
                return None

        try:
            if version is None and self.handles is not None:
                return self.handles.newest(name, opened)
            return opened()
        except (DeltaError, OSError) as error:
            raise LakeError(name, self.path(name), str(error)) from error

    def ensure(self, table: Table) -> DeltaTable:
        """Open a table, made where it does not exist, with the columns that its contract has today.

        Raises:
            LakeError: the store cannot be written.
            TableSchemaError: a column is stored in a type that cannot become the contract's.
            RaceLostError: others change the table's columns all the time.
        """

        def step() -> DeltaTable:
            handle = self._made(table)
            with self._errors(table.name):
                adopt_columns(self, handle, table)
            return handle

        return self.retrying(table.name, step)

    def _made(self, table: Table) -> DeltaTable:
        handle = self.open(table.name)
        if handle is None:
            schema = pl.DataFrame(schema=table.columns).to_arrow().schema
            with self._errors(table.name):
                DeltaTable.create(
                    self.path(table.name),
                    schema,
                    mode="ignore",
                    partition_by=list(table.partition_by),
                    name=table.name,
                    description=table.description,
                    configuration=_CONFIGURATION,
                    storage_options=dict(self.storage_options),
                )
            handle = self.open(table.name)
        if handle is None:
            raise LostRace(f"{table.name} was deleted as it was made")
        return handle

    def scan(self, handle: DeltaTable) -> pl.LazyFrame:
        """Read the version that a handle holds, lazily."""
        return pl.scan_delta(handle, storage_options=dict(self.storage_options) or None)

    def read(self, table: Table, version: int | None = None) -> pl.LazyFrame:
        """Read a table lazily; without rows where it does not exist yet."""
        handle = self.open(table.name, version)
        return pl.LazyFrame(schema=table.columns) if handle is None else self.scan(handle)

    def commit(  # the arguments are told in the text
        self,
        handle: DeltaTable,
        rows: pl.DataFrame,
        *,
        mode: Mode = "append",
        predicate: str | None = None,
        progress: Mapping[str, int] | None = None,
        fences: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Commit rows from the handle that was read; all or nothing.

        `predicate` names what an overwrite replaces; `progress` is the new version of each application
        id; each of `fences` is bumped by one; `metadata` is kept with the commit.

        Returns:
            the table's new version.

        Raises:
            LostRace: another commit stands in the way; read again and repeat.
            StaleWriterError: an id in `progress` stands at this version or above already.
            LakeError: the store failed; nothing was committed, or it shows when read again.
        """
        name = handle.metadata().name or handle.table_uri
        known, before = transactions(handle), int(handle.version())
        for app_id, version in (progress or {}).items():
            if version <= known.get(app_id, version - 1):
                raise StaleWriterError(name, app_id, known[app_id], version)
        ids = dict(progress or {}) | {fence: known.get(fence, 0) + 1 for fence in sorted(set(fences))}
        with self._errors(name):
            write_deltalake(
                handle,
                rows.to_arrow(),
                mode=mode,  # type: ignore[arg-type]  # its overloads know one mode each
                predicate=predicate,
                commit_properties=CommitProperties(
                    custom_metadata=dict(metadata or {}),
                    app_transactions=[Transaction(app_id, version) for app_id, version in ids.items()],
                ),
                post_commithook_properties=_AFTER_COMMIT,
                writer_properties=_WRITER,
            )
        committed(handle, before, ids)
        return int(handle.version())

    def retrying(self, name: str, step: Callable[[], T]) -> T:
        """Do one read-modify-write until no race is lost; the step reads anew each time.

        Raises:
            RaceLostError: after a bounded number of attempts, with growing random pauses.
        """
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(LostRace),
                stop=stop_after_attempt(ATTEMPTS),
                wait=wait_random_exponential(multiplier=0.05, max=3),
            ):
                with attempt:
                    return step()
        except RetryError as error:
            raise RaceLostError(name, ATTEMPTS, str(error.last_attempt.exception())) from error
        raise AssertionError("unreachable: Retrying returns or raises")

    def _errors(self, name: str) -> "_Errors":
        return _Errors(name, self.path(name))


@dataclass(frozen=True)
class _Errors:
    """Tells a lost race from a failure of the store."""

    name: str
    uri: str

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Turn what delta-rs raised into what our callers tell apart."""
        if isinstance(error, CommitFailedError) or (
            isinstance(error, DeltaError) and "Invalid table version" in str(error)  # lost to a clean-up
        ):
            raise LostRace(str(error)) from error
        if isinstance(error, DeltaError | OSError):
            raise LakeError(self.name, self.uri, str(error)) from error


def lake_from_settings() -> Lake:
    """Give the lake that the settings name, to programs that Dagster does not run."""
    uri = settings().lake_uri
    if "://" not in uri:
        return Lake(uri)
    from resources.storage import lake_resource  # noqa: PLC0415  # Dagster takes seconds to import

    return lake_resource().lake
