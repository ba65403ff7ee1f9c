"""From rewards to choices: which edits the policy learns from, how strongly, and why.

Every algorithm has the same face, `(rewards, section) -> choices`. A reward is an estimate: an edit counts as better
than its baseline only if it beats it by more than `margin` standard errors. A task where nothing does gives nothing.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seal_ray.config import SelectSection
from seal_ray.errors import ConfigError, DataError
from seal_ray.policy.bootstrap import NOISE
from seal_ray.records import Choice, Estimate, Reward, derive_seed

DIGITS = 9  # of a reward, in which a tie is told: beyond them it is rounding (`NOISE`)


def choose(rewards: Sequence[Reward], section: SelectSection) -> list[Choice]:
    """What to learn from, by the configured algorithm. The order of `rewards` makes no difference."""
    return _algorithm(section)(rewards, section)


def rest_em(rewards: Sequence[Reward], section: SelectSection) -> list[Choice]:
    """Imitate the kept edits, each with weight 1 (filtered behaviour cloning).

    Assumes that the edits were sampled from the current version and that keeping is rare enough to carry signal. It
    never teaches away from anything, which makes it the steadiest. `best` keeps one edit a task and assumes that its
    rank is more than luck: with noisy rewards the best of many is mostly the luckiest; raise `margin` or the repeats.
    """
    chosen = []
    for task, group in _by_task(rewards):
        kept = [r for r in group if _passes(r, section)]
        if section.rule == "best":
            kept = kept[:1]
        elif section.rule == "top_k":
            kept = kept[: section.top_k]
        for rank, reward in enumerate(kept, 1):
            chosen.append(
                Choice(task, reward.edit, 1.0, f"{section.rule}, rank {rank} of {len(group)}: {_gain(reward)}")
            )
    return chosen


def weighted(rewards: Sequence[Reward], section: SelectSection) -> list[Choice]:
    """Imitate every edit that beats its baseline, in proportion to its gain; the weights of a round have mean 1.

    Assumes that gains of different tasks are on one scale. Edits that lose get no weight rather than a negative one:
    making a text less likely has no lower bound and undoes the model.
    """
    kept = [r for _, group in _by_task(rewards) for r in group if _passes_baseline(r, section)]
    mean = statistics.fmean(r.value.mean for r in kept) if kept else 1.0
    return [Choice(r.task, r.edit, r.value.mean / mean, f"weight from {_gain(r)}", algorithm="weighted") for r in kept]


def pairs(rewards: Sequence[Reward], section: SelectSection) -> list[Choice]:
    """Prefer a task's best edit to its worst.

    Assumes that both come from the current version, whose own likelihood is the reference, and that the better one is
    worth writing at all: it must beat the baseline, and its opponent by more than `margin` standard errors of the
    difference.
    """
    chosen = []
    for task, group in _by_task(rewards):
        best, worst = group[0], group[-1]
        if _passes_baseline(best, section) and _apart(best, worst, section):
            reason = f"{_gain(best)} against {_gain(worst)}"
            chosen.append(Choice(task, best.edit, 1.0, reason, against=worst.edit, algorithm="pairs"))
    return chosen


def grpo(rewards: Sequence[Reward], section: SelectSection) -> list[Choice]:
    """Every edit of a task, weighted by its reward's distance from the task's mean in standard deviations.

    Assumes several edits a task, all from the current version, with the log-probabilities that they were sampled with.
    The baseline plays no part: it cancels within a task. A task whose edits are not further apart than `margin`
    standard errors, best against worst, gives nothing.
    """
    chosen = []
    for task, group in _by_task(rewards):
        if not _apart(group[0], group[-1], section):
            continue
        values = [r.value.mean for r in group]
        mean, spread = statistics.fmean(values), statistics.pstdev(values)
        for reward in group:
            weight = (reward.value.mean - mean) / spread
            if weight:
                reason = f"advantage {weight:+.2f} from {_gain(reward)}"
                chosen.append(Choice(task, reward.edit, weight, reason, algorithm="grpo"))
    return chosen


ALGORITHMS: dict[str, Callable[[Sequence[Reward], SelectSection], list[Choice]]] = {
    "rest_em": rest_em,
    "weighted": weighted,
    "pairs": pairs,
    "grpo": grpo,
}


def abstentions(rewards: Sequence[Reward], section: SelectSection) -> dict[str, str]:
    """For every task that has rewards but no choice: why there is none."""
    with_choice = {c.task for c in choose(rewards, section)}
    return {t: _why_nothing(group, section) for t, group in _by_task(rewards) if t not in with_choice}


@dataclass(frozen=True)
class Kept:
    """How the chosen edits did, as the mean over tasks: the arm `kept` beside baseline, context and mean edit."""

    edits: int
    tasks: int
    gain: Estimate | None
    accuracy: Estimate | None
    likelihood: Estimate | None


def kept(rewards: Sequence[Reward], choices: Sequence[Choice]) -> Kept:
    """The arm of the edits that are learned from. It is chosen by these same rewards, so it flatters itself."""
    taken = {c.edit for c in choices if c.weight > 0}
    chosen = [r for r in rewards if r.edit in taken]

    def over_tasks(pick: Callable[[Reward], Estimate | None]) -> Estimate | None:
        means = []
        for _, group in _by_task(chosen):
            values = [e.mean for e in map(pick, group) if e is not None]
            if values:
                means.append(statistics.fmean(values))
        if not means:
            return None
        error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0
        return Estimate(statistics.fmean(means), error, len(means))

    return Kept(
        edits=len(chosen),
        tasks=len({r.task for r in chosen}),
        gain=over_tasks(lambda r: r.value),
        accuracy=over_tasks(lambda r: r.accuracy),
        likelihood=over_tasks(lambda r: r.likelihood),
    )


def _algorithm(section: SelectSection) -> Callable[[Sequence[Reward], SelectSection], list[Choice]]:
    if section.algorithm not in ALGORITHMS:
        raise ConfigError(
            f"select.algorithm: there is no {section.algorithm!r}", hint=f"use one of {', '.join(ALGORITHMS)}"
        )
    return ALGORITHMS[section.algorithm]


def _by_task(rewards: Sequence[Reward]) -> list[tuple[str, list[Reward]]]:
    """The edits of each task, best first. A tie goes to the likelier answers, then to a number drawn from the edit."""
    groups: dict[str, list[Reward]] = {}
    for reward in rewards:
        if not math.isfinite(reward.value.mean) or not math.isfinite(reward.value.error):
            raise DataError(
                f"the reward of edit {reward.edit} (task {reward.task}) is {reward.value.mean} ± {reward.value.error}",
                hint="a failure must not become a reward; look at the edit's trials",
            )
        groups.setdefault(reward.task, []).append(reward)
    return [(task, sorted(groups[task], key=_rank)) for task in sorted(groups)]


def _rank(reward: Reward) -> tuple[float, float, int, str]:
    likelihood = reward.likelihood.mean if reward.likelihood else -math.inf
    return -round(reward.value.mean, DIGITS), -round(likelihood, DIGITS), derive_seed("tie", reward.edit), reward.edit


def _passes(reward: Reward, section: SelectSection) -> bool:
    if section.rule == "threshold":
        return reward.value.mean - section.margin * reward.value.error > section.threshold + NOISE
    return _passes_baseline(reward, section)


def _passes_baseline(reward: Reward, section: SelectSection) -> bool:
    return reward.value.mean > section.margin * reward.value.error + NOISE


def _apart(best: Reward, worst: Reward, section: SelectSection) -> bool:
    error = math.hypot(best.value.error, worst.value.error)
    return best.value.mean - worst.value.mean > section.margin * error + NOISE


def _gain(reward: Reward) -> str:
    return f"gain {reward.value.mean:+.3f} ± {reward.value.error:.3f}"


def _why_nothing(group: Sequence[Reward], section: SelectSection) -> str:
    best, worst = group[0], group[-1]
    if section.algorithm == "grpo" or (section.algorithm == "pairs" and _passes_baseline(best, section)):
        if len(group) < 2:
            return "only one edit has a reward, nothing to compare it with"
        return f"the edits are too alike: best {_gain(best)}, worst {_gain(worst)}"
    if section.algorithm == "rest_em" and section.rule == "threshold":
        return f"no edit's lower bound passes {section.threshold}: best {_gain(best)}"
    return f"no edit beats the baseline by more than {section.margin:g} standard errors: best {_gain(best)}"
