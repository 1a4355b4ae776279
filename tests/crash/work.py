"""What forked children do: run a project as Dagster does, look at its lake, hold it against another.

Loaded in the fork server, with everything that a run needs. Decides what of a lake must be equal however
often its runs were killed: all rows of all tables, without times of day, ids of runs and numbers of commits.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable

import resources.lake
from assets import aftermath, continuous, flow, ingest, maintenance, reconcile_tables, verdicts
from resources.lake import Lake
from resources.outages import LostRace
from resources.streams import load_streams
from sluice.tables import LEDGER_TABLE, REPAIR, REPAIR_PARTITION, TILES_TABLE
from tests.crash import seam
from tests.running import Project

_OF_RUNS = {"ingested_at", "_ingested_at", "quarantined_at", "batch_id", "written_at", "acknowledged_at"}
_ACCOUNT = ("read", "settled", "quarantined", "tombstones", "ignored", "gaps", "holes")
_OURS = ("system/tiles", "system/acknowledged")  # of the system's tables: these must be equal as they are


def project(folder: str, servers: str, uri: str = "") -> Project:
    """Give a project: its contracts lie in the folder, its lake too or where it is named."""
    return Project(Path(folder), servers, uri)


def run(
    folder: str,
    servers: str,
    steps: Sequence[Mapping[str, Any]],
    *,
    log: str = "",
    death: Mapping[str, Any] | None = None,
    uri: str = "",
    checkpoint_every: int = 100,
    save: str = "",
    expected: str = "",
    now: str = "",
) -> None:
    """Do steps (`select`, `tiles`, `config`, or `job`, `config`); count events where a log is named.

    A step that is `red` may end with a check that failed. Afterwards the equations are proven, and what the
    lake holds is written (`save`) or held against what was (`expected`), where one of them is named.
    `now` is the time that tiles open and close by, `uri` where the lake is, if not in the folder.
    """
    resources.lake._CONFIGURATION["delta.checkpointInterval"] = str(checkpoint_every)
    for module in (ingest, flow) if now else ():
        _clock(module, datetime.fromisoformat(now))
    made = project(folder, servers, uri)
    if log:
        at = dict(death) if death else None
        if at:
            at["event"] = seam.Event(**at["event"])
        seam.arm(made.uri, Path(log), seam.Death(**at) if at else None)
    for step in steps:
        if "continuous" in step:
            follow(made, step)
            continue
        if "maintain" in step:
            tidy(made, **step["maintain"])
            continue
        _clocks(step)
        if "races_lost" in step:
            lose(step["races_lost"], step["table"])
        if "job" in step:
            outcome = made.job(step["job"], step["config"])
        else:
            tiles = step["tiles"]
            config = {op: {"config": given} for op, given in step.get("config", {}).items()}
            outcome = made.run(step["select"], tuple(tiles) if isinstance(tiles, list) else tiles, **config)
        assert outcome.success or (step.get("red") and outcome.failed_checks), outcome
    seam.mark("the end")
    if save or expected:
        prove(made)
        _save(made, Path(save)) if save else _compare(made, Path(expected))


def _clocks(step: Mapping[str, Any]) -> None:
    """Read a source at a time that is told, and find the lease of one that died over."""
    if "read_at" in step:
        _clock(reconcile_tables, datetime.fromisoformat(step["read_at"]))
    if "ahead" in step:
        _clock(verdicts, datetime.now(UTC) + timedelta(seconds=step["ahead"]))


def _clock(module: Any, moment: datetime) -> None:
    """Let a module believe that it is that time."""
    module.datetime = type("Then", (datetime,), {"now": classmethod(lambda _, __: moment)})


def follow(made: Project, step: Mapping[str, Any]) -> None:
    """Follow streams in continuous mode: until caught up, or until it is asked to stop after some seconds."""
    os.environ.update(made.environment)
    if "seconds" in step:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, step["seconds"])
    assert continuous.main([*step["continuous"], "--until", step["until"]]) == 0


def _save(made: Project, target: Path) -> None:
    target.mkdir(parents=True)
    for name, rows in state(made).items():
        rows.write_ipc(target / f"{name.replace('/', '.')}.arrow")


def _compare(made: Project, expected: Path) -> None:
    found = state(made)
    for file in sorted(expected.glob("*.arrow")):
        wanted, rows = pl.read_ipc(file), found.pop(file.stem.replace(".", "/"))
        if not rows.equals(wanted):
            more = rows.join(wanted, on=wanted.columns, how="anti", nulls_equal=True)
            less = wanted.join(rows, on=wanted.columns, how="anti", nulls_equal=True)
            raise AssertionError(f"{file.stem}: {rows.height} rows, not {wanted.height}\n+{more}\n-{less}")
    assert not found, f"tables that should not be there: {sorted(found)}"


def prove(made: Project) -> None:
    """Hold the three equations and the ledger of every stream that has been read."""
    streams = [p.name for p in Path(made.uri, "bronze").glob("*")]
    for name in streams:
        aftermath.finish(made.lake(), made.stream(name), "bronze")
        aftermath.finish(made.lake(), made.stream(name), "silver")
    made.prove(*sorted(streams))


def state(made: Project) -> dict[str, pl.DataFrame]:
    """Give all tables of a lake, sorted, without what only tells of runs."""
    root = Path(made.uri)
    names = sorted(p.parent.relative_to(root).as_posix() for p in root.glob("*/*/_delta_log"))
    found = {n: made.table(n) for n in names if not n.startswith("system/") or n in _OURS}
    if TILES_TABLE.name in found:
        found[TILES_TABLE.name] = _begun(found[TILES_TABLE.name], found)
    ledger = _repaired(made.table(LEDGER_TABLE.name))
    return {n: _plain(_repaired(rows)) for n, rows in found.items()} | {LEDGER_TABLE.name: accounts(ledger)}


def _begun(tiles: pl.DataFrame, found: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Leave out the tiles of repairs that died before bronze had anything of them."""
    had = [
        rows.select(pl.lit(name.split("/")[1]).alias("stream"), "tile").unique()
        for name, rows in found.items()
        if name.startswith("bronze/")
    ]
    repairs = pl.col("tile").str.starts_with(REPAIR)
    begun = tiles.filter(repairs).join(pl.concat(had), on=["stream", "tile"], how="semi") if had else tiles
    return pl.concat([tiles.filter(~repairs), begun]) if had else tiles


