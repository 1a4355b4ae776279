"""What the lake could not take or give, and why."""

from collections.abc import Sequence

from sluice.errors.base import PermanentError, RetryableError, some


class LakeError(RetryableError):
    """The lake could not be read or written."""

    def __init__(self, table: str, uri: str, detail: str) -> None:
        super().__init__(
            f"table {table!r} at {uri} could not be read or written: {detail}; "
            "the next run goes on from the last commit"
        )


class LakeUnreachableError(RetryableError):
    """The store of the lake did not answer, or asked for patience longer than we have."""

    def __init__(self, table: str, uri: str, detail: str) -> None:
        super().__init__(
            f"table {table!r} at {uri}: the store is away or overloaded ({detail}); "
            "the next run goes on from the last commit; STORE_PATIENCE_SECONDS says how long a run waits"
        )


class LakeRefusedError(PermanentError):
    """The store of the lake does not let us in, or knows no such bucket."""

    def __init__(self, table: str, uri: str, detail: str) -> None:
        super().__init__(
            f"table {table!r} at {uri}: the store refuses us ({detail}); correct LAKE_URI, the "
            "credentials, or the rights that they give"
        )


class LakeFullError(PermanentError):
    """The disk or the quota of the lake is used up."""

    def __init__(self, table: str, uri: str, detail: str) -> None:
        super().__init__(
            f"table {table!r} at {uri}: no space is left ({detail}); nothing was committed: "
            "free some, then run again"
        )


class RaceLostError(RetryableError):
    """Another writer was faster, more often than the bound allows."""

    def __init__(self, table: str, attempts: int, detail: str) -> None:
        super().__init__(
            f"table {table!r}: lost the race against other writers {attempts} times ({detail}); "
            "run again, or let fewer runs write this table at once"
        )


class StaleWriterError(PermanentError):
    """Progress would go backwards: this writer was overtaken and must not commit."""

    def __init__(self, table: str, app_id: str, committed: int, wanted: int) -> None:
        super().__init__(
            f"table {table!r}: {app_id} stands at {committed}, so {wanted} must not be committed; "
            "another run did this work already: start a new run"
        )


class TableSchemaError(PermanentError):
    """A stored column cannot become what the contract says now."""

    def __init__(self, table: str, column: str, stored: str, wanted: str) -> None:
        super().__init__(
            f"table {table!r}: column {column!r} is stored as {stored}, and the contract now says {wanted}, "
            "which cannot hold every stored value; give the column a wider type or another name"
        )


class PartitionsChangedError(PermanentError):
    """A contract's partitions differ from those that the lake was built with."""

    def __init__(self, stream: str, built: str, declared: str) -> None:
        super().__init__(
            f"stream {stream!r} was built with {built!r} as its first tile, and `partitions` now begins with "
            f"{declared!r}; restore `partitions`, or give the stream another name"
        )


class BronzeMissingError(PermanentError):
    """Silver was asked for tiles that bronze does not have."""

    def __init__(self, stream: str, tiles: Sequence[str]) -> None:
        super().__init__(
            f"stream {stream!r}: bronze has never read {some(tiles)}; "
            f"materialize bronze/{stream} of these tiles first, or both in one run"
        )


class TableMissingError(PermanentError):
    """A model of gold reads a table that is not in the lake."""

    def __init__(self, table: str, uri: str) -> None:
        super().__init__(f"table {table!r} is not in the lake (looked at {uri}); materialize {table} first")


class StagedDatesError(PermanentError):
    """A model of gold gave rows of dates that its run does not replace."""

    def __init__(self, table: str, column: str, found: Sequence[str], window: Sequence[object]) -> None:
        super().__init__(
            f"table {table!r}: the run replaces {column} from {window[0]} to {window[1]}, but the model also "
            f"gave {', '.join(found)}; filter every source of the model by in_window(...)"
        )


class DbtParseError(PermanentError):
    """The dbt project does not parse, so gold has no manifest."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"dbt_project/ does not parse: {detail}; correct it, and try `dbt parse` there")


class LedgerDiffersError(PermanentError):
    """The ledger is not what the commits say."""

    def __init__(self, stream: str, layer: str) -> None:
        super().__init__(
            f"system/ledger differs from the commits of {layer}/{stream}: someone changed it; restore it to "
            "the version before that (the table's history tells), then run verify_ledger again"
        )
