"""From trials and verdicts to rewards with uncertainty: what each edit is worth, and how far that can be trusted."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seal_ray.config import GradingSection
from seal_ray.grading.columns import Column, columns_by_measure, plain, unit
from seal_ray.grading.diversity import diversity
from seal_ray.grading.gain_model import Calibration
from seal_ray.grading.measure import RUBRIC, Measured, measure
from seal_ray.grading.racing import Standing, more_repeats
from seal_ray.grading.variance import Table, Variance, components, mean_and_error, means, task_noise
from seal_ray.grading.votes import Election, Votes, VoteTally, tally
from seal_ray.records import Candidate, Edit, Estimate, Reward, TaskScore, Trial, Verdict

__all__ = ["RoundRewards", "more_repeats", "rewards"]

LEAST_EDITS = 12  # over fewer a correlation of reward and accuracy is not worth a warning
LEAST_TRUST = 0.05  # an edit's own mean always counts a little, so that shrinkage never makes all edits of a task equal


@dataclass(frozen=True)
class RoundRewards:
    """A round's rewards and all that says how good they are. Plain data, kept in the ledger."""

    rewards: tuple[Reward, ...]
    scores: tuple[TaskScore, ...]  # baselines and contexts
    reliability: dict[str, float | None]  # accuracy, likelihood, blend; None: not repeated enough to tell
    arms: dict[str, dict[str, Estimate | None]]  # base, context, edit -> accuracy, likelihood, over tasks
    measure: str  # what the rewards' values are: accuracy, likelihood, contrast, blend, vote, rubric
    standings: tuple[Standing, ...]  # what is known of each edit, for asking for more repeats
    diversity: float | None = None  # of the edits of a task, mean over tasks
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None  # of the model of gain, where the round has one
    agreement: float | None = None  # correlation of reward and accuracy between the edits of a task, pooled
    votes: VoteTally | None = None  # with reward: vote
    elections: tuple[Election, ...] = ()
    scale: float | None = None  # of a blend: how much accuracy a unit of its other part counts as; None: nothing tells


def rewards(
    edits: Sequence[Edit],
    candidates: Sequence[Candidate],
    trials: Sequence[Trial],
    verdicts: Sequence[Verdict],
    *,
    section: GradingSection,
    votes: Votes | None = None,
    scale: float | None = None,
) -> RoundRewards:
    """What each edit is worth. An edit without a trial that worked, or without its task's baseline, has no reward.

    `votes`: what is right, with reward: vote. A task in which they elected nothing has no reward.
    `scale`: of a blend, where it is to be compared with an earlier one; else these trials' own.
    """
    if section.reward == "vote":
        votes = votes or Votes()
    measured = measure(candidates, trials, verdicts, section.grader, votes, whole=section.contrast == "answer")
    counted = tally(votes.elections) if votes else None
    notes = _without_a_winner(counted)
    scale = scale or unit(measured, section)
    columns = columns_by_measure(measured, section, scale or 1.0, voted=votes is not None)
    pooled = {name: components([c.table for c in column.values()]) for name, column in columns.items()}
    wanted = _available(section.reward, columns, notes)
    if section.reward == "rubric":
        made, standings = _rubric(edits, verdicts, notes), []
    else:
        made, standings = _gained(edits, candidates, measured, columns, pooled, wanted, notes)
    agreement, among = agrees(made)
    notes += _against_accuracy(agreement, among, wanted)
    return RoundRewards(
        rewards=tuple(sorted(made, key=lambda r: (r.task, r.slot, r.edit))),
        scores=tuple(_scores(measured)),
        reliability={name: round(p.reliability(), 4) if p else None for name, p in pooled.items()},
        arms=_arms(columns),
        measure=section.reward if section.reward == "rubric" else wanted,
        standings=tuple(standings),
        diversity=_spread(edits),
        notes=tuple(notes),
        agreement=agreement,
        votes=counted,
        elections=votes.elections if votes else (),
        scale=scale if wanted == "blend" else None,
    )


def _gained(
    edits: Sequence[Edit],
    candidates: Sequence[Candidate],
    measured: Sequence[Measured],
    columns: Mapping[str, Mapping[str, Column]],
    pooled: Mapping[str, Variance | None],
    wanted: str,
    notes: list[str],
) -> tuple[list[Reward], list[Standing]]:
    """Rewards made of what edits gain over their task's baseline by the wanted measure, and what is known of each."""
    slots = {e.id: e.slot for e in edits}
    following = _following(candidates)
    made, standings = [], []
    for task, column in columns.get(wanted, {}).items():
        if column.base is None:
            notes.append(f"{task}: its baseline has no {wanted}, so its edits have no reward")
            continue
        valued = _task(task, column, column.base, pooled[wanted], measured, wanted)
        for edit, (value, raw, noise) in valued.items():
            likelihood = plain(columns["likelihood"].get(task), edit, pooled["likelihood"])
            accuracy = plain(columns["accuracy"].get(task), edit, pooled["accuracy"])
            made.append(Reward(edit, task, slots.get(edit, 0), value, raw, accuracy, likelihood))
            standings.append(
                Standing(edit, task, len(column.table[edit]), following[edit], value.mean, value.error, noise)
            )
    if not pooled.get(wanted):
        notes += _unknown_errors(columns.get(wanted, {}), measured)
    return made, standings


