"""What is explored."""

from dataclasses import dataclass

from seal_ray.grading.gain_model import GainModel
from seal_ray.records import Edit, Task, Version


@dataclass(frozen=True)
class Plan:
    """What is explored: these tasks, with this version, so many edits and repeats."""

    tasks: tuple[Task, ...]
    version: Version
    edits: int  # for each task
    repeats: int  # training seeds for each edit, and for the context alone
    context_arm: bool
    salt: int  # goes into every seed: the same salt samples and trains with the same luck
    given: tuple[Edit, ...] | None = None  # edits from elsewhere; then nothing is sampled
    trials: bool = True  # without, edits are sampled and no candidate is made of them
    model: GainModel | None = None  # by which unpromising edits are dropped before they are tried
    heat: float = 0  # share of an edit's epochs after which the last ones of a task are dropped; 0: none are
