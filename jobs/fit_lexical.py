"""Fits the lexical grader to a judge's verdicts, and says how well it agrees with them on titles it has not seen.

    python jobs/fit_lexical.py verdicts_dev.jsonl            prints agreement, kappa and speed
    python jobs/fit_lexical.py verdicts_dev.jsonl --write    also writes seal_ray/grading/lexical.json

Each line of the file is an object with title, question, gold, answer and correct. A logistic model with a ridge of 10
(on standardised numbers) is fitted by Newton's method; cross-validation leaves out a tenth of the titles at a time.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from seal_ray.grading import lexical
from seal_ray.grading.overlap import NAMES, features
from seal_ray.records import derive_seed

RIDGE = 10.0
FOLDS = 10
CASCADES = ((0.02, 0.98), (0.05, 0.95), (0.1, 0.9), (0.2, 0.8))


def fit(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Bias and weights of the ridge logistic model, on the scale of `x`."""
    middle, spread = x.mean(0), x.std(0) + 1e-9
    z = np.c_[np.ones(len(x)), (x - middle) / spread]
    ridge = np.diag([0.0, *[RIDGE] * x.shape[1]])
    weights = np.zeros(z.shape[1])
    for _ in range(50):
        likely = 1 / (1 + np.exp(-z @ weights))
        slope = z.T @ (likely - y) + ridge @ weights
        curve = (z * (likely * (1 - likely))[:, None]).T @ z + ridge
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < 1e-7:
            break
    scaled = weights[1:] / spread
    return float(weights[0] - scaled @ middle), scaled


def agreement(judged: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    """Share of equal verdicts, and Cohen's kappa."""
    same = float((judged == given).mean())
    chance = float(judged.mean() * given.mean() + (1 - judged.mean()) * (1 - given.mean()))
    return same, (same - chance) / (1 - chance)


def cross_validate(x: np.ndarray, y: np.ndarray, titles: list[str], seed: int) -> np.ndarray:
    """The score of each answer by a model that saw no answer of its title."""
    order = sorted(set(titles), key=lambda t: derive_seed(seed, t))
    fold = np.array([order.index(t) % FOLDS for t in titles])
    scores = np.zeros(len(y))
    for left_out in range(FOLDS):
        bias, weights = fit(x[fold != left_out], y[fold != left_out])
        scores[fold == left_out] = 1 / (1 + np.exp(-(bias + x[fold == left_out] @ weights)))
    return scores


def cascade(y: np.ndarray, scores: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """With the judge asked only between low and high: the share of answers it is spared, and agreement with it."""
    asked = (scores >= low) & (scores <= high)
    return float(1 - asked.mean()), float((np.where(asked, y, scores >= 0.5) == y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verdicts", type=Path)
    parser.add_argument("--write", action="store_true", help="write the weights of a fit to all lines")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.verdicts.read_text().splitlines()]
    x = np.array([features(r["question"], r["gold"], r["answer"]) for r in rows])
    y = np.array([r["correct"] for r in rows], dtype=bool)
    titles = [r["title"] for r in rows]
    print(f"{len(rows)} verdicts on {len(set(titles))} titles, {y.mean():.1%} right")

    scores = [cross_validate(x, y, titles, seed) for seed in range(3)]
    figures = [agreement(y, s >= 0.5) for s in scores]
    for name, values in zip(("agreement", "kappa"), zip(*figures, strict=True), strict=True):
        low, high = min(values), max(values)
        print(f"{name:<10} {np.mean(values):.4f}   (by title, {FOLDS} folds, 3 ways: {low:.4f} to {high:.4f})")
    for low, high in CASCADES:
        saved, kept = np.mean([cascade(y, s, low, high) for s in scores], axis=0)
        print(f"cascade    {low:.2f} to {high:.2f} to the judge: {saved:.1%} saved, {kept:.2%} agreement kept")
    if arguments.write:
        bias, weights = fit(x, y)
        model = {
            "recipe": f"jobs/fit_lexical.py: ridge logistic model, {len(rows)} verdicts on {len(set(titles))} titles",
            "agreement": round(float(np.mean([a for a, _ in figures])), 4),
            "kappa": round(float(np.mean([k for _, k in figures])), 4),
            "bias": round(bias, 4),
            "weights": {name: round(float(w), 4) for name, w in zip(NAMES, weights, strict=True)},
        }
        lexical.WEIGHTS.write_text(json.dumps(model, indent=1) + "\n")
        print(f"written: {lexical.WEIGHTS}")
        return
    began = time.process_time()
    for r in rows:
        lexical.score(r["question"], r["gold"], r["answer"])
    print(f"speed      {len(rows) / (time.process_time() - began):,.0f} answers a second on one core")


if __name__ == "__main__":
    main()
