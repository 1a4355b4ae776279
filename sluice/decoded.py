"""What became of the records of one batch, before any table is looked at.

Decoders (`sluice.decode_events`, `sluice.decode_changes`) give this; each input record, named by its
place `_row` in the batch, is in exactly one of the four: rows, failures, tombstones, ignored.
"""

from dataclasses import dataclass, field

import polars as pl

FAILURE = pl.Struct({"stage": pl.String, "column": pl.String, "rule": pl.String, "reason": pl.String})
FAILURES_SCHEMA: dict[str, pl.DataType] = {
    "_row": pl.UInt32(),
    "stage": pl.String(),  # decode, key, schema, rule
    "column": pl.String(),  # the column's path, null where the whole value is at fault
    "rule": pl.String(),  # the rule's name, null where none
    "reason": pl.String(),  # one sentence for a person: what was found, what is allowed
}


def no_failures() -> pl.DataFrame:
    """Give an empty table of failures."""
    return pl.DataFrame(schema=FAILURES_SCHEMA)


@dataclass(frozen=True)
class Decoded:
    """The verdict on each record of a batch.

    Attributes:
        rows: the records that passed: `_row` and the contract's columns in their contract types; for
            changes also `_position` (string that sorts as the source orders), `_valid_from`, `_op`
            (c, u, d, r, t), `_previous_key`, `_unavailable`, `_source` (`sluice.envelopes.origins`).
        failures: every failure of the records that did not pass, first one first (FAILURES_SCHEMA).
        tombstones: `_row` of the records with a null value that have no effect.
        ignored: `_row` of the records that are not of this stream.
        unknown: how often a member that no column takes was met, by name.
    """

    rows: pl.DataFrame
    failures: pl.DataFrame = field(default_factory=no_failures)
    tombstones: pl.Series = field(default_factory=lambda: pl.Series("_row", [], pl.UInt32))
    ignored: pl.Series = field(default_factory=lambda: pl.Series("_row", [], pl.UInt32))
    unknown: dict[str, int] = field(default_factory=dict)
