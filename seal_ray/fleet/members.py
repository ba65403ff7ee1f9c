"""One actor of a role, the job that it was given, and how that job ended."""

import math
from dataclasses import dataclass
from typing import Any

from seal_ray.fleet.actor_health import Health
from seal_ray.fleet.wave_messages import Cause, Lost


@dataclass
class Job:
    """What an actor was given to do; `work` is the giver's own."""

    work: Any
    began: float
    limit: float


@dataclass(frozen=True)
class WaveOutcome:
    """How a job ended: with a value, or by what it was lost."""

    member: str
    work: Any
    seconds: float
    value: Any = None
    cause: Cause | None = None
    reason: str = ""


@dataclass
class Member:
    """What is known of one actor."""

    name: str
    born: float
    health: Health
    version: str = ""
    loading: int | None = None  # ticket
    fetching: float | None = None  # since when it has been fetching what it is to load
    job: Job | None = None
    ping: tuple[int, float] | None = None  # ticket, when
    pinged: float = -math.inf
    condemned: tuple[float, Cause, str] | None = None  # is killed at this time at the latest, and why
    busy: float = 0.0  # seconds
    free_since: float = math.inf  # when it last became idle
    spare: bool = False  # goes because it is not needed, or others wait for its place
    node: str = ""  # its name, for people
    log: str = ""

    @property
    def idle(self) -> bool:
        return self.health.state == "healthy" and self.job is None and self.condemned is None


def say(error: BaseException | None) -> str:
    """An error in one line."""
    if error is None:
        return ""
    text = error.reason if isinstance(error, Lost) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]
