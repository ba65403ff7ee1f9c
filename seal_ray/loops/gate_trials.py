"""How two versions of the policy compare on tasks that neither has learned from: what the gate is told."""

import random
from collections.abc import Sequence

from seal_ray.config import Config
from seal_ray.domains import configured
from seal_ray.errors import ConfigError
from seal_ray.grading.reward import RoundRewards
from seal_ray.loops.exploration import Exploration, Plan, explore
from seal_ray.loops.rewarding import reward
from seal_ray.loops.session import Session
from seal_ray.policy.gate import GateDecision, decide
from seal_ray.records import Task, Version, derive_seed
from seal_ray.storage.ledger import RoundLedger

RIGHT = 0.5  # a question counts as answered from this score up


def compare(session: Session, part: RoundLedger, old: Version, new: Version, drift: float | None) -> GateDecision:
    """Both versions write edits for the validation tasks; these are tried like any others, with the same seeds."""
    config, gate = session.config, session.config.gate
    tasks = _draw(session.domain.tasks("validation"), config)
    guarded = _regression(config, session.chat)
    scores: list[dict[str, list[float]]] = []
    known: list[dict[str, float]] = []
    for version in (old, new):
        plan = Plan(tasks, version, gate.edits, gate.repeats, context_arm=False, salt=part.number)
        exploration = explore(session, part, plan)
        scores.append(_scores(reward(session, exploration)))
        if guarded:
            alone = Plan(guarded, version, edits=0, repeats=0, context_arm=False, salt=part.number)
            exploration = explore(session, part, alone)
        known.append(_baselines(exploration))
    before = {q: s for q, s in known[0].items() if s >= RIGHT}
    seed = derive_seed(config.run.seed, part.number, "gate")
    return decide(scores[0], scores[1], before, known[1], drift, gate, seed)


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


def _scores(rewarded: RoundRewards) -> dict[str, list[float]]:
    """How each edit of a task left the model: not the gain over the baseline, which moves with the version itself."""
    scores: dict[str, list[float]] = {}
    for one in rewarded.rewards:
        estimate = one.accuracy if rewarded.measure == "accuracy" else one.likelihood or one.accuracy
        if estimate is not None:
            scores.setdefault(one.task, []).append(estimate.mean)
    return scores


def _baselines(exploration: Exploration) -> dict[str, float]:
    """What the version knows without any training: the score of each question."""
    alone = {c.id for c in exploration.candidates.values() if c.kind == "baseline"}
    return {
        f"{v.question}": v.score
        for candidate in alone
        for v in exploration.verdicts.get(candidate, [])
        if v.score is not None and not v.failure
    }
