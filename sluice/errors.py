"""Every failure that Sluice names: one base, permanent and retryable kinds, a class each.

A message names the culprit and the fix. Vendor errors are turned into these where they arise, with
`raise … from`. `RetryableError` means that the same call may pass later; a run may try again.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class SluiceError(Exception):
    """The base of all errors of this project."""


class PermanentError(SluiceError):
    """Trying again changes nothing: someone has to change something first."""


class RetryableError(SluiceError):
    """The same call may pass later."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a contract."""

    file: str
    stream: str
    argument: str
    found: str
    allowed: str

    def __str__(self) -> str:
        """Give one line: where, which argument, what was found, what is allowed."""
        return f"{self.file}: {self.stream}: {self.argument}: found {self.found}; allowed: {self.allowed}"


class ContractError(PermanentError):
    """One or more contracts are wrong; lists every problem of every file at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{len(self.problems)} problem(s) in the contracts; correct these files:\n{lines}")


class SettingsError(PermanentError):
    """A setting is missing or has a value that cannot be used."""

    def __init__(self, setting: str, found: str, fix: str) -> None:
        super().__init__(f"setting {setting} is {found}; {fix}")


class KafkaUnreachableError(RetryableError):
    """No broker answered."""

    def __init__(self, servers: str, detail: str) -> None:
        super().__init__(
            f"no Kafka broker answers at {servers} ({detail}); "
            "start it, or set KAFKA_BOOTSTRAP_SERVERS to one that runs"
        )


class KafkaAuthenticationError(PermanentError):
    """A broker refuses who we say we are, or demands that we say it."""

    def __init__(self, servers: str, detail: str) -> None:
        super().__init__(
            f"Kafka at {servers} refuses the connection ({detail}); correct KAFKA_SASL_USERNAME, "
            "KAFKA_SASL_PASSWORD (or KAFKA_SECRET_ID), KAFKA_SASL_MECHANISM or KAFKA_SECURITY_PROTOCOL"
        )


class KafkaTlsError(PermanentError):
    """No encrypted connection comes about: certificates do not fit, or one side does not encrypt."""

    def __init__(self, servers: str, detail: str, setting: str) -> None:
        super().__init__(f"no secure connection to Kafka at {servers} ({detail}); correct {setting}")


class KafkaAccessError(PermanentError):
    """The broker knows us, and does not let us read the topic."""

    def __init__(self, topic: str, servers: str, detail: str) -> None:
        super().__init__(
            f"Kafka at {servers} does not let us read topic {topic!r} ({detail}); "
            "grant READ on it to our user (KAFKA_SASL_USERNAME, or the name in KAFKA_SSL_CERTIFICATE)"
        )


class TopicMissingError(PermanentError):
    """The topic of a contract is not on the broker; `held` tells what the lake has of it."""

    def __init__(self, topic: str, servers: str, held: str = "") -> None:
        self.topic, self.servers = topic, servers
        kept = f" (the lake keeps {held})" if held else ""
        super().__init__(
            f"topic {topic!r} does not exist at {servers}{kept}; "
            "create it, or correct `topic` in the contract"
        )


class TopicRecreatedError(PermanentError):
    """The topic was deleted and made again: its offsets mean other records now."""

    def __init__(self, stream: str, topic: str, known: str, found: str, epoch: int) -> None:
        super().__init__(
            f"topic {topic!r} of stream {stream!r} was made again (its id was {known}, now {found}); "
            f"set epoch={epoch + 1} in the contract to read the new topic beside what was kept of the old one"
        )


class KafkaReadError(RetryableError):
    """The broker answered, but a range of offsets could not be read."""

    def __init__(self, topic: str, detail: str) -> None:
        super().__init__(f"reading topic {topic!r} failed: {detail}; the next run goes on where this one was")


class OpenTransactionError(RetryableError):
    """A producer's open transaction holds back the end of a tile."""

    def __init__(self, topic: str, partition: int, bound: int, stable: int, transactions: str) -> None:
        super().__init__(
            f"topic {topic!r}, partition {partition}: an open transaction ({transactions}) holds offset "
            f"{stable}, and the tile ends at {bound}; it closes when the transaction commits or is aborted"
        )


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


