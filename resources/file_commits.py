"""Commits of data files that come and go, written beforehand.

Decides when such a commit may follow others that its writer did not see. Measured: delta-rs lets one pass
whose file a compaction took out meanwhile, and the rows are there twice. So a commit that takes files out
follows the version that was read, or one after which all that it stands on was looked at and found as it was.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError
from deltalake.schema import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction

from resources.transactions import since

Mode = Literal["append", "overwrite"]
AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_TRIES = 20  # that others commit before us what does not concern us


def commit_files(
    handle: DeltaTable,
    actions: Sequence[AddAction | RemoveAction],
    mode: Mode,
    properties: CommitProperties,
    ids: Collection[str],
    schema: DeltaSchema | None = None,
) -> int:
    """Commit actions, and move the handle on.

    Args:
        handle: the table as it was read.
        actions: what comes and goes.
        mode: append, or overwrite, which takes all out that is there.
        properties: of the commit.
        ids: the application ids that it sets.
        schema: what the table has from then on, with an overwrite; None: what it has.

    Returns:
        the version that the commit follows.

    Raises:
        CommitFailedError: another commit stands in the way.
        DeltaError, OSError: the store failed.
    """
    leaving = [action.path for action in actions if isinstance(action, RemoveAction)]
    if leaving:
        properties.max_commit_retries = 0
    for _ in range(_TRIES):
        before = int(handle.version())
        try:
            handle.create_write_transaction(
                list(actions),
                mode,
                schema or handle.schema(),
                handle.metadata().partition_columns,
                commit_properties=properties,
                post_commithook_properties=AFTER_COMMIT,
            )
        except CommitFailedError as error:
            if not leaving:
                raise
            if _disturbed(handle, before, leaving, ids):
                raise CommitFailedError("others changed what this commit stands on") from error
        else:
            handle.update_incremental()  # unlike a write of rows, this leaves it where it was
            return before
    raise CommitFailedError(f"others committed {_TRIES} times meanwhile")


def _disturbed(handle: DeltaTable, before: int, leaving: Collection[str], ids: Collection[str]) -> bool:
    """Move the handle on; tell whether a commit took out a file, moved an id, or changed the table itself."""
    handle.update_incremental()
    if int(handle.version()) == before:
        return True
    read: Mapping[str, Mapping[str, pl.DataType]] = {
        "remove": {"path": pl.String()},
        "txn": {"appId": pl.String()},
        "metaData": {"id": pl.String()},
        "protocol": {"minWriterVersion": pl.Int64()},
    }
    try:
        found = {action: since(handle, before, action, schema) for action, schema in read.items()}
    except FileNotFoundError:  # cleaned up: nothing can be told
        return True
    moved = not set(ids).isdisjoint(found["txn"]["appId"])
    taken = not set(leaving).isdisjoint(map(unquote, found["remove"]["path"]))
    return moved or taken or found["metaData"].height > 0 or found["protocol"].height > 0
