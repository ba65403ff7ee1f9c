"""What can go wrong, sorted by who must act. Every error travels between processes and holds no credential."""

from seal_ray.redaction import redact
from seal_ray.text import storable


class SealError(Exception):
    """An error with a message for a person: what, where, and what to do next."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message, self.hint = redact(storable(message)), redact(storable(hint))
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(cls: type[SealError], message: str, hint: str) -> SealError:
    return cls(message, hint=hint)


class ConfigError(SealError):
    """The user's configuration: a key, a value, a combination."""

    exit_code = 2


class DataError(SealError):
    """The user's data: a file, a task, a model's files, a document that is not what it should be."""

    exit_code = 2


class Unlearnable(DataError):
    """What an update was given can't be learned: another try of the same would end the same."""


class ArgumentError(ConfigError):
    """What a command was given beside its configuration: the next time it may be given otherwise."""


class InfraError(SealError):
    """The cluster, a node, a device, the network: the same work may succeed elsewhere or later."""


class NoIsolation(InfraError):
    """A program of a model can't be kept apart on this machine, so it is not run."""


class PlacementError(InfraError):
    """What the run needs is not there: names the demand, what was found and how long it waited."""


class StorageError(InfraError):
    """Object storage said no, or did not answer. Names the URI and the operation."""


class Missing(StorageError):
    """Nothing is stored at that URI."""


class AlreadyThere(StorageError):
    """A create-only write found an object with other content."""


class Fenced(SealError):
    """Another driver has taken the run over: this one must stop and may not write."""


class LedgerError(SealError):
    """The record of a run is damaged or was written by a newer version. Names the part."""


class CoverageError(SealError):
    """Too much of a round failed to learn from what is left. Everything found is kept."""


class CollapseError(SealError):
    """A version that is rewarded for agreeing with itself does hardly anything else. Everything found is kept."""

    exit_code = 2


class BudgetSpent(SealError):
    """The budget is used up. Everything found is kept, and a larger budget resumes."""

    exit_code = 5


class Interrupted(SealError):
    """Asked to stop. Everything found is kept."""

    exit_code = 130
