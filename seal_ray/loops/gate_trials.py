"""How two versions of the policy compare on tasks that neither has learned from: what the gate is told."""

import random
from collections.abc import Mapping, Sequence

from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.grading.reward import RoundRewards
from seal_ray.loops import learnable
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.explore import explore
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.rewarding import covered, reward
from seal_ray.loops.session import Session, once
from seal_ray.policy.gate import MIN_PAIRED, GateDecision, Measure, decide
from seal_ray.records import Json, Task, Version, derive_seed, encode
from seal_ray.storage.ledger import RoundLedger

RIGHT = 0.5  # a question counts as known if at least this share of its answers is right


def check(session: Session) -> None:
    """Refuse a gate that has nothing to compare by before a run begins: its settings stay what they were then."""
    if session.config.gate.mode != "off":
        _draw(session.domain.tasks("validation"), session.config)
        _guarded(session)


def compared(session: Session, part: RoundLedger, old: Version, new: Version) -> Json:
    """The gate's decision on a new version, made once."""

    def decided() -> Json:
        drift = (part.get("update.json") or {}).get("drift")
        with session.phase("gate"):
            return encode(compare(session, part, old, new, drift))

    return once(part, "gate.json", decided)


def compare(session: Session, part: RoundLedger, old: Version, new: Version, drift: float | None) -> GateDecision:
    """Both versions write edits for the validation tasks; these are tried like any others, with the same seeds."""
    config, gate = session.config, session.config.gate
    tasks = _draw(session.domain.tasks("validation"), config)
    guarded = _guarded(session)
    rewarded: list[RoundRewards] = []
    tried: list[Exploration] = []
    known: list[dict[str, float]] = []
    for version in (old, new):
        plan = Plan(tasks, version, gate.edits, gate.repeats, context_arm=False, salt=part.number)
        exploration = explore(session, part, plan)
        covered(session, exploration)  # what was lost by nobody's fault may come on resume; a decision stays
        rewarded.append(reward(session, exploration))
        tried.append(exploration)
        if guarded:
            alone = Plan(guarded, version, edits=0, repeats=0, context_arm=False, salt=part.number)
            exploration = explore(session, part, alone)
            covered(session, exploration)
        known.append(_baselines(exploration))
    measure = _measure(rewarded, config.grading.blend_of)
    before = {q: s for q, s in known[0].items() if s >= RIGHT}
    old_scores, new_scores = (_scores(own, measure) for own in rewarded)
    if reason := _incomparable(tried, (old_scores, new_scores)):
        return GateDecision("hold" if gate.mode == "hold" else "reject", "reject", {}, (reason,))
    return decide(
        old_scores,
        new_scores,
        regression_old=before,
        regression_new=known[1],
        drift=drift,
        section=gate,
        seed=derive_seed(config.run.seed, part.number, "gate"),
        measure=measure,
    )


def _incomparable(tried: Sequence[Exploration], scores: Sequence[Mapping[str, object]]) -> str:
    """Why the versions can't be compared, now or later: too few tasks have an edit of both that can be learned from.
    Empty where they can be, or where what is missing may come on resume.
    """
    tasks = tried[0].plan.tasks
    both = [t for t in tasks if all(t.id in own for own in scores)]
    if len(both) >= max(2, MIN_PAIRED * len(tasks)):
        return ""
    missing = [[t for t in tasks if t.id not in own] for own in scores]
    if any(one.may_come(t.id) for one, gone in zip(tried, missing, strict=True) for t in gone):
        return ""
    lacks = [f"the {name} version on {len(gone)}" for name, gone in zip(("old", "new"), missing, strict=True) if gone]
    return f"too few of {len(tasks)} validation tasks compare: no edit could be learned from by {', by '.join(lacks)}"


def _draw(tasks: Sequence[Task], config: Config) -> tuple[Task, ...]:
    """The same validation tasks in every round, of those that something is asked about."""
    order = sorted(tasks, key=lambda t: t.id)
    random.Random(derive_seed(config.run.seed, "validation")).shuffle(order)
    asked = learnable.asked(order)
    if len(asked) < 2:
        raise ConfigError(
            f"gate.mode: {config.gate.mode} needs validation tasks, and there are {len(asked)}"
            + (f" with questions, of {len(order)}" if len(order) > len(asked) else ""),
            hint="raise domain.validation, or set gate.mode: off",
        )
    if config.gate.tasks < 2:
        raise ConfigError("gate.tasks: 1, and versions are compared on two tasks at least", hint="raise gate.tasks")
    return tuple(asked[: config.gate.tasks])


def _guarded(session: Session) -> tuple[Task, ...]:
    """The tasks whose questions must not get worse, where they are not the validation tasks themselves."""
    uri, domain = session.config.gate.regression, session.domain
    if not uri:
        return ()
    if not hasattr(domain, "regression"):
        raise ConfigError(
            f"gate.regression: the domain {domain.name} has no regression tasks",
            hint="give it a method regression(uri), or leave gate.regression empty",
        )
    return tuple(domain.regression(uri))


def _measure(rewarded: Sequence[RoundRewards], blend_of: str) -> Measure:
    """What is compared, the same of both versions: the likelihood where rewards are made of it, else accuracy. Edits
    that a blend with the contrast prefers may well be less likely (jobs/LEARNING.md).
    """
    has_likelihood = all(any(r.likelihood for r in own.rewards) for own in rewarded)
    by_accuracy = {"accuracy", "blend"} if blend_of == "contrast" else {"accuracy"}
    return "likelihood" if has_likelihood and any(own.measure not in by_accuracy for own in rewarded) else "accuracy"


def _scores(rewarded: RoundRewards, measure: Measure) -> dict[str, list[float]]:
    """How each edit of a task left the model: not the gain over the baseline, which moves with the version itself."""
    scores: dict[str, list[float]] = {}
    for one in rewarded.rewards:
        estimate = one.accuracy if measure == "accuracy" else one.likelihood
        if estimate is not None:
            scores.setdefault(one.task, []).append(estimate.mean)
    return scores


def _baselines(exploration: Exploration) -> dict[str, float]:
    """What the version knows without any training: how right it is on each question of each task."""
    return {
        f"{candidate.task}/{verdict.question}": verdict.credit
        for candidate in exploration.candidates.values()
        if candidate.kind == "baseline"
        for verdict in exploration.verdicts.get(candidate.id, [])
        if verdict.credit is not None
    }
