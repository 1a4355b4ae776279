"""All application transactions of a table's version, read once: progress, fences and generations by name.

Asking delta-rs for one id walks through the log or all ids each time; here the log is read once (the
checkpoint's `txn` column and the commits after it) and kept with the handle, version by version: what the
handle's own commit added is known without reading, a foreign commit is read alone. It decides nothing, and
refuses a log that lacks a commit, since an id that is missing would mean "nothing done yet".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import polars as pl
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector

from sluice.errors import LakeError

_LOG = "_delta_log"
_KEPT = "_transactions"  # the attribute of the handle: of whose versions it is true


@dataclass(frozen=True)
class _Known:
    version: int
    ids: Mapping[str, int]


def transactions(handle: DeltaTable) -> Mapping[str, int]:
    """Give the newest version of each application id that the handle's version of the table knows.

    The mapping never changes: after the handle has moved, ask again.

    Raises:
        LakeError: the log cannot be read, or lacks a commit.
    """
    version = int(handle.version())
    known: _Known | None = vars(handle).get(_KEPT)
    if known is None or known.version != version:
        ahead = None if known is None or known.version > version else _after(handle, known, version)
        known = ahead or _read(handle, version)
        vars(handle)[_KEPT] = known
    return known.ids


def committed(handle: DeltaTable, before: int, ids: Mapping[str, int]) -> None:
    """Note what the handle's own commit set, so that it need not be read: where nobody came between."""
    known: _Known | None = vars(handle).get(_KEPT)
    if known is not None and known.version == before == int(handle.version()) - 1:
        vars(handle)[_KEPT] = _Known(before + 1, MappingProxyType({**known.ids, **ids}))


def _read(handle: DeltaTable, version: int) -> _Known:
    """Read a version anew: the newest checkpoint not after it, and the commits since."""
    hint = _hint(handle)
    start = _checkpoint(handle, hint) if hint is not None and hint <= version else None
    if start is None:  # the handle is older than the last checkpoint, or there is none
        start = _listed(handle, version)
    known = _after(handle, start, version)
    if known is None:
        raise LakeError(_name(handle), handle.table_uri, f"its log lacks commits from {start.version + 1} on")
    return known


def _after(handle: DeltaTable, start: _Known, version: int) -> _Known | None:
    """Add the commits after what is known; None where the log lacks one, since it was cleaned up."""
    ids = dict(start.ids)
    for number in range(start.version + 1, version + 1):
        raw = _bytes(handle, f"{number:020}.json")
        if raw is None:
            return None
        actions = (json.loads(line) for line in raw.split(b"\n") if b'"txn"' in line)
        ids |= {txn["appId"]: txn["version"] for action in actions if (txn := action.get("txn"))}
    return _Known(version, MappingProxyType(ids))


def _hint(handle: DeltaTable) -> int | None:
    raw = _bytes(handle, "_last_checkpoint")
    return None if raw is None else int(json.loads(raw)["version"])


def _checkpoint(handle: DeltaTable, number: int) -> _Known | None:
    raw = _bytes(handle, f"{number:020}.checkpoint.parquet")
    if raw is None:
        return None
    txn = pl.read_parquet(raw, columns=["txn"])["txn"].drop_nulls().struct
    ids = zip(txn.field("appId").to_list(), txn.field("version").to_list(), strict=True)
    return _Known(number, {app_id: version for app_id, version in ids if app_id is not None})


def _listed(handle: DeltaTable, version: int) -> _Known:
    """Find the newest checkpoint not after a version by listing the log; without one, begin before all."""
    try:
        found = _files(handle).get_file_info_selector(FileSelector(_LOG))
    except OSError as error:
        raise LakeError(_name(handle), handle.table_uri, str(error)) from error
    numbers = [int(f.base_name[:20]) for f in found if f.base_name.endswith(".checkpoint.parquet")]
    for number in sorted((n for n in numbers if n <= version), reverse=True):
        if known := _checkpoint(handle, number):
            return known
    return _Known(-1, {})


def _bytes(handle: DeltaTable, name: str) -> bytes | None:
    """Read a file of the log; None where it does not exist."""
    try:
        return bytes(_files(handle).open_input_file(f"{_LOG}/{name}").read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LakeError(_name(handle), handle.table_uri, str(error)) from error


def _files(handle: DeltaTable) -> DeltaStorageHandler:
    """Give the store as the handle reaches it: with its connections and credentials."""
    made = DeltaStorageHandler.from_table(handle._table)  # noqa: SLF001  # what the class asks for
    return cast("DeltaStorageHandler", made)


def _name(handle: DeltaTable) -> str:
    return handle.metadata().name or handle.table_uri
