"""The archive: all versions of a run as a tree, any of which may be a parent, as in the Darwin-Gödel machine.

A version that was rejected stays in it: what it writes may be worse, and what is learned from it better than anything
that its betters lead to. The base is in the archive too, so that there is always somebody to begin with.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from seal_ray.records import Version, derive_seed

SHARPNESS = 10.0  # how much more a version is drawn that is better by 0.1 than the middle one


@dataclass(frozen=True)
class Archived:
    """A version, and what is known of it."""

    version: Version
    score: float | None  # on validation tasks; None: nobody has measured it
    children: int
    accepted: bool


def best(archive: Sequence[Archived]) -> Archived:
    """The accepted version with the highest score; without scores the newest."""
    accepted = [one for one in archive if one.accepted]
    return max(accepted, key=lambda one: (-math.inf if one.score is None else one.score, one.version.number))


def drawn(archive: Sequence[Archived], seed: int) -> tuple[Archived, dict[str, float]]:
    """A parent, drawn by score and by how few children it has; and each version's chance, by its digest."""
    known = sorted(one.score for one in archive if one.score is not None)
    middle = known[len(known) // 2] if known else 0.0
    order = sorted(archive, key=lambda one: (one.version.number, one.version.digest))
    weights = [_weight(middle if one.score is None else one.score, middle, one.children) for one in order]
    chances = {one.version.digest: w / sum(weights) for one, w in zip(order, weights, strict=True)}
    (chosen,) = random.Random(derive_seed(seed, "parent")).choices(order, weights)
    return chosen, chances


def _weight(score: float, middle: float, children: int) -> float:
    """Above the middle the chance saturates; every child halves, thirds, … it."""
    above = max(-50.0, min(50.0, SHARPNESS * (score - middle)))
    return 1 / (1 + math.exp(-above)) / (1 + children)
