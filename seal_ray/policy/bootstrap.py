"""Whether one arm is better than another: means with standard errors over tasks, and the paired bootstrap between arms.

An arm is a way to do the same tasks (no edit, the passage only, the edits of a version). Arms are compared task by
task, so that how hard a task is cancels out. A task that only one of them has says nothing about their difference.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from seal_ray.errors import CoverageError
from seal_ray.records import Estimate

Scores = Mapping[str, float | Sequence[float]]  # task -> score, or the scores of its edits
SAMPLES = 10_000
NOISE = 1e-9  # a difference under this is one of rounding: the mean of three times 0.2 is not 0.2
MANY = 300  # clusters, of which the normal approximation says the same as the bootstrap


@dataclass(frozen=True)
class Difference:
    """By how much the second arm is above the first, with an interval from the paired bootstrap over tasks."""

    mean: float
    error: float
    low: float
    high: float
    confidence: float
    better: float  # share of the bootstrap in which the second arm is the better one
    tasks: int
    unpaired: int  # tasks that only one arm has


def per_task(scores: Scores) -> dict[str, float]:
    """One number for each task: the mean over its edits. A task without any has no number."""
    means = {}
    for task, values in scores.items():
        numbers = [float(v) for v in values] if isinstance(values, Sequence) else [float(values)]
        if not all(math.isfinite(v) for v in numbers):
            raise CoverageError(f"task {task} has a score that is not a number", hint="look at its trials and verdicts")
        if numbers:
            means[task] = sum(numbers) / len(numbers)
    return means


def estimate(scores: Scores) -> Estimate:
    """Mean and standard error over tasks. With fewer than two tasks the error is not known and given as infinite."""
    values = np.array(list(per_task(scores).values()))
    if not len(values):
        raise CoverageError("an arm without a single score can't be summed up", hint="look at what failed")
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
    return Estimate(float(values.mean()), error, len(values))


def paired(first: Scores, second: Scores, *, seed: int, confidence: float = 0.95, samples: int = SAMPLES) -> Difference:
    """Second minus first, over the tasks that both have."""
    a, b = per_task(first), per_task(second)
    common = sorted(a.keys() & b.keys())
    if len(common) < 2:
        raise CoverageError(
            f"two arms have {len(common)} tasks in common, and a comparison needs 2 or more",
            hint="look at what failed, or compare on more tasks",
        )
    gains = np.array([b[t] - a[t] for t in common])
    random = np.random.Generator(np.random.PCG64(seed))
    means = gains[random.integers(0, len(gains), (samples, len(gains)))].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(
        mean=float(gains.mean()),
        error=float(gains.std(ddof=1) / math.sqrt(len(gains))),
        low=float(low),
        high=float(high),
        confidence=confidence,
        better=float(((means > NOISE) + 0.5 * (abs(means) <= NOISE)).mean()),
        tasks=len(common),
        unpaired=len(a.keys() ^ b.keys()),
    )


def clustered(
    values: Sequence[float], clusters: Sequence[Hashable], *, seed: int, confidence: float = 0.9, samples: int = 2000
) -> tuple[float, float] | None:
    """The interval of the mean of values that are not independent, such as answers to questions about one task: what is
    drawn are clusters, each with all that is in it. None of a single one."""
    index = {cluster: n for n, cluster in enumerate(dict.fromkeys(clusters))}
    if len(index) < 2:
        return None
    of = [index[cluster] for cluster in clusters]
    sums, counts, tail = np.bincount(of, weights=values), np.bincount(of), (1 - confidence) / 2
    if len(index) > MANY:
        mean = sums.sum() / len(of)
        error = float(np.std(sums - mean * counts, ddof=1)) * math.sqrt(len(index)) / len(of)
        reach = NormalDist().inv_cdf(1 - tail) * error
        return float(mean) - reach, float(mean) + reach
    drawn = np.random.default_rng(seed).integers(0, len(index), (samples, len(index)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def table(arms: Mapping[str, Scores], *, against: str, seed: int) -> dict[str, dict[str, object]]:
    """For each arm its mean, and its difference from the arm `against`. What can't be compared says why."""
    rows: dict[str, dict[str, object]] = {}
    for name, scores in arms.items():
        row: dict[str, object] = {}
        try:
            row["mean"] = estimate(scores)
            if name != against:
                row["difference"] = paired(arms[against], scores, seed=seed)
        except CoverageError as error:
            row["missing"] = error.message
        rows[name] = row
    return rows