def _repaired(rows: pl.DataFrame) -> pl.DataFrame:
    """Give what repairs wrote without their reports' names, and counted from their first offset."""
    partition = next((n for n in ("partition", "_partition") if n in rows.columns), None)
    if partition is None:
        return rows
    ours = pl.col(partition) == REPAIR_PARTITION
    offsets = [n for n in ("offset", "_offset", "first_offset", "next_offset") if n in rows.columns]
    first = pl.col(offsets[0]).filter(ours).min() if offsets else pl.lit(0)
    told = {n: pl.col(n) - first for n in offsets}
    told |= {n: pl.lit(REPAIR) for n in ("tile", "_tile") if n in rows.columns}
    told |= {"headers": pl.lit(None)} if "headers" in rows.columns else {}
    return rows.with_columns(pl.when(ours).then(value).otherwise(n).alias(n) for n, value in told.items())


def _plain(rows: pl.DataFrame) -> pl.DataFrame:
    moments = [pl.col(n).is_not_null() for n in ("resolved_at", "closed_at") if n in rows.columns]
    told = rows.drop(_OF_RUNS, strict=False).with_columns(moments)
    flat = [name for name, dtype in told.schema.items() if not dtype.is_nested()]
    return told.select(sorted(told.columns)).sort(sorted(flat))


def accounts(ledger: pl.DataFrame) -> pl.DataFrame:
    """Sum the accounts of each tile's last generation, however its records fell into batches."""
    at = ["stream", "layer", "kind", "tile", "partition"]
    last = pl.col("generation") == pl.col("generation").max().over("stream", "layer", "tile")
    settled = pl.sum_horizontal("accepted", "duplicates", "conflicts")
    return ledger.filter(last).with_columns(settled=settled).group_by(at).agg(pl.col(_ACCOUNT).sum()).sort(at)


def maintain(folder: str, servers: str, until: str, uri: str = "") -> None:
    """Tidy all tables again and again until a file exists."""
    while not Path(until).exists():
        tidy(project(folder, servers, uri), commits=5)


def tidy(made: Project, **keeping: int) -> None:
    """Join files, even a few, cut logs, delete what is not read any more."""
    maintenance._FEW = 1
    maintenance.maintain(made.lake(), load_streams(made.streams), maintenance.Keeping(**keeping))


def lose(races: int, table: str) -> None:
    """Let the next commits to a table lose a race, as if others were faster."""
    left, commit = iter(range(races)), Lake.commit

    def losing(self: Lake, handle: DeltaTable, rows: pl.DataFrame, **arguments: Any) -> int:
        if handle.metadata().name == table and next(left, None) is not None:
            raise LostRace(f"{table}: another was faster")
        return commit(self, handle, rows, **arguments)

    Lake.commit = losing


def spoil(folder: str, servers: str) -> None:
    """Take some records out of a complete tile of bronze, as a person could."""
    made = project(folder, servers)
    handle = made.lake().open("bronze/visits")
    assert handle is not None
    tile = sorted(made.table("bronze/visits")["tile"].unique())[1]
    handle.delete(f"tile = '{tile}' AND partition = 1")


def soak(kind: str, folder: str) -> None:
    """Work on the numbers in one of the ways that there are: Dagster's run, or continuous mode."""
    if kind == "dagster":
        made = project(folder, os.environ["KAFKA_BOOTSTRAP_SERVERS"])
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        outcome = made.both("numbers", today)
        assert outcome.success, outcome
        return
    arguments = [
        "--streams",
        "numbers",
        "--until",
        kind,
        "--lease",
        "3",
        "--upkeep",
        "1",
        "--interval",
        "0.2",
    ]
    assert continuous.main(arguments) == 0
