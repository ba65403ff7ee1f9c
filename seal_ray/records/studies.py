"""Trials whose adapter is trained on from another one, and comes along."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from seal_ray.records.trials import Attempt, Trial


@dataclass(frozen=True)
class Keeping:
    """By which method an adapter that is trained on keeps what it was; `inner.keep` has what each assumes."""

    method: str = "none"
    strength: float = 1.0  # of what holds it back
    energy: float = 0.95  # share of a step's directions that are held to be used
    most_rank: int = 256  # of the earlier steps' adapters together


@dataclass(frozen=True)
class StudyCourse:
    """What an adapter is trained on from, in which steps, and what of it must stay."""

    order: tuple[tuple[int, ...], ...]  # numbers of the texts of each optimiser step
    rates: tuple[float, ...]  # their learning rates
    keeping: Keeping = Keeping()
    start: Mapping[str, bytes] = field(default_factory=dict)  # files as a `StudyTrial` has them; none: a new adapter


@dataclass(frozen=True)
class StudyAttempt(Attempt):
    """A candidate whose adapter is trained on from another one."""

    course: StudyCourse = StudyCourse((), ())

    @property
    def steps(self) -> int:
        return len(self.course.order)


@dataclass(frozen=True)
class StudyTrial(Trial):
    """A trial that brings its adapter along, in PEFT's format, and what its method remembers. The ledger keeps files
    as files: `plain` is what stands among its records."""

    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def plain(self) -> Trial:
        return Trial(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Trial)})
