"""Maintenance: many small files become few, logs stay short, and what nobody reads any more goes.

Decides what may go and never what a table says: compaction changes no answer and keeps progress, fences and
accounts. It loses races gladly: a few tries, then it leaves the rest to the next time. A commit may leave the
log once its accounts and changes are folded (ledger, dimension) and it is older than the past that stays
readable; of what leaves sooner, because a table is written all the time, one checkpoint an hour stays,
so that its version can still be read. It refuses to delete files that a run of the last hour may be writing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import DeltaError

from assets import merge
from assets.leases import WORKERS_TABLE
from resources import log_files
from resources.lake import Lake, LostRace
from resources.outages import told
from resources.transactions import transactions
from sluice import tables
from sluice.contract import Changes, Stream
from sluice.tables import (
    ACKNOWLEDGED_TABLE,
    INTENTS_TABLE,
    LEDGER_TABLE,
    PROVEN_TABLE,
    TILES_TABLE,
    Table,
)

SYSTEM = (LEDGER_TABLE, TILES_TABLE, ACKNOWLEDGED_TABLE, PROVEN_TABLE, INTENTS_TABLE, WORKERS_TABLE)
_TRIES = 3
_ALL = 2**62  # versions
_SMALL = 16 * 2**20  # bytes; of a file that is worth joining while its tile is open
_LARGE = 128 * 2**20  # bytes; of a file of a table at rest
_FEW = 8  # files of one partition that are left alone
_AT_ONCE = 16  # partitions joined in one commit
_HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_JOINED = CommitProperties(custom_metadata={"sluice.compacted": "true"})


@dataclass(frozen=True)
class Keeping:
    """How much of the past stays readable: all versions of some hours; of a busy table the newest commits."""

    hours: int = 168
    commits: int = 1_000


@dataclass(frozen=True)
class Tidied:
    """What became of one table: files joined, commits and files deleted, and what was left for next time."""

    table: str
    joined: int = 0
    commits: int = 0
    files: int = 0
    left: str = ""


def tend(lake: Lake, stream: Stream, keeping: Keeping, among: Mapping[str, Iterable[str]]) -> list[Tidied]:
    """Keep up a stream that a long run writes; cheap enough between its commits.

    `among` names the partitions that are written now, by layer (`{"bronze": tiles, "silver": dates}`); in
    these, and in the stream's of the system's tables, small files are joined, and all their logs are cut.
    """
    mine = {f"{layer}/{stream.name}": (layer, set(map(str, parts))) for layer, parts in among.items()}
    mine |= {table.name: ("system", {stream.name}) for table in SYSTEM}
    done = []
    for name, (layer, partitions) in mine.items():
        joined, left = join_small(lake, name, target=_SMALL, among=partitions)
        done.append(Tidied(name, joined, cut_log(lake, name, needed(lake, stream, layer), keeping), 0, left))
    return done


def maintain(
    lake: Lake,
    streams: Sequence[Stream],
    keeping: Keeping,
    *,
    more: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> list[Tidied]:
    """Join files, cut logs and delete what is not read any more: of some streams, the system, and `more`.

    Raises:
        LakeUnreachableError, LakeRefusedError, LakeFullError: the store failed; no table is worse for it.
    """
    named: dict[str, tuple[Stream, str] | None] = {
        table.name: (stream, table.name.split("/")[0]) for stream in streams for table in _tables(stream)
    }
    named |= dict.fromkeys([*(table.name for table in SYSTEM), *more])
    done = []
    for name, owner in named.items():
        joined, left = join_small(lake, name, target=_LARGE)
        cut = cut_log(lake, name, needed(lake, *owner) if owner else _ALL, keeping)
        done.append(Tidied(name, joined, cut, _vacuum(lake, name, keeping), left))
        say(f"{name}: {joined} files joined, {cut} commits and {done[-1].files} files deleted {left}")
    return done


def _tables(stream: Stream) -> list[Table]:
    found = [tables.bronze(stream), tables.silver(stream), tables.losers(stream), tables.quarantine(stream)]
    return [*found, tables.dimension(stream)] if isinstance(stream, Changes) else found


def needed(lake: Lake, stream: Stream, layer: str) -> int:
    """Give the version up to which nobody waits for commits: their accounts and changes are folded."""
    upto = _ALL
    if layer in ("bronze", "silver"):
        ledger = lake.open(LEDGER_TABLE.name)
        known = {} if ledger is None else transactions(ledger)
        upto = known.get(f"ledger/{layer}/{stream.name}", -1)
    if layer == "silver" and isinstance(stream, Changes):
        dimension = lake.open(tables.dimension(stream).name)
        seen = None if dimension is None else merge.seen_of_silver(dimension, stream)
        upto = upto if seen is None else min(upto, seen)
    return upto


def join_small(lake: Lake, name: str, *, target: int, among: set[str] | None = None) -> tuple[int, str]:
    """Join the small files of the partitions that have many; where a race is lost, the rest is left.

    Returns:
        how many files were joined, and what was left and why, if anything.
    """
    joined = 0
    for _ in range(_TRIES):
        handle = lake.open(name)
        due = [] if handle is None else _crowded(handle, target, among)
        if handle is None or not due:
            return joined, ""
        try:
            for part in (due[i : i + _AT_ONCE] for i in range(0, len(due), _AT_ONCE)):
                joined += _join(handle, part, target)
        except (DeltaError, OSError) as error:
            failure = told(name, lake.path(name), error)
            if not isinstance(failure, LostRace):
                raise failure from error
    return joined, "(others write: the rest next time)"


def _crowded(handle: DeltaTable, target: int, among: set[str] | None) -> list[str | None]:
    """Name the partitions with many small files; None stands for a table that has no partitions."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if not files.height:
        return []
    small = files.filter(pl.col("size_bytes") < target // 2)
    column = _column(handle)
    if column is None:
        return [None] if small.height > _FEW else []
    value = pl.col(f"partition.{column}").cast(pl.String)
    counted = (
        small.group_by(value.alias("value")).len().filter(pl.col("len") > _FEW).drop_nulls().sort("value")
    )
    return [v for v in counted["value"] if among is None or v in among]


def _column(handle: DeltaTable) -> str | None:
    return next(iter(handle.metadata().partition_columns), None)


def _join(handle: DeltaTable, part: Sequence[str | None], target: int) -> int:
    column = _column(handle)
    metrics = handle.optimize.compact(
        partition_filters=None if column is None else [(column, "in", list(part))],
        target_size=target,
        max_concurrent_tasks=1,
        commit_properties=_JOINED,
        post_commithook_properties=_HOOKS,
    )
    return int(metrics["numFilesRemoved"])


def cut_log(lake: Lake, name: str, upto: int, keeping: Keeping, now: datetime | None = None) -> int:
    """Delete the commits up to a version that are older than the past that stays readable.

    Returns:
        how many commits left the log.
    """
    handle = lake.open(name)
    if handle is None:
        return 0
    busy = not name.startswith(("dimensions/", "gold/"))  # whose old versions are compared with new ones
    crowd = int(handle.version()) - keeping.commits if busy else -1
    since = (now or datetime.now(UTC)) - timedelta(hours=keeping.hours)
    log = log_files.listed(handle)
    old = (pl.col("version") <= crowd) | (pl.col("written_at") < since)
    gone: list[int] = log.filter((pl.col("version") <= upto) & old)["version"].to_list()
    if not gone:
        return 0
    if log.filter(pl.col("checkpoint") & (pl.col("version") >= gone[-1])).is_empty():
        handle.create_checkpoint()
        log = log_files.listed(handle)
    return log_files.cut(handle, log, gone[-1], since)


def _vacuum(lake: Lake, name: str, keeping: Keeping) -> int:
    handle = lake.open(name)
    if handle is None:
        return 0
    hours = max(1, keeping.hours)
    if not handle.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True):
        return 0
    try:
        gone = handle.vacuum(
            hours,
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
            post_commithook_properties=_HOOKS,
        )
    except (DeltaError, OSError) as error:
        failure = told(name, lake.path(name), error)
        if isinstance(failure, LostRace):
            return 0
        raise failure from error
    return len(gone)
