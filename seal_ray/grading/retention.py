"""What a stream keeps: figures of retention matrices, with intervals over its sequences.

R[i][j] is the score on the j-th step's tasks after i steps; row 0 is the base model. A score that was not measured is
None, and nothing is made of it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seal_ray.records import derive_seed

Matrix = Sequence[Sequence[float | None]]
SAMPLES = 4000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over sequences, and where it lies by the bootstrap over them. One sequence has no interval."""

    mean: float
    low: float | None
    high: float | None
    sequences: int


def base(r: Matrix) -> float | None:
    return _mean(r[0])


def immediate(r: Matrix) -> float | None:
    """Each step's tasks right after it."""
    return _mean([r[i][i - 1] for i in range(1, len(r))])


def retained(r: Matrix) -> float | None:
    """All tasks after the last step."""
    return _mean(r[-1])


def forgetting(r: Matrix) -> float | None:
    """By how much each earlier task is under its best since it was learned."""
    lost = []
    for j in range(len(r) - 2):
        since = [row[j] for row in r[j + 1 :]]
        best = max((s for s in since if s is not None), default=None)
        lost.append(None if best is None or since[-1] is None else best - since[-1])
    return _mean(lost)


def backward(r: Matrix) -> float | None:
    """By how much later steps have changed each earlier task: below 0 it was forgotten."""
    return _mean([_minus(r[-1][j], r[j + 1][j]) for j in range(len(r) - 2)])


def forward(r: Matrix) -> float | None:
    """By how much each task was better just before it was learned than the base does it."""
    return _mean([_minus(r[j][j], r[0][j]) for j in range(1, len(r) - 1)])


FIGURES: Mapping[str, Callable[[Matrix], float | None]] = {
    "base": base,
    "immediate": immediate,
    "retained": retained,
    "forgetting": forgetting,
    "backward": backward,
    "forward": forward,
}


def figures(matrices: Sequence[Matrix], seed: int) -> dict[str, Interval | None]:
    """Every figure over the sequences; `kept` is the share of what was learned that is there at the end. Of a stream
    that is on they are those of the last step after which everything learned by then was asked.
    """
    matrices = [_so_far(r) for r in matrices]
    columns = {name: [figure(r) for r in matrices] for name, figure in FIGURES.items()}
    out = {name: interval(values, derive_seed(seed, name)) for name, values in columns.items()}
    gains = [
        (k - b, i - b)
        for b, i, k in zip(columns["base"], columns["immediate"], columns["retained"], strict=True)
        if b is not None and i is not None and k is not None
    ]
    return out | {"kept": _share(gains, derive_seed(seed, "kept"))}


def _so_far(r: Matrix) -> Matrix:
    """The matrix that the stream would have if it ended after that step."""
    if not 1 < len(r) <= len(r[0]):
        return r
    for steps in range(len(r) - 1, 0, -1):
        if all(score is not None for score in r[steps][:steps]):
            return [row[:steps] for row in r[: steps + 1]]
    return r[:1]


def interval(values: Sequence[float | None], seed: int) -> Interval | None:
    """None where no sequence has the figure."""
    known = np.array([v for v in values if v is not None])
    if not len(known):
        return None
    if len(known) == 1:
        return Interval(float(known[0]), None, None, 1)
    means = known[_draws(len(known), seed)].mean(axis=1)
    low, high = _ends(means)
    return Interval(float(known.mean()), low, high, len(known))


def _share(gains: Sequence[tuple[float, float]], seed: int) -> Interval | None:
    """The sum of what is left over the sum of what was learned; nothing where nothing was learned."""
    pairs = np.array(gains).reshape(-1, 2)
    if not len(pairs) or pairs[:, 1].sum() <= 0:
        return None
    mean = float(pairs[:, 0].sum() / pairs[:, 1].sum())
    drawn = pairs[_draws(len(pairs), seed)].sum(axis=1)
    if len(pairs) == 1 or (drawn[:, 1] <= 0).any():
        return Interval(mean, None, None, len(pairs))
    return Interval(mean, *_ends(drawn[:, 0] / drawn[:, 1]), len(pairs))


def curves(matrices: Sequence[Matrix]) -> list[dict[str, float | None]]:
    """For each step, as means over sequences: its own tasks right after it, and all tasks learned by then."""
    steps = range(1, max(map(len, matrices)))
    return [
        {
            "step": i,
            "immediate": _mean([r[i][i - 1] for r in matrices]),
            "retained": _mean([_whole(r[i][:i]) for r in matrices]),
        }
        for i in steps
    ]


def mean_matrix(matrices: Sequence[Matrix]) -> list[list[float | None]]:
    rows, columns = len(matrices[0]), len(matrices[0][0])
    return [[_mean([r[i][j] for r in matrices]) for j in range(columns)] for i in range(rows)]


def _whole(values: Sequence[float | None]) -> float | None:
    """The mean where every value is known: what was not measured must not pass for what was."""
    return None if any(v is None for v in values) else _mean(values)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _draws(count: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, count, (SAMPLES, count))


def _ends(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