class NotJsonError(PermanentError):
    """A value is not what strict JSON allows; it becomes a failure of stage `decode`."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; the value must be one JSON object in UTF-8")


class NotExtendedJsonError(PermanentError):
    """A value is JSON, but no Extended JSON of MongoDB."""

    def __init__(self, found: str) -> None:
        super().__init__(f"found {found}; Extended JSON of MongoDB is expected")


class ColumnTypeError(PermanentError):
    """A column has a type that the format of the values cannot give."""

    def __init__(self, dtype: str) -> None:
        super().__init__(f"no JSON value can become {dtype}; give the column a type that contract.md lists")


class PositionError(PermanentError):
    """A column of `sequence` has a type without an order."""

    def __init__(self, column: str, dtype: str) -> None:
        super().__init__(
            f"column {column!r} of `sequence` has type {dtype}, which has no order; "
            "name columns of numbers, text, times or booleans"
        )


class BronzeMissingError(PermanentError):
    """Silver was asked for tiles that bronze does not have."""

    def __init__(self, stream: str, tiles: Sequence[str]) -> None:
        super().__init__(
            f"stream {stream!r}: bronze has never read {_some(tiles)}; "
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


def _some(names: Sequence[str]) -> str:
    """List names, shortened where they are many."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004  # enough to find them


class RuleError(PermanentError):
    """A rule of a model fails by itself, so it says nothing about the rows."""

    def __init__(self, rule: str, column: str, detail: str) -> None:
        super().__init__(
            f"rule {rule!r} of column {column!r} could not be computed ({detail}); correct it in the model"
        )


class FormatError(PermanentError):
    """A stream's values are in a format that this decoder does not read."""

    def __init__(self, stream: str, found: str, allowed: str) -> None:
        super().__init__(
            f"stream {stream!r} has value={found}; this decoder reads {allowed}: correct `value`"
        )


class UnreadablePlaceError(PermanentError):
    """A change tells a place in the source's log that is none; it becomes a failure of stage `key`."""

    def __init__(self, member: str, found: object) -> None:
        told = repr(found)[:80]
        super().__init__(f"found {told} in `source.{member}`; a place that orders the change is expected")


class NotAChangeError(PermanentError):
    """A value is JSON, but no Debezium change event; it becomes a failure of stage `decode`."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; a change event of Debezium is expected")


class UnknownStreamError(PermanentError):
    """A stream was named that no contract declares."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no contract declares a stream {name!r}; there are: {', '.join(known) or 'none'}")


class LedgerDiffersError(PermanentError):
    """The ledger is not what the commits say."""

    def __init__(self, stream: str, layer: str) -> None:
        super().__init__(
            f"system/ledger differs from the commits of {layer}/{stream}: someone changed it; restore it to "
            "the version before that (the table's history tells), then run verify_ledger again"
        )


class SamplesError(PermanentError):
    """A file of samples cannot be read."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"cannot read {file} ({reason}); name a file with one value a line")


class DownloadError(RetryableError):
    """A program that the demo or a test runs could not be fetched."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source} could not be read ({detail}); check the network, or a proxy and its certificates "
            "(HTTPS_PROXY, REQUESTS_CA_BUNDLE), or set KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs"
        )


class DemoServerError(PermanentError):
    """A server that the demo or a test runs could not be started."""

    def __init__(self, server: str, folder: str, detail: str, fix: str) -> None:
        super().__init__(f"the {server} in {folder} does not start: {detail}; {fix}")


class SourceError(PermanentError):
    """What a stream's lake is to be reconciled with cannot be used as it is declared."""

    def __init__(self, source: str, found: str, fix: str) -> None:
        super().__init__(f"source {source}: {found}; {fix}")


class SourceUnreachableError(RetryableError):
    """The source's database does not answer, or ended the connection."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"source {source} does not answer ({detail}); try again, or correct SOURCE_CONNECTIONS"
        )


class ReconciliationRunsError(PermanentError):
    """Another reconciliation of the stream runs, and this one was asked to fail then."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"another reconciliation of {stream!r} runs; wait for its end, or let this one queue or skip"
        )


class MarkerLateError(RetryableError):
    """The lake cannot be brought past a position of its source."""

    def __init__(self, stream: str, awaited: str, seconds: float, fix: str = "") -> None:
        fix = fix or (
            "see that the connector runs and delivers logical messages, or name their topic in `messages` of "
            "the source"
        )
        super().__init__(f"stream {stream!r}: {awaited} did not come within {seconds:.0f} s; {fix}")
