"""How two versions of the policy compare on tasks that neither has learned from: what the gate is told."""

import random
from collections.abc import Callable, Sequence

from seal_ray.config import Config
from seal_ray.domains import configured
from seal_ray.domains.base import Domain
from seal_ray.errors import ConfigError
from seal_ray.grading.reward import RoundRewards
from seal_ray.loops.exploration import Exploration, Plan
from seal_ray.policy.gate import GateDecision, decide
from seal_ray.records import Task, Version, derive_seed

RIGHT = 0.5  # a question counts as answered from this score up


def compare(
    explore: Callable[[Plan], Exploration],
    value: Callable[[Exploration], RoundRewards],
    *,
    config: Config,
    domain: Domain,
    number: int,
    old: Version,
    new: Version,
    drift: float | None,
    chat: bool,
) -> GateDecision:
    """Both versions write edits for the validation tasks; these are tried like any others, with the same seeds."""
    tasks = _draw(domain.tasks("validation"), config)
    guarded = _regression(config, chat)
    scores: list[dict[str, list[float]]] = []
    known: list[dict[str, float]] = []
    for version in (old, new):
        found = explore(Plan(number, version, tasks, config.gate.edits, config.gate.repeats, context_arm=False))
        scores.append(_scores(value(found)))
        if guarded:
            found = explore(Plan(number, version, guarded, 0, 0, context_arm=False))
        known.append(_baselines(found))
    before = {q: s for q, s in known[0].items() if s >= RIGHT}
    seed = derive_seed(config.run.seed, number, "gate")
    return decide(scores[0], scores[1], before, known[1], drift, config.gate, seed)


def _draw(tasks: Sequence[Task], config: Config) -> tuple[Task, ...]:
    """The same validation tasks in every round."""
    if len(tasks) < 2:
        raise ConfigError(
            f"gate.mode: {config.gate.mode} needs validation tasks, and there are {len(tasks)}",
            hint="raise domain.validation, or set gate.mode: off",
        )
    order = sorted(tasks, key=lambda t: t.id)
    random.Random(derive_seed(config.run.seed, "validation")).shuffle(order)
    return tuple(order[: config.gate.tasks])


def _regression(config: Config, chat: bool) -> tuple[Task, ...]:
    if not config.gate.regression:
        return ()
    changes = {"data": config.gate.regression, "validation": 0.0, "test": 0.0}
    domain = configured(config.model_copy(update={"domain": config.domain.model_copy(update=changes)}), chat)
    return tuple(domain.tasks("train"))


def _scores(worth: RoundRewards) -> dict[str, list[float]]:
    """How each edit of a task left the model: not the gain over the baseline, which moves with the version itself."""
    found: dict[str, list[float]] = {}
    for reward in worth.rewards:
        estimate = reward.accuracy if worth.measure == "accuracy" else reward.likelihood or reward.accuracy
        if estimate is not None:
            found.setdefault(reward.task, []).append(estimate.mean)
    return found


def _baselines(found: Exploration) -> dict[str, float]:
    """What the version knows without any training: the score of each question."""
    alone = {c.id for c in found.candidates.values() if c.kind == "baseline"}
    return {
        f"{v.question}": v.score
        for candidate in alone
        for v in found.verdicts.get(candidate, [])
        if v.score is not None and not v.failure
    }