def _spread(edits: Sequence[Edit]) -> float | None:
    """How unlike each other the edits of a task are, mean over tasks."""
    texts: dict[str, list[str]] = defaultdict(list)
    for edit in edits:
        if not edit.failure:
            texts[edit.task].append(str(edit.content if edit.content is not None else edit.text))
    spreads = [d for d in map(diversity, texts.values()) if d is not None]
    return sum(spreads) / len(spreads) if spreads else None


def _without_a_winner(votes: VoteTally | None) -> list[str]:
    if not votes or votes.elected == votes.questions:
        return []
    return [
        f"{votes.questions - votes.elected} of {votes.questions} questions elect no answer ({votes.tied} tied, "
        f"{votes.unread} with nothing to read) and count nowhere"
    ]


def _unknown_errors(columns: Mapping[str, Column], measured: Sequence[Measured]) -> list[str]:
    """Where nothing was repeated and there are no several questions to go by, chance can't be told from worth."""
    asked: dict[str, set[str]] = defaultdict(set)
    for m in measured:
        asked[m.task] |= m.correct.keys() | m.likely.keys() | m.voted.keys()
    once = {t for t, c in columns.items() if c.base is not None and c.table and max(map(len, c.table.values())) == 1}
    alone = [task for task in once if len(asked[task]) < 2]
    if not alone:
        return []
    return [
        f"{len(alone)} of {len(columns)} tasks have one question, and their edits one repeat each: how much of a "
        "reward is chance can't be told, so its error is given as 0; raise inner.repeats"
    ]


def _against_accuracy(agreement: float | None, among: int, wanted: str) -> list[str]:
    if agreement is None or agreement >= 0 or among < LEAST_EDITS:
        return []
    return [
        f"the reward ({wanted}) moves against accuracy: correlation {agreement:.2f} between the edits of a task, "
        f"over {among} edits; it may reward what does not help to answer"
    ]


def agrees(rewarded: Sequence[Reward]) -> tuple[float | None, int]:
    """How reward and accuracy go together between the edits of a task, pooled over tasks; and over how many edits."""
    by_task: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for reward in rewarded:
        if reward.accuracy is not None:
            by_task[reward.task].append((reward.raw.mean, reward.accuracy.mean))
    products = squares = other = 0.0
    among = 0
    for pairs in by_task.values():
        if len(pairs) < 2:
            continue
        middle = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
        for value, accuracy in pairs:
            a, b = value - middle[0], accuracy - middle[1]
            products, squares, other, among = products + a * b, squares + a * a, other + b * b, among + 1
    if squares <= 0 or other <= 0:
        return None, among
    return round(products / math.sqrt(squares * other), 4), among


def _available(reward: str, columns: Mapping[str, Mapping[str, Column]], notes: list[str]) -> str:
    """The measure that rewards are made of: the configured one, or accuracy in a domain that has no likelihood."""
    if reward == "rubric":
        return "blend"
    if reward == "vote":  # nothing takes its place: what the data says is right is not to be looked at
        return reward
    if not any(c.table for c in columns.get(reward, {}).values()):
        for other in ("accuracy", "likelihood"):
            if any(c.table for c in columns[other].values()):
                notes.append(f"no trial has a {reward}; rewards are made of {other}")
                return other
    return reward


def _task(
    task: str, column: Column, base: float, pooled: Variance | None, measured: Sequence[Measured], wanted: str
) -> dict[str, tuple[Estimate, Estimate, float]]:
    """For each edit: the gain over the baseline, shrunk and raw, and the variance of one trial around its edit."""
    rows = {e: row for e, row in column.table.items() if row}
    if not rows:
        return {}
    if pooled:
        noise, shared = task_noise(rows, pooled), pooled.shared
        signal = pooled.signal
    else:
        # one repeat says nothing of seeds; how much the edits differ from question to question stands in for it. A
        # task's only edit has nothing to be compared with, and its own repeats all the same
        repeated = [list(row.values()) for row in rows.values() if len(row) > 1]
        noise, shared = _within(repeated) if repeated else _question_noise(task, measured, wanted), 0.0
        gains = [next(iter(row.values())) for row in rows.values()]
        signal = max(0.0, mean_and_error(gains)[1] ** 2 * len(gains) - noise)
    gain = {e: mean - base for e, mean in means(rows, pooled).items()}
    middle = sum(gain.values()) / len(gain)
    middle_error = sum(noise / len(row) for row in rows.values()) / len(rows) ** 2
    valued = {}
    for edit, row in rows.items():
        chance = noise / len(row)
        trust = max(LEAST_TRUST, signal / (signal + chance)) if signal + chance > 0 else 1.0
        error = math.sqrt(trust**2 * chance + (1 - trust) ** 2 * (signal + middle_error) + shared / len(row))
        valued[edit] = (
            Estimate(middle + trust * (gain[edit] - middle), error, len(row)),
            Estimate(gain[edit], math.sqrt(chance + shared / len(row)), len(row)),
            noise,
        )
    return valued


