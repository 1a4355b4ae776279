"""What Kafka could not give, and why."""

from sluice.errors.base import PermanentError, RetryableError


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


class LogCutError(PermanentError):
    """A log ends before what was read of it: its offsets mean other records from there on."""

    def __init__(self, stream: str, topic: str, partition: int, known: int, end: int, epoch: int) -> None:
        super().__init__(
            f"topic {topic!r} of stream {stream!r}, partition {partition}: the log ends at offset {end}, but "
            f"the lake knows it up to {known}: it was cut (a broker lost its disk, or one that lagged was "
            f"elected); set epoch={epoch + 1} in the contract to read what it has now beside what was kept"
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
