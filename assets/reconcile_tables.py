"""The lake held against a table of files: quiescent, or up to a value of the sequence."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from assets.asked import Looked, Work
from assets.images import image, image_upto
from assets.placing import Moment
from resources.table_compare import compare
from resources.table_sides import Side, source_side
from sluice import sources
from sluice.compare.comparable import quoted
from sluice.compare.kept import condition, expression
from sluice.contract import Changes, Stream
from sluice.errors import SourceError


def look_at_tables(work: Work) -> Looked:
    """Compare with a table or files, quiescent or up to a value of the sequence."""
    source, names = work.stream.source, [column.name for column in work.stream.columns]
    if not isinstance(source, sources.Delta | sources.Parquet):
        raise SourceError(repr(source), "no table", "name one")
    moment = Moment(datetime.now(UTC))
    there, position = source_side(work.lake, source, names, work.folder)
    there = _kept(there, work.stream, work.folder)
    if work.asked.upto is None:
        here, version = image(work.lake, work.stream, names, work.folder)
    else:
        if not isinstance(work.stream, Changes) or not work.stream.sequences:
            raise SourceError(f"of {work.stream.name!r}", "`upto` asks for a `sequence`", "name one")
        here, version, keys = image_upto(work.lake, work.stream, names, work.folder, there, work.asked.upto)
        here, there = _without(here, work.stream, keys), _without(there, work.stream, keys)
        position += f", {work.stream.sequences[0]} up to {work.asked.upto}"
        position += f"; {keys.height} keys that go beyond are left out"
    found = compare(here, there, work.stream.keys, folder=work.folder, most=work.asked.most)
    return Looked(str(source), position, version, found, moment)


def _kept(side: Side, stream: Stream, folder: Path) -> Side:
    """Keep the rows of a source that the contract's `where` keeps."""
    kept = expression(stream)
    if kept is None or not side.files:
        told = condition(stream, {name: quoted(there) for name, there in side.names.items()})
        return replace(side, where=f"({side.where}) AND ({told})")
    asked = kept.meta.root_names()
    typed = [pl.col(side.names[n]).cast(stream.column(n).dtype, strict=False).alias(n) for n in asked]
    rows = pl.scan_parquet(list(side.files)).select(
        *(pl.col(there).alias(f"{name} of the source") for name, there in side.names.items()), *typed
    )
    path = folder / f"kept-{len(list(folder.iterdir()))}.parquet"
    own = [pl.col(f"{name} of the source").alias(name) for name in side.names]
    rows.filter(kept).select(own).sink_parquet(path)
    return Side([str(path)], {name: name for name in side.names})


def _without(side: Side, stream: Stream, keys: pl.DataFrame) -> Side:
    """Leave some keys out of a comparison."""
    nothing = pl.DataFrame(schema={name: stream.column(name).storage for name in side.names})
    gone, rows = side.instead or (keys.clear(), nothing)
    rows = rows.join(keys, on=stream.keys, how="anti")
    return replace(side, instead=(pl.concat([gone.select(stream.keys), keys]).unique(), rows))
