"""Where a repair stands: behind all that its source's log had at the moment as of which rows were compared.

Decides which log is the source's newest, and where it ends, from the changes that silver has of that moment;
where the source told its place itself, that is it. A log that began anew (another server took over, binlogs
were reset) has places that say nothing about those before: its changes are later by their own clock and by
Kafka's, and stand before. Then the newest server's places count. It refuses to place a repair where both logs
have one name, or none: nothing would tell later changes from earlier ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from resources.lake import Lake
from sluice import tables
from sluice.contract import Changes, Debezium, Stream
from sluice.envelopes.origins import LOG
from sluice.envelopes.positions import numbers, pattern
from sluice.envelopes.written import Place
from sluice.tables import REPAIR_PARTITION

_SOURCE = pl.col("_source").struct
_AT = pl.coalesce(_SOURCE.field("committed_at"), "_timestamp")
_BEGAN_ANEW = (
    "the source's log began anew under the same server's name, so nothing tells a place in it that is behind "
    "all changes and before all later ones; write the rows in the source anew, so that its log tells them"
)


@dataclass(frozen=True)
class Moment:
    """The position as of which a source was read.

    Attributes:
        at: its clock.
        seen: the changes of silver that it has; None: all.
        numbers: its place in the source's log, where the source tells it.
        documents: by key, the documents of MongoDB that differ, as canonical Extended JSON; None: the source
            has no documents.
    """

    at: datetime
    seen: pl.LazyFrame | None = None
    numbers: tuple[int, ...] | None = None
    documents: Mapping[tuple[Any, ...], str] | None = field(default=None, repr=False)


def placed(lake: Lake, stream: Stream, moment: Moment) -> Place | str:
    """Give the place of a repair, or why it has none."""
    if not isinstance(stream, Changes) or not isinstance(stream.value, Debezium) or stream.sequences:
        return Place(moment.at)
    connector = stream.value.source
    seen = lake.read(tables.silver(stream)) if moment.seen is None else moment.seen
    rows = seen.filter(pl.col("_partition") != REPAIR_PARTITION).select(
        "_position", _SOURCE.field("server", "table"), at=_AT, written="_timestamp"
    )
    newest = rows.filter(pl.col("at") == _one(rows, pl.col("at").max())).top_k(1, by="_position")
    last = next(newest.collect(engine="streaming").iter_rows(named=True), None)
    if last is None:
        return Place(moment.at, moment.numbers or numbers(connector, ""))
    if last["server"] == LOG:  # a repair is then ordered by Kafka's clock, as all changes are
        upto = moment.at if moment.seen is None else _one(rows, pl.col("written").max())
        return Place(upto or moment.at, table=last["table"])
    table, server = last["table"], last["server"]
    if moment.numbers is not None:
        return Place(moment.at, moment.numbers, table, server)
    own = rows.filter(pl.col("_position").str.contains(pattern(connector)))
    older = _of_older_logs(own, last)
    if older:
        if server is None or None in older or server in older:
            return _BEGAN_ANEW
        own = own.filter(pl.col("server") == server)
    end = _one(own, pl.col("_position").max()) or ""
    return Place(moment.at, numbers(connector, end), table, server)


def _of_older_logs(rows: pl.LazyFrame, last: Mapping[str, Any]) -> list[str | None]:
    """Name the servers of changes behind the last one that were committed and written before it."""
    mine = rows.filter(pl.col("_position") == last["_position"])
    written = _one(mine, pl.col("written").min())  # it may have been delivered again
    behind = (pl.col("_position") > last["_position"]) & (pl.col("at") < last["at"])
    found = rows.filter(behind & (pl.col("written") < written)).select(pl.col("server").unique())
    return found.collect(engine="streaming")["server"].to_list()


def _one(rows: pl.LazyFrame, value: pl.Expr) -> Any:
    return rows.select(value).collect(engine="streaming").item()
