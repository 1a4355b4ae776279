"""What follows a commit: the work that it announced, and its account's place in the ledger.

Several tables cannot commit as one, so a commit carries what is still to be done in its metadata: losers
that it promoted leave the table of losers, quarantined records that it took are marked resolved, accounts
are folded into `system/ledger`. Each is done once, under a transaction whose version is the commit's, so a
run that died in between is finished by the next one. The ledger can be rebuilt from the commits, as
far as the log goes back; only commits that were folded ever leave it.
"""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl
from deltalake import DeltaTable

from assets import side_tables
from resources.lake import Lake
from resources.transactions import told_by
from sluice import accounts, tables
from sluice.accounts import ACCOUNTS, Layer
from sluice.contract import Stream
from sluice.errors import StaleWriterError
from sluice.tables import LEDGER, LEDGER_TABLE

PROMOTED = "sluice.promoted"
RESOLVED = "sluice.resolved"
_AT: dict[str, pl.DataType] = {
    "tile": pl.String(),
    **{name: LEDGER[name] for name in ("epoch", "partition")},
    "offset": pl.Int64(),
}
_MANY = 20  # commits whose accounts were not folded
_EVERY = pl.lit(value=True)
_PLACE = ["epoch", "tile", "partition"]


def announce(at: pl.DataFrame) -> str:
    """Write coordinates (columns tile, epoch, partition, offset) as the JSON that a commit carries."""
    return json.dumps(at.select(list(_AT)).rows(), separators=(",", ":"))


def finish(lake: Lake, stream: Stream, layer: Layer, upto: DeltaTable | None = None) -> None:
    """Do what the commits of a table announced since the last time, and fold their accounts.

    Done for all commits that the handle `upto` knows (None: all there are), before anything is decided on it.
    """
    handle = upto or lake.open(f"{layer}/{stream.name}")
    if handle is None:
        return
    commits = unfolded(lake, stream, layer, handle)
    if not commits:
        return
    for commit in commits:
        if PROMOTED in commit:
            _withdraw(lake, stream, commit)
        if RESOLVED in commit:
            done = {f"resolved/{stream.name}": commit["version"]}
            side_tables.resolve(lake, tables.quarantine(stream), _at(commit[RESOLVED]), done)
    rows = accounts.folded(commits)
    last = {f"ledger/{layer}/{stream.name}": int(handle.version())}

    def step() -> None:
        ledger = lake.ensure(LEDGER_TABLE)
        try:
            lake.commit(
                ledger, rows.filter(pl.col("table_version") > _last(ledger, stream, layer)), progress=last
            )
        except StaleWriterError:  # another run folded them
            return

    lake.retrying(LEDGER_TABLE.name, step)


def due(lake: Lake, stream: Stream, layer: Layer, upto: DeltaTable) -> bool:
    """Tell whether `finish` may not wait: a commit up to `upto` announced something, or they are many."""
    return len(unfolded(lake, stream, layer, upto)) > _MANY or announced(lake, stream, layer, upto)


def announced(lake: Lake, stream: Stream, layer: Layer, upto: DeltaTable) -> bool:
    """Tell whether a commit up to `upto` announced something that is still to be done."""
    return any(PROMOTED in c or RESOLVED in c for c in unfolded(lake, stream, layer, upto))


def unfolded(lake: Lake, stream: Stream, layer: Layer, handle: DeltaTable) -> list[dict[str, Any]]:
    """Give the commits of a table that the ledger does not have yet, oldest first."""
    ledger = lake.open(LEDGER_TABLE.name)
    last = -1 if ledger is None else _last(ledger, stream, layer)
    return history(handle, last)


def history(handle: DeltaTable, after: int = -1) -> list[dict[str, Any]]:
    """Give the commits of a table after a version, up to the handle's own, oldest first."""
    return told_by(handle, after, [ACCOUNTS, PROMOTED, RESOLVED])


def _last(ledger: DeltaTable, stream: Stream, layer: Layer) -> int:
    version = ledger.transaction_version(f"ledger/{layer}/{stream.name}")
    return -1 if version is None else int(version)


def _withdraw(lake: Lake, stream: Stream, commit: dict[str, Any]) -> None:
    """Take promoted losers out of the table of losers."""
    app_id, version = f"promoted/{stream.name}", int(commit["version"])
    table = tables.losers(stream)
    handle = lake.open(table.name)
    if handle is None or (handle.transaction_version(app_id) or -1) >= version:
        return
    none = pl.DataFrame(schema=table.columns)
    try:
        side_tables.put(lake, table, none, also=_at(commit[PROMOTED]), progress={app_id: version})
    except StaleWriterError:  # another run withdrew them
        return


def _at(text: str) -> pl.DataFrame:
    return pl.DataFrame(json.loads(text), schema=_AT, orient="row")


def told(lake: Lake, stream: Stream, layer: Layer, which: pl.Expr = _EVERY) -> pl.LazyFrame:
    """Read a stream's accounts of one layer lazily: those folded, and those that wait in the commits.

    There are as many as commits times partitions: ask for some (`which`), and collect what is needed of them.
    """
    mine = (pl.col("stream") == stream.name) & (pl.col("layer") == layer) & which
    folded = lake.open(LEDGER_TABLE.name)  # one version of it: others may fold more as this reads
    every = pl.LazyFrame(schema=LEDGER) if folded is None else lake.scan(folded)
    handle = lake.open(f"{layer}/{stream.name}")
    last = -1 if folded is None else _last(folded, stream, layer)
    waiting = accounts.folded([] if handle is None else history(handle, last))
    return pl.concat([every.select(list(LEDGER)), waiting.lazy()]).filter(mine)


def current(
    lake: Lake, stream: Stream, layer: Layer, which: pl.Expr = _EVERY, columns: Sequence[str] = ()
) -> pl.LazyFrame:
    """Read lazily the accounts that tell of today's tables; those of tiles decided anew are in memory.

    Returns:
        `accounts.RANGE` and the columns, as `accounts.current`.
    """
    rows = told(lake, stream, layer, which).select(list(dict.fromkeys([*accounts.RANGE, *columns])))
    again = rows.filter(pl.col("generation") > 1).select(_PLACE).unique().collect(engine="streaming")
    if again.is_empty():
        return rows
    mixed = rows.join(again.lazy(), on=_PLACE, how="semi").collect(engine="streaming")
    once = rows.join(again.lazy(), on=_PLACE, how="anti")
    return pl.concat([once, accounts.current(mixed).lazy()])


def ledger(lake: Lake, stream: Stream, layer: Layer) -> pl.DataFrame:
    """Read all of a stream's accounts of one layer into memory."""
    return told(lake, stream, layer).collect()


def ledger_is_whole(lake: Lake, stream: Stream, layer: Layer) -> bool:
    """Tell whether the ledger equals the one that the commits give which the log still has.

    Commits leave the log only after their accounts were folded: of those the ledger itself is the record.
    """
    handle = lake.open(f"{layer}/{stream.name}")
    remaining = [] if handle is None else history(handle)
    first = remaining[0]["version"] if remaining else 0
    order = ["table_version", "tile", "partition", "first_offset"]
    stands = told(lake, stream, layer, pl.col("table_version") >= first).collect()
    return stands.sort(order).equals(accounts.folded(remaining).sort(order))