def _within(rows: Sequence[Sequence[float]]) -> float:
    """Variance of one trial around its edit, from edits that were tried several times."""
    squares = sum(sum((v - sum(row) / len(row)) ** 2 for v in row) for row in rows)
    return squares / sum(len(row) - 1 for row in rows)


def _question_noise(task: str, measured: Sequence[Measured], wanted: str) -> float:
    """Variance of an edit's mean over other questions of the same kind, from how its scores differ by question."""
    own = [m for m in measured if m.task == task and m.kind == "edit"]
    rows = [row for row in (_by_question(m, wanted) for m in own) if row]
    shared = set.intersection(*map(set, rows)) if rows else set()
    if len(shared) < 2:
        return 0.0
    middle = {q: sum(r[q] for r in rows) / len(rows) for q in shared}
    variances = []
    for row in rows:
        apart = [row[q] - middle[q] for q in shared]
        variances.append(mean_and_error(apart)[1] ** 2)
    return sum(variances) / len(variances)


def _by_question(one: Measured, wanted: str) -> Mapping[str, float]:
    """A trial's scores by the measure that rewards are made of; a blend is on accuracy's scale."""
    by_measure = {"likelihood": one.likely, "contrast": one.apart, "vote": one.voted}
    return by_measure.get(wanted, one.correct)


def _following(candidates: Sequence[Candidate]) -> dict[str, int]:
    """The number of each edit's next repeat: after all that were tried, also those that failed."""
    following: dict[str, int] = defaultdict(int)
    for c in candidates:
        if c.edit is not None:
            following[c.edit] = max(following[c.edit], c.repeat + 1)
    return following


# the whole round


def _scores(measured: Sequence[Measured]) -> list[TaskScore]:
    scores = []
    arms: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for m in measured:
        if m.kind != "edit":
            arms[m.task, m.kind].append(m)
    for (task, _), group in sorted(arms.items()):
        accuracy = [m.accuracy for m in group if m.accuracy is not None]
        likelihood = [m.likelihood for m in group if m.likelihood is not None]
        scores.append(TaskScore(task, group[0].kind, _estimate(accuracy), _estimate(likelihood)))
    return scores


def _estimate(values: Sequence[float]) -> Estimate | None:
    return Estimate(*mean_and_error(values), len(values)) if values else None


def _arms(columns: Mapping[str, Mapping[str, Column]]) -> dict[str, dict[str, Estimate | None]]:
    """Each arm's mean over tasks, with its standard error over tasks."""
    arms: dict[str, dict[str, Estimate | None]] = {"base": {}, "context": {}, "edit": {}}
    for name in ("accuracy", "likelihood"):
        column = columns[name].values()
        arms["base"][name] = _estimate([c.base for c in column if c.base is not None])
        arms["context"][name] = _estimate([c.context for c in column if c.context is not None])
        arms["edit"][name] = _estimate([_edit_mean(c.table) for c in column if any(c.table.values())])
    return arms


def _edit_mean(table: Table) -> float:
    rows = [sum(row.values()) / len(row) for row in table.values() if row]
    return sum(rows) / len(rows)


def _rubric(edits: Sequence[Edit], verdicts: Sequence[Verdict], notes: list[str]) -> list[Reward]:
    """Rewards from what a judge says of the edits themselves. No baseline: no edit at all is worth 0."""
    scores: dict[str, list[float]] = defaultdict(list)
    for v in verdicts:
        if v.grader == RUBRIC and v.score is not None and not v.failure:
            scores[v.candidate].append(v.score)
    rated = []
    for edit in edits:
        if edit.id in scores:
            mean, error = mean_and_error(scores[edit.id])
            value = Estimate(mean, error, 1)
            rated.append(Reward(edit.id, edit.task, edit.slot, value, value))
        elif not edit.failure:
            notes.append(f"{edit.id}: the judge's rubric is missing, so it has no reward")
    return rated
