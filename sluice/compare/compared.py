"""What a comparison found: counts, and the rows that differ, with both sides' values.

`missing` rows are in the source and not in the lake, `extra` ones in the lake and not in the source,
`different` ones in both, with other values. Values of columns marked as personal are masked in whatever
is kept or shown; keys, too.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

MISSING, EXTRA, DIFFERENT = "missing", "extra", "different"
KINDS = (MISSING, EXTRA, DIFFERENT)
_MASK = "***"
_SHOWN = 20  # rows in a report


@dataclass(frozen=True)
class Compared:
    """The outcome of one comparison.

    Attributes:
        ranges: how many ranges of keys were compared.
        differing: how many of them differ.
        lake_rows: rows of the lake.
        source_rows: rows of the source.
        missing: rows that the lake lacks.
        extra: rows that the source lacks.
        different: rows with other values.
        rows: one row for each difference that is listed: the keys, `kind`, `columns` (which differ),
            `lake` and `source` (structs of the columns compared; null where there is no row).
        listed_all: whether no difference is left out of `rows`.
    """

    ranges: int
    differing: int
    lake_rows: int
    source_rows: int
    missing: int = 0
    extra: int = 0
    different: int = 0
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    listed_all: bool = True

    @property
    def equal(self) -> bool:
        """Whether the sides say the same."""
        return not (self.missing or self.extra or self.different)


def masked(rows: pl.DataFrame, keys: Sequence[str], personal: Collection[str]) -> pl.DataFrame:
    """Write differences as text, with personal values masked.

    Returns:
        `kind`, `key` (JSON), `columns`, `lake` and `source` (JSON of the columns that differ, and for a
        missing or extra row of all).
    """
    told = []
    for row in rows.iter_rows(named=True):
        names = row["columns"] or None
        told.append(
            {
                "kind": row["kind"],
                "key": _json({k: row[k] for k in keys}, personal),
                "columns": row["columns"],
                **{side: _json(_only(row[side], names), personal) for side in ("lake", "source")},
            }
        )
    text = pl.String()
    schema = {"kind": text, "key": text, "columns": pl.List(text), "lake": text, "source": text}
    return pl.DataFrame(told, schema=schema, orient="row")


def _only(values: dict[str, Any] | None, names: Sequence[str] | None) -> dict[str, Any] | None:
    return values if values is None or names is None else {n: values[n] for n in names}


def _json(values: dict[str, Any] | None, personal: Collection[str]) -> str | None:
    if values is None:
        return None
    plain = {n: _MASK if n in personal and v is not None else v for n, v in values.items()}
    return json.dumps(plain, default=str, ensure_ascii=False)


def markdown(compared: Compared, told: pl.DataFrame, facts: dict[str, Any]) -> str:
    """Write a report for people: what was compared, what came of it, and some rows (of `masked`)."""
    verdict = "equal" if compared.equal else "**they differ**"
    lines = [f"Lake and source: {verdict}.", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in facts.items())]
    if told.height:
        lines += ["", "| kind | key | columns | lake | source |", "|---|---|---|---|---|"]
        for kind, key, columns, lake, source in told.head(_SHOWN).iter_rows():
            cells = (kind, key, ", ".join(columns or []), lake, source)
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
        if told.height > _SHOWN or not compared.listed_all:
            lines.append(f"\n… the first {min(told.height, _SHOWN)} are shown; more in `system/differences`.")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
