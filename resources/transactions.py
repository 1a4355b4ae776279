"""All application transactions of a table's version, read once: progress, fences and generations by name.

Asking delta-rs for one id walks through the log or all ids each time; here the log is read once (the
checkpoint's `txn` column and the commits after it) and kept with the handle, version by version: what the
handle's own commit added is known without reading, a foreign commit is read alone. It decides nothing, and
refuses a log that lacks a commit, since an id that is missing would mean "nothing done yet". The log is read
by polars: delta-rs's own file system keeps all other threads waiting as it reads.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import polars as pl
from deltalake import DeltaTable
from polars.exceptions import ComputeError

from resources.outages import reading
from sluice.errors import LakeError

_KEPT = "_transactions"  # the attribute of the handle: of whose versions it is true
_TXN: dict[str, pl.DataType] = {"appId": pl.String(), "version": pl.Int64()}


@dataclass(frozen=True)
class _Known:
    version: int
    ids: Mapping[str, int]


def transactions(handle: DeltaTable) -> Mapping[str, int]:
    """Give the newest version of each application id that the handle's version of the table knows.

    The mapping never changes: after the handle has moved, ask again.

    Raises:
        LakeError: the log lacks a commit.
        OSError, ComputeError: the store cannot be read.
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


def told_by(handle: DeltaTable, after: int, members: Iterable[str]) -> list[dict[str, Any]]:
    """Read what the commits after a version tell, up to the handle's own and oldest first.

    Returns:
        of each commit that the log still has: `version`, `timestamp` (milliseconds), and those of `members`
        that it carries in its metadata, as text.
    """
    after, upto = max(after, -1), int(handle.version())
    if after >= upto:
        return []
    schema = {"timestamp": pl.Int64(), **dict.fromkeys(members, pl.String())}
    try:
        found = _actions(handle, _names(after, upto), "commitInfo", schema)
    except FileNotFoundError:  # some were cleaned up
        found = _actions(handle, "*.json", "commitInfo", schema)
    mine = found.filter(pl.col("_commit").is_between(after + 1, upto)).sort("_commit")
    rows = mine.rename({"_commit": "version"}).iter_rows(named=True)
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def moved(handle: DeltaTable, after: int) -> pl.DataFrame | None:
    """List the data files that came and went with commits after a version; compaction moves no rows.

    Returns:
        `action` (add, remove), `path`, `value` (of the partition column, as text), in the commits' order;
        None where it cannot be told: a commit was cleaned up, or is not there yet.
    """
    upto, column = int(handle.version()), handle.metadata().partition_columns[0]
    if not 0 <= after <= upto:
        return None
    values = pl.Struct({column: pl.String})
    schema = {"path": pl.String(), "dataChange": pl.Boolean(), "partitionValues": values}
    found = [pl.DataFrame(schema={"action": pl.String, "path": pl.String, "value": pl.String})]
    for action in ("add", "remove") if after < upto else ():
        try:
            files = _actions(handle, _names(after, upto), action, schema).filter("dataChange")
        except FileNotFoundError:
            return None
        value = pl.col("partitionValues").struct.field(column).alias("value")
        found.append(files.select(pl.lit(action).alias("action"), "path", value))
    return pl.concat(found)


def since(handle: DeltaTable, after: int, action: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Read the actions of one kind (add, remove, txn, metaData …) from the commits after a version.

    Raises:
        FileNotFoundError: one was cleaned up.
    """
    return _actions(handle, _names(after, int(handle.version())), action, schema)


def _actions(
    handle: DeltaTable, names: str | list[str], action: str, schema: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    """Read actions of one kind from commits (names, or a pattern), and in `_commit` whose they are."""
    paths = _log(handle, names) if isinstance(names, str) else [_log(handle, name) for name in names]
    version = pl.col("path").str.extract(r"(\d{20})\.json$").cast(pl.Int64)
    lines = pl.scan_ndjson(
        paths, schema={action: pl.Struct(schema)}, include_file_paths="path", **_options(handle)
    )
    found = lines.filter(pl.col(action).is_not_null()).select(pl.col(action).struct.unnest(), _commit=version)
    return found.collect()


def _names(after: int, upto: int) -> list[str]:
    return [f"{number:020}.json" for number in range(after + 1, upto + 1)]


def _read(handle: DeltaTable, version: int) -> _Known:
    """Read a version anew: the newest checkpoint not after it, and the commits since."""
    hint = _hint(handle)
    hinted = _checkpoint(handle, hint) if hint is not None and hint <= version else None
    known = None if hinted is None else _after(handle, hinted, version)
    if known is not None:
        return known
    start = _listed(handle, version)  # the handle is older than the hint, or a slow writer put it back
    known = _after(handle, start, version)
    if known is None:
        detail = f"its log lacks commits from {start.version + 1} on"
        raise LakeError(handle.metadata().name or "", handle.table_uri, detail)
    return known


def _after(handle: DeltaTable, start: _Known, version: int) -> _Known | None:
    """Add the commits after what is known; None where the log lacks one, since it was cleaned up."""
    if start.version == version:
        return start
    try:
        new = _actions(handle, _names(start.version, version), "txn", _TXN)
    except FileNotFoundError:
        return None
    return _Known(version, MappingProxyType({**start.ids, **_ids(new)}))


def _hint(handle: DeltaTable) -> int | None:
    try:
        last = pl.scan_ndjson(
            _log(handle, "_last_checkpoint"), schema={"version": pl.Int64}, **_options(handle)
        )
        return int(last.collect().item())
    except FileNotFoundError:
        return None


def _checkpoint(handle: DeltaTable, number: int) -> _Known | None:
    name = _log(handle, f"{number:020}.checkpoint.parquet")
    try:
        found = pl.scan_parquet(name, **_options(handle)).select(pl.col("txn").struct.unnest()).collect()
        return _Known(number, _ids(found))
    except FileNotFoundError:
        return None


def _listed(handle: DeltaTable, version: int) -> _Known:
    """Find the newest checkpoint not after a version by listing the log; without one, begin before all."""
    every = pl.scan_parquet(
        _log(handle, "*.checkpoint.parquet"), include_file_paths="path", **_options(handle)
    )
    try:
        names = every.select(pl.col("path").unique()).collect()["path"]
    except (FileNotFoundError, ComputeError):  # there is none
        return _Known(-1, {})
    numbers = [int(name.rsplit("/", 1)[1][:20]) for name in names]
    for number in sorted((n for n in numbers if n <= version), reverse=True):
        if known := _checkpoint(handle, number):
            return known
    return _Known(-1, {})


def _ids(txn: pl.DataFrame) -> dict[str, int]:
    known = txn.drop_nulls("appId")
    return dict(zip(known["appId"].to_list(), known["version"].to_list(), strict=True))


def _log(handle: DeltaTable, name: str) -> str:
    return f"{handle.table_uri.removeprefix('file://').rstrip('/')}/_delta_log/{name}"


def _options(handle: DeltaTable) -> dict[str, Any]:
    """Reach the store as the handle does."""
    options = reading(handle._storage_options or {})  # noqa: SLF001  # it has no other name
    return {"storage_options": options, "credential_provider": None}
