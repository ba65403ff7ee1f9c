"""A lease: a wave of attempts that one worker has for a while, and the ways in which it can be lost as a whole."""

from dataclasses import dataclass
from typing import Literal

from seal_ray.errors import SealError
from seal_ray.records import Attempt

# what took a wave from us. node and unreachable are nobody's fault; the others may be one of the candidates'.
# infra: the worker says that its device or node failed it, which a bad candidate can bring about on a GPU
Cause = Literal["node", "unreachable", "killed_worker", "out_of_memory", "deadline", "error", "infra"]
NOBODYS: frozenset[Cause] = frozenset({"node", "unreachable"})


@dataclass(frozen=True)
class WaveLease:
    """What a worker is asked to try, and with which version of the policy."""

    id: int
    version: str
    attempts: tuple[Attempt, ...]


class OutOfMemory(SealError):
    """The device's memory did not hold a wave; the worker lives on."""


class Lost(Exception):
    """The actor behind a call is gone, or can't be reached."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause: Cause = cause
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return Lost, (self.cause, self.reason)
