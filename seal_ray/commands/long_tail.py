"""For the report: the questions of a run by kind, arm by arm. A mean hides the rare and the unlikely.

Slices by how rare an answer is in the run's passages, by how likely the model thought it before training, by what is
asked for and with which word, by title or document, and by a field of the data where `domain.slice_by` names one.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_ray.domains import Teller
from seal_ray.domains.distractors import kind_of
from seal_ray.grading.measure import Measured, measure
from seal_ray.loops.history import Round, Run
from seal_ray.loops.probing.slices import rarity, thirds
from seal_ray.policy.bootstrap import clustered
from seal_ray.records import Json, derive_seed

ARMS = ("base", "context", "edit", "kept")  # of a run; those of an evaluation have names of their own
MOST_GROUPS = 12  # titles that have a line of their own
MOST_QUESTIONS = 20_000  # later ones are left out, and said so
ASKED_WITH = ("who", "what", "when", "where", "which", "why", "how")
Key = tuple[int, str, str]  # of a question: round, task and its own id; an evaluation's arms share round 0


@dataclass
class _Question:
    """One question, and how each arm did on it."""

    task: str
    text: str
    answer: str  # empty where it is no text
    group: str
    own: str  # the value of the data's own field
    likelihood: float | None = None  # before training
    right: dict[str, float] = field(default_factory=dict)  # by arm


def by_kind(run: Run, teller: Teller) -> dict[str, Json] | None:
    """Every slice with its arms. None where no question has a verdict yet."""
    questions, passages, arms = dict[Key, _Question](), dict[str, str](), dict[str, None]()
    for number in run.ledger.rounds():
        if len(questions) < MOST_QUESTIONS:
            arms |= dict.fromkeys(_round(run, run.round(number), teller, questions, passages))
    known = {key: q for key, q in questions.items() if q.right}
    if not known:
        return None
    order = [a for a in ARMS if a in arms] + [a for a in arms if a not in ARMS]
    domain: Any = run.record["config"].get("domain") or {}
    made = list(_slices(known, passages, str(domain.get("slice_by") or ""), order))
    return {"arms": list(order), "against": order[0], "slices": made, "cut": len(questions) >= MOST_QUESTIONS}


def _round(
    run: Run, round_: Round, teller: Teller, questions: dict[Key, _Question], passages: dict[str, str]
) -> Iterator[str]:
    """Take a round in; the arms that it has."""
    arm = (run.ledger.round(round_.number).get("arm.json") or {}).get("arm")  # of an evaluation
    own = {t.id for t in round_.tasks}
    for task in round_.tasks:
        told = teller.describe(task)
        passages[task.id] = told.text
        marks = [q.get("slice", "") if isinstance(q, dict) else "" for q in _listed(task.data.get("questions"))]
        for n, q in enumerate(told.questions):
            answer = q.gold[0] if q.gold and isinstance(q.gold[0], str) else ""
            mark = str(marks[n]) if n < len(marks) else ""
            key = (0 if arm else round_.number, task.id, q.id)
            questions.setdefault(key, _Question(task.id, q.text, answer, told.title or task.group, mark))
    candidates = [c for c in round_.candidates if c.task in own]
    grader = str((run.record["config"].get("grading") or {}).get("grader", ""))
    kept = {c.edit for c in round_.kept}
    by_arm: dict[str, list[Measured]] = defaultdict(list)
    for m in measure(candidates, [t for t in round_.trials if not t.failure], round_.verdicts, grader):
        kinds = {"baseline": "base", "context": "context", "edit": "edit"}
        if m.kind in kinds:
            by_arm[kinds[m.kind]].append(m)
        if m.kind == "edit" and m.edit in kept:
            by_arm["kept"].append(m)
        if m.kind == "baseline":
            for question, value in m.likely.items():
                if one := questions.get((0 if arm else round_.number, m.task, question)):
                    one.likelihood = value
    if arm:  # an evaluation's arm is what was trained in it; without training, the base
        trained = by_arm.get("edit") or by_arm.get("context") or by_arm.get("base", [])
        by_arm = defaultdict(list, {str(arm): trained})
    for name, own_trials in by_arm.items():
        shares: dict[Key, list[float]] = defaultdict(list)
        for m in own_trials:
            for question, value in m.correct.items():
                shares[0 if arm else round_.number, m.task, question].append(value)
        for key, values in shares.items():
            if key in questions:
                questions[key].right[name] = statistics.fmean(values)
        if shares:
            yield name


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else []


# slices


def _slices(
    questions: Mapping[Key, _Question], passages: Mapping[str, str], field_name: str, arms: Sequence[str]
) -> Iterator[dict[str, Json]]:
    rare = rarity({k: q.answer for k, q in questions.items() if q.answer}, passages)
    likely = thirds({k: q.likelihood for k, q in questions.items() if q.likelihood is not None})
    groups = {name for name, _ in Counter(q.group for q in questions.values()).most_common(MOST_GROUPS)}
    kinds: dict[str, Callable[[Key, _Question], str]] = {
        "all": lambda k, q: "all questions",
        "rarity of the answer": lambda k, q: rare.get(k, "not known"),
        "base likelihood": lambda k, q: likely.get(k, "not known"),
        "answer": lambda k, q: kind_of(q.answer) if q.answer else "other",
        "asked with": lambda k, q: _asked_with(q.text),
        "title": lambda k, q: q.group if q.group in groups else "others",
    }
    if field_name:
        kinds[field_name] = lambda k, q: q.own or "not given"
    for by, name_of in kinds.items():
        parts: dict[str, list[_Question]] = defaultdict(list)
        for key, question in questions.items():
            parts[name_of(key, question)].append(question)
        if by in {"all", field_name} or len(parts) > 1:  # one part says what "all" says
            yield from (_slice(by, name, own, arms) for name, own in sorted(parts.items()))


def _asked_with(text: str) -> str:
    first = next((w for w in text.casefold().replace("?", " ").split() if w in ASKED_WITH), "")
    return first or "otherwise"


def _slice(by: str, name: str, questions: Sequence[_Question], arms: Sequence[str]) -> dict[str, Json]:
    values, first = {arm: [(q.task, q.right[arm]) for q in questions if arm in q.right] for arm in arms}, arms[0]
    pairs = {
        a: [(q.task, q.right[a] - q.right[first]) for q in questions if {a, first} <= q.right.keys()] for a in arms
    }
    return {
        "by": by,
        "name": name,
        "questions": len(questions),
        "arms": {arm: _interval(own, by, name, arm) for arm, own in values.items()},
        "gains": {arm: _interval(own, by, name, arm, "gain") for arm, own in pairs.items() if arm != first},
    }


def _interval(values: Sequence[tuple[str, float]], *seed: str) -> list[float | None] | None:
    """The mean over questions with its interval over tasks, which a single task does not have."""
    if not values:
        return None
    tasks, rights = zip(*values, strict=True)
    interval = clustered(rights, tasks, seed=derive_seed(*seed))
    low, high = (round(end, 4) for end in interval) if interval else (None, None)
    return [round(statistics.fmean(rights), 4), low, high, len(rights)]
