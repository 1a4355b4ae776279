"""What a source, or what is fetched and started besides, could not give."""

from sluice.errors.base import PermanentError, RetryableError


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


class LeaseLostError(RetryableError):
    """A reconciliation could not renew its lease in time, so another one of the stream may have begun."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"the reconciliation of {stream!r} could not renew its lease in time, so it ends without a "
            "verdict: another one may run; try again, once the lake's store answers"
        )


class MarkerLateError(RetryableError):
    """The lake cannot be brought past a position of its source."""

    def __init__(self, stream: str, awaited: str, seconds: float, fix: str = "") -> None:
        fix = fix or (
            "see that the connector runs and delivers logical messages, or name their topic in `messages` of "
            "the source"
        )
        super().__init__(f"stream {stream!r}: {awaited} did not come within {seconds:.0f} s; {fix}")


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
