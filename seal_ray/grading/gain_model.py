"""A model of gain: from what an edit looks like to what training on it will bring, with the error of that.

A ridge regression of gains on cheap features, both taken relative to the edits of the same task: what makes a task easy
is not what makes an edit good. How far it can be trusted is measured on tasks that were left out, one after the other.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_EDITS, LEAST_TASKS = 40, 6  # below, nothing is fitted
LEAST_AGREEMENT = 0.1  # below, nobody is dropped by its predictions
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
Features = Mapping[str, float]


@dataclass(frozen=True)
class TriedEdit:
    """An edit that was tried."""

    task: str  # with its round and run: edits are compared where they were tried side by side
    features: Features
    gain: float


@dataclass(frozen=True)
class GainModel:
    """Plain data, kept in the ledger of the round that it was fitted for."""

    base: str  # digest of the base model whose edits it knows
    measure: str  # what the gains are made of
    names: tuple[str, ...]
    weights: tuple[float, ...]  # of the features as they are
    level: float  # the mean gain
    error: float  # of a prediction, on tasks that were left out
    agreement: float  # correlation with the gain between a task's edits, on tasks that were left out
    edits: int
    tasks: int


@dataclass(frozen=True)
class Calibration:
    """What a model has predicted beside what came of it."""

    edits: int
    correlation: float | None  # between the edits of a task
    error: float  # root of the mean square, between the edits of a task
    spread: float  # the same of the gains: an error that is no smaller predicts nothing


def fit(samples: Sequence[TriedEdit], base: str, measure: str) -> GainModel | str:
    """The model, or why there is none."""
    by_task: dict[str, list[TriedEdit]] = defaultdict(list)
    for sample in samples:
        by_task[sample.task].append(sample)
    groups = [own for _, own in sorted(by_task.items()) if len(own) > 1]
    count = sum(map(len, groups))
    if count < LEAST_EDITS or len(groups) < LEAST_TASKS:
        return (
            f"a model of gain wants {LEAST_EDITS} tried edits of {LEAST_TASKS} tasks, "
            f"and there are {count} of {len(groups)}"
        )
    names = tuple(sorted({name for own in groups for s in own for name in s.features}))
    tables = [_centred(np.array([[s.features.get(n, 0.0) for n in names] for s in own])) for own in groups]
    gains = [_centred(np.array([s.gain for s in own])) for own in groups]
    scale = np.sqrt(sum((t**2).sum(axis=0) for t in tables) / count)
    scale[scale < 1e-9] = np.inf  # what never differs within a task tells nothing
    tables = [t / scale for t in tables]
    ridge, predicted = min(
        ((r, _left_out(tables, gains, r)) for r in RIDGES), key=lambda tried: _squares(tried[1], gains)
    )
    products, rights = _sums(tables, gains)
    weights = _solve(np.sum(products, axis=0), np.sum(rights, axis=0), ridge)
    return GainModel(
        base,
        measure,
        names,
        tuple(float(w) for w in weights / scale),
        float(np.mean([s.gain for own in groups for s in own])),
        math.sqrt(_squares(predicted, gains) / count),
        _correlation(predicted, gains) or 0.0,
        count,
        len(groups),
    )


def predict(model: GainModel, edits: Mapping[str, Features]) -> dict[str, float]:
    """The gain of each of a task's edits."""
    if not edits:
        return {}
    table = _centred(np.array([[own.get(n, 0.0) for n in model.names] for own in edits.values()]))
    values = model.level + table @ np.array(model.weights)
    return {edit: float(value) for edit, value in zip(edits, values, strict=True)}


def unpromising(
    model: GainModel, edits: Mapping[str, Features], drop: float, spare: float, seed: int
) -> dict[str, str]:
    """Which of a task's edits are dropped, each with its reason.

    A share of them by what is predicted; of these a share is spared by chance, so that the model goes on to see what it
    thinks little of. Two are always left. Nobody is dropped by a model that can't tell edits apart.
    """
    if model.agreement < LEAST_AGREEMENT:
        return {}
    predicted = predict(model, edits)
    ranked = sorted(predicted, key=lambda e: (-predicted[e], e))
    left = max(2, math.ceil((1 - drop) * len(ranked) - 1e-9))  # (1 - 0.7) * 10 comes out a little above 3
    luck = random.Random(seed)
    reason = "predicted gain {:+.3g} ± {:.2g}, place {} of {}"
    return {
        edit: reason.format(predicted[edit], model.error, place, len(ranked))
        for place, edit in enumerate(ranked[left:], left + 1)
        if luck.random() >= spare
    }


def calibrated(predicted: Sequence[Mapping[str, float]], gains: Sequence[Mapping[str, float]]) -> Calibration | None:
    """By task, what was predicted of edits and what came of them. None where no task has two of them."""
    pairs = [[(p[e], g[e]) for e in p if e in g] for p, g in zip(predicted, gains, strict=True)]
    tables = [np.array(own) for own in pairs if len(own) > 1]
    if not tables:
        return None
    said, came = ([_centred(t[:, column]) for t in tables] for column in (0, 1))
    count = sum(map(len, tables))
    error, spread = _squares(said, came), sum(float((c**2).sum()) for c in came)
    return Calibration(count, _correlation(said, came), math.sqrt(error / count), math.sqrt(spread / count))


def _left_out(tables: Sequence[np.ndarray], gains: Sequence[np.ndarray], ridge: float) -> list[np.ndarray]:
    """What is predicted of each task by a model that has not seen it."""
    products, rights = _sums(tables, gains)
    whole, right = np.sum(products, axis=0), np.sum(rights, axis=0)
    return [t @ _solve(whole - p, right - r, ridge) for t, p, r in zip(tables, products, rights, strict=True)]


def _sums(tables: Sequence[np.ndarray], gains: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What each task adds to the two sides of the normal equations."""
    return [t.T @ t for t in tables], [t.T @ g for t, g in zip(tables, gains, strict=True)]


def _solve(products: np.ndarray, right: np.ndarray, ridge: float) -> np.ndarray:
    return np.linalg.solve(products + ridge * np.eye(len(right)), right)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=0)


def _squares(predicted: Sequence[np.ndarray], gains: Sequence[np.ndarray]) -> float:
    return sum(float(((p - g) ** 2).sum()) for p, g in zip(predicted, gains, strict=True))


def _correlation(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float | None:
    a, b = np.concatenate(one), np.concatenate(other)
    size = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / size) if size > 1e-12 else None
