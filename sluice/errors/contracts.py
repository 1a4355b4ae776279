"""What is wrong with a contract, a setting, or what a person gave."""

from collections.abc import Sequence
from dataclasses import dataclass

from sluice.errors.base import PermanentError


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


class ColumnTypeError(PermanentError):
    """A column has a type that the format of the values cannot give."""

    def __init__(self, dtype: str) -> None:
        super().__init__(f"no JSON value can become {dtype}; give the column a type that contract.md lists")


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


class UnknownStreamError(PermanentError):
    """A stream was named that no contract declares."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no contract declares a stream {name!r}; there are: {', '.join(known) or 'none'}")


class SamplesError(PermanentError):
    """A file of samples cannot be read."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"cannot read {file} ({reason}); name a file with one value a line")
