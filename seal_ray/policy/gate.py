"""Whether a new version may become current: it must write edits that are no worse, and it must not forget.

This is the rule; `loops.gate_trials` tries both versions. It looks at validation tasks that were never trained on (each
tried with edits of the old and of the new version), at questions that must not get worse, and at how far the model has
moved.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from seal_ray.config import GateSection
from seal_ray.errors import CoverageError
from seal_ray.policy.bootstrap import NOISE, Scores, paired, per_task
from seal_ray.records import Json

Measure = Literal["accuracy", "likelihood", "knowledge"]

MIN_PAIRED = 0.5  # share of the validation tasks that both versions must have a result for


@dataclass(frozen=True)
class GateDecision:
    """What becomes of a new version. With `hold`, `advice` is what the rule would have said."""

    decision: Literal["accept", "reject", "hold"]
    advice: Literal["accept", "reject"]
    figures: Mapping[str, Json]
    reasons: tuple[str, ...]


def decide(
    old: Scores,
    new: Scores,
    regression_old: Mapping[str, float],
    regression_new: Mapping[str, float],
    drift: float | None,
    section: GateSection,
    seed: int,
    measure: Measure = "accuracy",
) -> GateDecision:
    """Compare two versions by the configured rule.

    `old` and `new` hold, for each validation task, how well the model does after training on each of its edits: by
    `measure` a share of questions, nats per token of the right answers, or what is known of a question, in [0, 1]. It
    is not the gain over the baseline, which moves with the version itself. `regression_old` and `regression_new` hold
    how right each version is, in [0, 1], on each question that must not get worse; none at all leaves that part out.
    `drift` is how far the new version is from the base model in nats per token, None where it was not measured.
    """
    if section.mode == "off":
        return GateDecision("accept", "accept", {}, ("gate.mode is off: every version is accepted",))
    gain = paired(old, new, seed=seed, confidence=section.confidence)
    if gain.tasks < MIN_PAIRED * (gain.tasks + gain.unpaired):
        raise CoverageError(
            f"only {gain.tasks} of {gain.tasks + gain.unpaired} validation tasks have a result for both versions",
            hint="look at what failed; the same command tries what is missing",
        )
    figures: dict[str, Json] = {
        "measure": measure,
        "gain": gain.mean,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "confidence": gain.confidence,
        "better": gain.better,
        "tasks": gain.tasks,
        "unpaired": gain.unpaired,
        "old": _mean(old),
        "new": _mean(new),
        "drift": drift,
    }
    against: list[str] = []
    if gain.mean < section.min_gain - NOISE:
        against.append(f"the gain over the old version is {gain.mean:+.3f}, under min_gain {section.min_gain:g}")
    if gain.low < -section.tolerance - NOISE:
        against.append(
            f"the loss may be as large as {-gain.low:.3f} (lower end at {section.confidence:.0%}), "
            f"over tolerance {section.tolerance:g}"
        )
    lost = _lost(regression_old, regression_new)
    if lost is not None:
        figures |= {"regression_lost": lost, "regression_questions": len(regression_old)}
        if lost > section.max_regression + NOISE:
            against.append(f"{lost:.1%} of the regression questions are lost, over {section.max_regression:.1%}")
    if drift is not None and drift > section.max_kl:
        against.append(f"drift from the base is {drift:.3f} nats per token, over max_kl {section.max_kl:g}")
    advice = "reject" if against else "accept"
    interval = f"gain {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) on {gain.tasks} tasks"
    reasons = [*against, interval] if against else [interval, "nothing measured speaks against it"]
    if drift is None:
        reasons.append("drift from the base was not measured, so max_kl had no say")
    return GateDecision("hold" if section.mode == "hold" else advice, advice, figures, tuple(reasons))


def _lost(old: Mapping[str, float], new: Mapping[str, float]) -> float | None:
    """The share of regression score that is gone. A question that could not be graded again is no loss."""
    common = old.keys() & new.keys()
    if not old:
        return None
    if len(common) < MIN_PAIRED * len(old):
        raise CoverageError(
            f"only {len(common)} of {len(old)} regression questions have a verdict for the new version",
            hint="look at what failed; the same command tries what is missing",
        )
    before, after = sum(old[q] for q in common), sum(new[q] for q in common)
    return (before - after) / len(common)


def _mean(scores: Scores) -> float:
    values = list(per_task(scores).values())
    return math.fsum(values) / len(values)
