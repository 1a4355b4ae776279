"""The lake: where its Delta tables are, how one is opened, read and committed to.

Decides what every commit of this project has in common: it is made from the handle that was read, it
carries its progress and its fences as application transactions, it never cleans the log, and losing a
race is told apart from failing. It refuses progress that would go backwards. What is written is decided
by its callers. Measured: delta-rs refuses a second commit that raced the first one with the same id, but
takes a lower version from a fresh handle, hence the test before each commit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake import WriterProperties as DeltaWriterProperties
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.schema import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from resources import intents
from resources.file_commits import AFTER_COMMIT, Mode, commit_files
from resources.handles import Handle, Handles
from resources.intents import Intent
from resources.new_files import write_files
from resources.outages import PATIENCE, LostRace, patiently, reading, told
from resources.schema_changes import adopt_columns
from resources.settings import settings
from resources.transactions import committed, told_by, transactions
from sluice.errors import LakeError, RaceLostError, StaleWriterError
from sluice.tables import Table

T = TypeVar("T")

ATTEMPTS = 12  # of one read-modify-write, before a lost race is an error
_CONFIGURATION = {
    "delta.enableExpiredLogCleanup": "false",  # commits carry the accounts: only we clean up
    "delta.checkpointInterval": "25",  # whoever opens a table reads the commits after it
}
_COMMIT = "sluice.commit"  # names a commit in its own metadata
_WRITER = DeltaWriterProperties(compression="ZSTD", compression_level=1)


@dataclass(frozen=True)
class Lake:
    """A folder or bucket of Delta tables, named by their path below it (`silver/orders`)."""

    uri: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)  # holds secrets
    patience_seconds: float = PATIENCE
    handles: Handles = field(default_factory=Handles, repr=False, compare=False)

    def path(self, name: str) -> str:
        """Give the URI of a table."""
        return f"{self.uri.rstrip('/')}/{name}"

    def open(self, name: str, version: int | None = None) -> DeltaTable | None:
        """Open a table at its newest or a given version; None where there is none.

        Raises:
            LakeError: the store cannot be read, or the version is gone; and what `patiently` raises.
        """

        def opened() -> DeltaTable | None:
            try:
                return Handle(self.path(name), version, dict(self.storage_options))
            except TableNotFoundError:
                if version is not None and self.open(name) is not None:
                    raise LakeError(
                        name, self.path(name), f"its log begins after version {version}"
                    ) from None
                return None

        def newest() -> DeltaTable | None:
            return self.handles.newest(name, opened) if version is None else opened()

        try:
            return self.patiently(name, newest)
        except LostRace as error:
            raise LakeError(name, self.path(name), str(error)) from error

    def ensure(self, table: Table) -> DeltaTable:
        """Open a table, made where it does not exist, with the columns that its contract has today.

        Raises:
            TableSchemaError: a column is stored in a type that cannot become the contract's.
            RaceLostError: others change the table's columns all the time; and what `patiently` raises.
        """

        def step() -> DeltaTable:
            handle = self.open(table.name) or self._made(table)
            adopt_columns(self, handle, table)
            return handle

        return self.retrying(table.name, step)

    def _made(self, table: Table) -> DeltaTable:
        DeltaTable.create(
            self.path(table.name),
            pl.DataFrame(schema=table.columns).to_arrow().schema,
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
        """Read the version that a handle holds, lazily; a store that is away is waited for."""
        return pl.scan_delta(handle, storage_options=self.reading)

    @property
    def reading(self) -> dict[str, Any] | None:
        """The options of the store, for polars: a store that is away is waited for."""
        return reading(self.storage_options, self.patience_seconds)

    def read(self, table: Table, version: int | None = None) -> pl.LazyFrame:
        """Read a table lazily; without rows where it does not exist yet."""
        handle = self.open(table.name, version)
        return pl.LazyFrame(schema=table.columns) if handle is None else self.scan(handle)

    def commit(  # the arguments are told in the text
        self,
        handle: DeltaTable,
        rows: pl.DataFrame | Sequence[AddAction | RemoveAction],
        *,
        mode: Mode = "append",
        predicate: str | None = None,
        progress: Mapping[str, int] | None = None,
        fences: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
        schema: DeltaSchema | None = None,
    ) -> int:
        """Commit rows (or data files that come and go) from the handle that was read; all or nothing.

        `predicate` names what an overwrite replaces; `progress` is the new version of each application
        id; each of `fences` is bumped by one; `metadata` is kept with the commit; `schema` is the table's
        new one, where files replace all that there are.

        Returns:
            the table's new version.

        Raises:
            LostRace: another commit stands in the way; read again and repeat.
            StaleWriterError: an id in `progress` stands at this version or above already.
            LakeError, LakeUnreachableError, LakeRefusedError, LakeFullError: nothing was committed, or it
                shows when read again.
        """
        name = handle.metadata().name or handle.table_uri
        known, before, wanted = transactions(handle), int(handle.version()), sorted(set(fences))
        for app_id, version in (progress or {}).items():
            if version <= known.get(app_id, version - 1):
                raise StaleWriterError(name, app_id, known[app_id], version)
        ids = dict(progress or {}) | {fence: known.get(fence, 0) + 1 for fence in wanted}
        own = uuid4().hex
        properties = CommitProperties(
            custom_metadata={**(metadata or {}), _COMMIT: own},
            app_transactions=[Transaction(app_id, version) for app_id, version in ids.items()],
            max_commit_retries=0 if mode == "overwrite" and predicate is None else None,
        )  # of one that replaces all, delta-rs does not see what it meets
        try:
            if isinstance(rows, pl.DataFrame) and mode == "append":
                new = write_files(handle, self.path(name), rows, self.reading)
                rows = [file.action for file in new]
            if isinstance(rows, pl.DataFrame):  # of files that stay in part, delta-rs writes the rest again
                write_deltalake(
                    handle,
                    rows.to_arrow(),
                    mode=mode,  # type: ignore[arg-type]  # its overloads know one mode each
                    predicate=predicate,
                    commit_properties=properties,
                    post_commithook_properties=AFTER_COMMIT,
                    writer_properties=_WRITER,
                )
            else:
                before = commit_files(handle, rows, mode, properties, ids, schema)
        except (DeltaError, OSError) as error:
            if not self._landed(name, before, own):
                failure = told(name, self.path(name), error)
                if isinstance(failure, LostRace):
                    failure.fences = wanted
                raise failure from error
            self.patiently(name, handle.update_incremental)
        committed(handle, before, ids)
        return int(handle.version())

    def _landed(self, name: str, before: int, own: str) -> bool:
        """Tell whether a commit whose answer was lost, or that met itself as a rival, stands in the log."""

        def look() -> bool:
            newest = Handle(self.path(name), storage_options=dict(self.storage_options))
            return any(commit.get(_COMMIT) == own for commit in told_by(newest, before, [_COMMIT]))

        return self.patiently(name, look)

    def retrying(self, name: str, step: Callable[[], T]) -> T:
        """Do one read-modify-write until no race is lost; the step reads anew each time.

        Whoever lost twice asks live writers to wait for it (`resources.intents`).

        Raises:
            RaceLostError: after a bounded number of attempts, with growing random pauses; and what
                `patiently` raises.
        """
        asking: list[Intent] = []

        def ask(state: RetryCallState) -> None:
            failure = state.outcome.exception() if state.outcome else None
            took = (state.seconds_since_start or 0) / state.attempt_number
            if isinstance(failure, LostRace) and state.attempt_number >= intents.LOSSES:
                asking[:] = intents.ask(self, name, failure.fences, took, asking)

        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(LostRace),
                stop=stop_after_attempt(ATTEMPTS),
                wait=wait_random_exponential(multiplier=0.05, max=3),
                before_sleep=ask,
            ):
                with attempt:
                    return self.patiently(name, step)
        except RetryError as error:
            raise RaceLostError(name, ATTEMPTS, str(error.last_attempt.exception())) from error
        finally:
            for intent in asking:
                intents.withdraw(self, intent)
        raise AssertionError("unreachable: Retrying returns or raises")

    def patiently(self, name: str, action: Callable[[], T]) -> T:
        """Do something that reads anew each time, until the store answers, for `patience_seconds` at most.

        Raises:
            LakeUnreachableError: the store did not come back in time.
            LakeRefusedError, LakeFullError, LakeError: waiting changes nothing.
        """
        return patiently(name, self.path(name), self.patience_seconds, action)


def lake_from_settings() -> Lake:
    """Give the lake that the settings name, to programs that Dagster does not run."""
    uri = settings().lake_uri
    if "://" not in uri:
        return Lake(uri)
    from resources.storage import lake_resource  # noqa: PLC0415  # Dagster takes seconds to import

    return lake_resource().lake


__all__ = ["ATTEMPTS", "Lake", "LostRace", "Mode", "lake_from_settings"]
