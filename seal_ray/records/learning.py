"""What is learned from trials: rewards, choices, versions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from seal_ray.records.trials import CandidateKind


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error. `n` is how many repeats it rests on."""

    mean: float
    error: float
    n: int = 0


@dataclass(frozen=True)
class Reward:
    """What an edit is worth: the gain over its task's baseline, with its uncertainty."""

    edit: str
    task: str
    slot: int
    value: Estimate  # what selection looks at, shrunk towards the task's mean
    raw: Estimate  # the same, before shrinkage
    accuracy: Estimate | None = None  # not relative to the baseline
    likelihood: Estimate | None = None  # mean log-probability per gold token, not relative to the baseline


@dataclass(frozen=True)
class TaskScore:
    """How one arm of a task did: the baseline or the context alone."""

    task: str
    kind: CandidateKind
    accuracy: Estimate | None
    likelihood: Estimate | None


@dataclass(frozen=True)
class Repeats:
    """A request for more repeats of some edits of a task, recorded before it is acted on."""

    id: str
    task: str
    version: str  # digest of the version whose edits these are
    edits: tuple[str, ...]
    first: int  # number of the first repeat that is asked for
    repeats: int
    reason: str


@dataclass(frozen=True)
class Dropping:
    """Edits of a task that are not tried, or not to the end, recorded before it is acted on. None of them is a zero."""

    id: str
    task: str
    version: str  # digest of the version whose edits these are
    stage: Literal["predicted", "heat"]
    kept: tuple[str, ...]
    dropped: Mapping[str, str]  # by edit, why


@dataclass(frozen=True)
class Choice:
    """An edit to learn from, how strongly, and why. A negative weight teaches away from it."""

    task: str
    edit: str
    weight: float
    reason: str
    against: str | None = None  # the other edit of a preference pair
    algorithm: Literal["rest_em", "weighted", "pairs", "grpo"] = "rest_em"  # which says how the weight is to be used


@dataclass(frozen=True)
class Version:
    """The policy at one point: the base model and one adapter. Version 0 has no adapter."""

    number: int
    digest: str
    base: str  # digest of the base model's files
    parent: str | None = None  # digest of the version that it was trained on from
    path: str | None = None  # folder of the adapter (or of full weights), relative to the run's URI
    kind: Literal["base", "adapter", "full"] = "base"
    rank: int = 0
    created_by: str = ""
