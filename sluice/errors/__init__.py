"""Every failure that Sluice names: one base, permanent and retryable kinds, a class each.

A message names the culprit and the fix. Vendor errors are turned into these where they arise, with
`raise … from`. `RetryableError` means that the same call may pass later; a run may try again.
"""

from sluice.errors.base import PermanentError, RetryableError, SluiceError
from sluice.errors.contracts import (
    ColumnTypeError,
    ContractError,
    FormatError,
    Problem,
    RuleError,
    SamplesError,
    SettingsError,
    UnknownStreamError,
)
from sluice.errors.kafka import (
    KafkaAccessError,
    KafkaAuthenticationError,
    KafkaReadError,
    KafkaTlsError,
    KafkaUnreachableError,
    OpenTransactionError,
    TopicMissingError,
    TopicRecreatedError,
)
from sluice.errors.lake import (
    BronzeMissingError,
    DbtParseError,
    LakeError,
    LakeFullError,
    LakeRefusedError,
    LakeUnreachableError,
    LedgerDiffersError,
    PartitionsChangedError,
    RaceLostError,
    StagedDatesError,
    StaleWriterError,
    TableMissingError,
    TableSchemaError,
)
from sluice.errors.sources import (
    DemoServerError,
    DownloadError,
    MarkerLateError,
    ReconciliationRunsError,
    SourceError,
    SourceUnreachableError,
)
from sluice.errors.values import (
    NotAChangeError,
    NotExtendedJsonError,
    NotJsonError,
    PositionError,
    UnreadablePlaceError,
)

__all__ = [
    "BronzeMissingError",
    "ColumnTypeError",
    "ContractError",
    "DbtParseError",
    "DemoServerError",
    "DownloadError",
    "FormatError",
    "KafkaAccessError",
    "KafkaAuthenticationError",
    "KafkaReadError",
    "KafkaTlsError",
    "KafkaUnreachableError",
    "LakeError",
    "LakeFullError",
    "LakeRefusedError",
    "LakeUnreachableError",
    "LedgerDiffersError",
    "MarkerLateError",
    "NotAChangeError",
    "NotExtendedJsonError",
    "NotJsonError",
    "OpenTransactionError",
    "PartitionsChangedError",
    "PermanentError",
    "PositionError",
    "Problem",
    "RaceLostError",
    "ReconciliationRunsError",
    "RetryableError",
    "RuleError",
    "SamplesError",
    "SettingsError",
    "SluiceError",
    "SourceError",
    "SourceUnreachableError",
    "StagedDatesError",
    "StaleWriterError",
    "TableMissingError",
    "TableSchemaError",
    "TopicMissingError",
    "TopicRecreatedError",
    "UnknownStreamError",
    "UnreadablePlaceError",
]
