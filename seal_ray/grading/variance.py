"""Where the variance of a round's scores comes from: the edits, the training seeds, or chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Table = Mapping[str, Mapping[int, float]]  # edit -> repeat -> score, of one task

PRIOR = 4.0  # degrees of freedom that the round's noise counts for beside a task's own


@dataclass(frozen=True)
class Variance:
    """Variance components within tasks, pooled over a round. None: too little was repeated to tell."""

    signal: float  # between edits: what would come back on fresh seeds
    noise: float  # of one trial around its edit, after what all edits of a repeat share
    shared: float  # of what all edits of a task share in a repeat (they train with the same seed)
    repeats: float  # per edit, as the harmonic mean

    def reliability(self, repeats: float | None = None) -> float:
        """Share of the variance between edits' means that comes back on fresh seeds, for so many repeats."""
        whole = self.signal + self.noise / (repeats or self.repeats)
        return self.signal / whole if whole > 0 else 0.0


def components(tables: Sequence[Table]) -> Variance | None:
    """The variance components of a round: two-way analysis (edit, repeat) within each task, pooled."""
    fits = [f for f in (_fit(t) for t in tables) if f is not None]
    freedom = sum(f.freedom for f in fits)
    if not freedom:
        return None
    noise = sum(f.residual for f in fits) / freedom
    counts = [len(row) for t in tables for row in t.values() if row]
    return Variance(
        signal=max(0.0, _between([f.edits for f in fits], [f.edit_error for f in fits], noise)),
        noise=noise,
        shared=max(0.0, _between([f.repeats for f in fits], [f.repeat_error for f in fits], noise)),
        repeats=len(counts) / sum(1 / c for c in counts),
    )


def task_noise(table: Table, pooled: Variance) -> float:
    """A task's own noise, drawn towards the round's as its repeats are few."""
    fit = _fit(table)
    if fit is None:
        return pooled.noise
    return (fit.residual + PRIOR * pooled.noise) / (fit.freedom + PRIOR)


def means(table: Table, pooled: Variance | None) -> dict[str, float]:
    """Each edit's mean, as if all had run the same repeats.

    What a repeat's seed does to all edits is taken out where some edits have repeats that others lack, as far as
    the round shows that seeds matter.
    """
    rows = {e: row for e, row in table.items() if row}
    plain = {e: sum(row.values()) / len(row) for e, row in rows.items()}
    if pooled is None or pooled.shared <= 0 or len({frozenset(row) for row in rows.values()}) <= 1:
        return plain
    edits, repeats = list(rows), sorted({r for row in rows.values() for r in row})
    cells = [(edits.index(e), repeats.index(r), y) for e, row in rows.items() for r, y in row.items()]
    size = len(edits) + len(repeats)
    normal, right = np.zeros((size, size)), np.zeros(size)
    for e, r, y in cells:
        for i in (e, len(edits) + r):
            right[i] += y
            for j in (e, len(edits) + r):
                normal[i, j] += 1
    # repeats are drawn from a population with variance `shared`: a ridge on them, none on the edits
    ridge = pooled.noise / pooled.shared + 1e-9
    normal[range(len(edits), size), range(len(edits), size)] += ridge
    solved = np.linalg.solve(normal, right)
    return {e: float(solved[i]) for i, e in enumerate(edits)}


@dataclass(frozen=True)
class _Fit:
    edits: np.ndarray  # effects
    edit_error: float  # mean variance of a difference of two edits' effects, halved, in units of the noise
    repeats: np.ndarray
    repeat_error: float
    residual: float  # sum of squares
    freedom: int


def _fit(table: Table) -> _Fit | None:
    """Edit plus repeat, by least squares over the cells that are there. None: nothing is left to judge chance by."""
    rows = {e: row for e, row in table.items() if row}
    columns = sorted({r for row in rows.values() for r in row})
    cells = [(i, columns.index(r), y) for i, row in enumerate(rows.values()) for r, y in row.items()]
    if len(rows) < 2 or len(columns) < 2:
        return None
    design = np.zeros((len(cells), len(rows) + len(columns)))
    for n, (e, r, _) in enumerate(cells):
        design[n, e] = design[n, len(rows) + r] = 1.0
    scores = np.array([y for _, _, y in cells])
    inverse = np.linalg.pinv(design.T @ design)
    effects = inverse @ design.T @ scores
    freedom = len(cells) - int(np.linalg.matrix_rank(design))
    if freedom <= 0:
        return None
    edits, repeats = effects[: len(rows)], effects[len(rows) :]
    return _Fit(
        edits,
        _difference(inverse[: len(rows), : len(rows)]),
        repeats,
        _difference(inverse[len(rows) :, len(rows) :]),
        float(((scores - design @ effects) ** 2).sum()),
        freedom,
    )


def _difference(covariance: np.ndarray) -> float:
    size = len(covariance)
    return float((np.trace(covariance) - covariance.sum() / size) / (size - 1))


def _between(effects: Sequence[np.ndarray], errors: Sequence[float], noise: float) -> float:
    """Variance of effects within tasks beyond what chance alone gives them, pooled by degrees of freedom."""
    weights = [len(e) - 1 for e in effects]
    spreads = [float(e.var(ddof=1)) - noise * error for e, error in zip(effects, errors, strict=True)]
    return float(sum(w * v for w, v in zip(weights, spreads, strict=True)) / sum(weights))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; the error of a single value is 0, for want of knowledge."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return mean, 0.0
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1) / count)
