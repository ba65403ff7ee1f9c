"""From trials and verdicts to numbers: how each trial did on its task, question by question."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from seal_ray.grading.votes import Votes
from seal_ray.records import Candidate, CandidateKind, Likelihood, Trial, Verdict

RUBRIC = "rubric"  # the grader of edits themselves; its verdicts are about no answer
_ByQuestion = dict[str, dict[int, float]]  # by question and number of the answer


@dataclass
class Measured:
    """One trial that worked: its measures as means over the task's questions. None: not known."""

    task: str
    kind: CandidateKind
    edit: str | None
    repeat: int
    accuracy: float | None = None
    likelihood: float | None = None
    correct: dict[str, float] = field(default_factory=dict)  # by question
    likely: dict[str, float] = field(default_factory=dict)
    contrast: float | None = None
    apart: dict[str, float] = field(default_factory=dict)
    vote: float | None = None
    voted: dict[str, float] = field(default_factory=dict)


def measure(
    candidates: Iterable[Candidate],
    trials: Iterable[Trial],
    verdicts: Iterable[Verdict],
    grader: str,
    votes: Votes | None = None,
    *,
    whole: bool = True,
) -> list[Measured]:
    """All trials that worked. Failed trials and failed verdicts are left out; none becomes a zero.

    `whole`: a contrast is of whole answers, and not per token.
    """
    shares = votes.shares if votes else {}
    about = {c.id: c for c in candidates}
    given = _by_candidate(verdicts, grader)
    measured: dict[str, Measured] = {}
    trials = list(trials)
    untrained = {
        t.task: t for t in trials if not t.failure and t.candidate in about and about[t.candidate].kind == "baseline"
    }
    for trial in trials:
        candidate = about.get(trial.candidate)
        if candidate is None or trial.failure or trial.candidate in measured:
            continue
        measured[trial.candidate] = Measured(
            candidate.task,
            candidate.kind,
            candidate.edit,
            candidate.repeat,
            correct=dict(sorted(given.get(trial.candidate, {}).items())),  # sums round by the order
            likely=question_likelihoods(trial),
            apart=question_contrasts(trial, untrained[trial.task], whole) if trial.task in untrained else {},
            voted=dict(shares.get(trial.candidate, {})),
        )
    by_task: dict[str, list[Measured]] = defaultdict(list)
    for one in measured.values():
        by_task[one.task].append(one)
    for group in by_task.values():
        for one, value in zip(group, _means([m.correct for m in group]), strict=True):
            one.accuracy = value
        for one, value in zip(group, _means([m.likely for m in group]), strict=True):
            one.likelihood = value
        for one, value in zip(group, _means([m.apart for m in group]), strict=True):
            one.contrast = value
        for one, value in zip(group, _means([m.voted for m in group]), strict=True):
            one.vote = value
    return list(measured.values())


def question_likelihoods(trial: Trial) -> dict[str, float]:
    """For each question the best mean log-probability per token over its accepted answers."""
    best: dict[str, float] = {}
    for one in trial.likelihoods:
        if one.tokens > 0:
            value = one.logprob / one.tokens
            best[one.question] = max(value, best.get(one.question, value))
    return best


def question_contrasts(trial: Trial, untrained: Trial, whole: bool) -> dict[str, float]:
    """For each question how much more training did for the right answer than for wrong ones of its kind, in
    log-probability of whole answers or per token. What it does to any answer (its form, its words) falls out, of whole
    answers as far as they are alike in length.
    """
    right, before = (_by_number(t.likelihoods, whole) for t in (trial, untrained))
    wrong, before_wrong = (_by_number(t.distractors, whole) for t in (trial, untrained))
    contrasts = {}
    for question in right.keys() & before.keys() & wrong.keys() & before_wrong.keys():
        gained, others = (_gains(*pair, question) for pair in ((right, before), (wrong, before_wrong)))
        if gained and others:
            # per token the best answer is the likeliest one before and after, as a likelihood has it
            best = max(gained) if whole else max(right[question].values()) - max(before[question].values())
            contrasts[question] = best - sum(others) / len(others)
    return dict(sorted(contrasts.items()))


def _gains(after: _ByQuestion, before: _ByQuestion, question: str) -> list[float]:
    shared = after[question].keys() & before[question].keys()
    return [after[question][n] - before[question][n] for n in sorted(shared)]


def _by_number(likelihoods: Iterable[Likelihood], whole: bool) -> _ByQuestion:
    values: _ByQuestion = defaultdict(dict)
    for one in likelihoods:
        if one.tokens > 0:
            values[one.question][one.gold] = one.logprob / (1 if whole else one.tokens)
    return values


def _by_candidate(verdicts: Iterable[Verdict], grader: str) -> dict[str, dict[str, float]]:
    """How right by candidate and question, by the grader asked for, or by another where it said nothing at all."""
    chosen: dict[str, dict[str, float]] = defaultdict(dict)
    others: dict[str, dict[str, float]] = defaultdict(dict)
    spoke: set[str] = set()
    for v in verdicts:
        if v.grader == RUBRIC:
            continue
        if v.grader == grader:
            spoke.add(v.candidate)
        if v.credit is not None:
            (chosen if v.grader == grader else others)[v.candidate][v.question] = v.credit
    return {**{c: q for c, q in others.items() if c not in spoke}, **chosen}


def _means(rows: Sequence[Mapping[str, float]]) -> list[float | None]:
    """Each row's mean over all questions of the task, as far as at least half of them are known.

    A question that one row lacks is filled by how the row does on the others: it is easy or hard for all rows alike.
    """
    columns: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for question, value in row.items():
            columns[question].append(value)
    middle = {q: sum(values) / len(values) for q, values in columns.items()}
    overall = sum(middle.values()) / len(middle) if middle else 0.0
    return [
        overall + sum(value - middle[q] for q, value in row.items()) / len(row)
        if row and 2 * len(row) >= len(middle)
        else None
        for row in rows
    ]
