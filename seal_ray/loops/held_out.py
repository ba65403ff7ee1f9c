"""The learning curve: how a version's edits do on tasks that no round learns from.

The same tasks, seeds and recipe every time, and gains in one unit, so that two looks differ by the version alone.
"""

import random
import statistics
from typing import Any

from seal_ray.errors import ConfigError
from seal_ray.events import HeldOutScored, Warned
from seal_ray.grading.reward import RoundRewards
from seal_ray.grading.variance import mean_and_error
from seal_ray.loops import learnable
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.explore import explore
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.history import AFTER, curve
from seal_ray.loops.rewarding import covered, reward
from seal_ray.loops.session import Session, once
from seal_ray.records import Estimate, Json, Task, Version, derive_seed, encode
from seal_ray.storage.ledger import RoundLedger

SALT = 0  # no round has this number: its edits and seeds are nobody else's
LEAST = 2  # held-out tasks


def check(session: Session) -> None:
    """Refuse a curve that has nothing to look at before a run begins: its settings stay what they were then."""
    if session.config.evaluation.every:
        _in_order(session)


def look(session: Session, part: RoundLedger, version: Version, name: str) -> None:
    """Score the version on the held-out tasks, where that is due."""
    section = session.config.evaluation
    if not section.every or (name == AFTER and part.number % section.every and part.number < session.config.run.rounds):
        return

    def scored() -> Json:
        earlier = _earlier(session, part.number, version)
        if earlier:  # the version has not changed, and the same seeds would give the same again
            return earlier
        tasks = _draw(session, part.number)
        with session.phase("evaluation", len(tasks) * (1 + section.edits * section.repeats)):
            plan = Plan(tasks, version, section.edits, section.repeats, context_arm=False, salt=SALT)
            exploration = explore(session, part, plan)
            covered(session, exploration)
        rewarded = reward(session, exploration, scale=_scale(session, part.number))
        # no other look's gain could be compared with a blend that has no unit
        has_unit = rewarded.measure != "blend" or bool(rewarded.scale) or not session.config.grading.blend
        return _figures(version, exploration, rewarded, has_unit)

    known = once(part, name, scored)
    session.tell(HeldOutScored(version.number, known["arms"], known["gain"], known["tried"], known["written"]))


def _earlier(session: Session, number: int, version: Version) -> dict[str, Json] | None:
    for before in range(number, 0, -1):
        for point in reversed(curve(session.ledger.round(before))):
            if point["digest"] == version.digest:
                return {k: v for k, v in point.items() if k != "after"}
    return None


def _until(session: Session, number: int) -> list[dict[str, Json]]:
    return [point for n in range(1, number + 1) for point in curve(session.ledger.round(n))]


def _scale(session: Session, number: int) -> float | None:
    """That of the run's first look that had one: edits that merely become alike gain no more by it. None: this is the
    first such look, or the first one was before looks kept theirs, and each has its own."""
    points = [p for p in _until(session, number) if p["gain"]]
    kept = all("scale" in p for p in points)
    return next((p["scale"] for p in points if p["scale"]), None) if kept else None


def _in_order(session: Session) -> list[Task]:
    """The held-out tasks, in the order in which they are drawn."""
    order = sorted(session.domain.tasks("test"), key=lambda t: t.id)
    if len(order) < LEAST:
        raise ConfigError(
            f"evaluation.every: {session.config.evaluation.every} needs held-out tasks, "
            f"and the split test has {len(order)}",
            hint="raise domain.test, or set evaluation.every: 0",
        )
    random.Random(derive_seed(session.config.run.seed, "held-out")).shuffle(order)
    return order


def _draw(session: Session, number: int) -> tuple[Task, ...]:
    """Those of the first look that are still there; they are drawn where there was none, or hardly any is left."""
    order = _in_order(session)
    asked = learnable.asked(order)
    if len(asked) < LEAST:
        session.tell(Warned(f"{len(asked)} of {len(order)} held-out tasks have questions: the curve says nothing"))
        asked = order
    points, there = _until(session, number), {t.id: t for t in asked}
    looks = [p["drawn"] for p in points] if all("drawn" in p for p in points) else []  # older ones kept none
    for drawn in looks:
        if len(left := [there[t] for t in drawn if t in there]) >= LEAST:
            if gone := len(drawn) - len(left):
                session.tell(Warned(f"{gone} of {len(drawn)} held-out tasks are gone: the curve goes on without them"))
            return tuple(left)
    if looks:
        session.tell(Warned("the held-out tasks are gone and others are drawn: the curve begins anew"))
    return tuple(asked[: session.config.evaluation.tasks])


def _figures(version: Version, exploration: Exploration, rewarded: RoundRewards, gained: bool) -> dict[str, Any]:
    """`gained`: whether gains are told, which need a unit."""
    edits = [e for own in exploration.edits.values() for e in own]
    by_task = _by_task(rewarded, gained)
    gains = [own["gain"] for own in by_task.values() if gained]
    return {
        "version": version.number,
        "digest": version.digest,
        "tasks": len(exploration.plan.tasks),
        "drawn": [t.id for t in exploration.plan.tasks],
        "written": len(edits),
        "tried": len(rewarded.rewards),
        "measure": rewarded.measure,
        "scale": rewarded.scale,
        "arms": {arm: encode(rewarded.arms[arm]) for arm in ("base", "edit")},
        "gain": encode(Estimate(*mean_and_error(gains), len(gains))) if gains else None,
        "diversity": rewarded.diversity,
        "by_task": by_task,
    }


def _by_task(rewarded: RoundRewards, gained: bool) -> dict[str, dict[str, float]]:
    """The mean edit of each task: what pairs two versions, task by task."""
    groups: dict[str, list[Any]] = {}
    for one in rewarded.rewards:
        groups.setdefault(one.task, []).append(one)
    means = {}
    for task, own in sorted(groups.items()):
        means[task] = {"gain": statistics.fmean(r.raw.mean for r in own)} if gained else {}
        means[task]["edits"] = len(own)
        for measure in ("accuracy", "likelihood"):
            known = [getattr(r, measure).mean for r in own if getattr(r, measure)]
            if known:
                means[task][measure] = statistics.fmean(known)
    return means
