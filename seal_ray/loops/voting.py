"""`grading.reward: vote` in a run: the version's own answers elect what is right, and their drift ends the run."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from seal_ray.domains.base import Domain, VotingDomain
from seal_ray.errors import CollapseError, ConfigError
from seal_ray.grading.votes import Election, Votes, VoteTally, collapsing, elect
from seal_ray.loops.session import Session
from seal_ray.records import Answer, Candidate, Failure, Task, Trial, decode
from seal_ray.storage.flags import as_typed
from seal_ray.storage.ledger import RoundLedger

ELECTED = "elected"  # the candidate's name under which a winner is shown to the domain
Said = dict[str, list[str]]  # by question


def count_votes(
    domain: Domain, tasks: Iterable[Task], candidates: Iterable[Candidate], trials: Iterable[Trial]
) -> Votes:
    """Every election that the trials without training hold, and how the others' answers compare with the winners."""
    if not hasattr(domain, "alike"):
        raise ConfigError(
            f"grading.reward: vote, and domain {domain.name} does not say which answers are the same",
            hint="give it a method alike(task, question, texts), or take another reward",
        )
    kinds = {c.id: c.kind for c in candidates}
    by_task: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.candidate in kinds and not trial.failure:
            by_task[trial.task].append(trial)
    elections: list[Election] = []
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for task in sorted(tasks, key=lambda t: t.id):
        own = {t.candidate: _said(t) for t in by_task.get(task.id, [])}
        voters = next((own[name] for name in own if kinds[name] == "baseline"), None)
        if voters is None:  # without it the task has no rewards either
            continue
        held = [_hold(domain, task, question, own, voters, shares) for question in sorted(voters)]
        elections += _judged(domain, task, held)
    return Votes(tuple(elections), {name: dict(by) for name, by in shares.items()})


def _said(trial: Trial) -> Said:
    said: Said = {}
    for answer in sorted(trial.answers, key=lambda a: (a.question, a.sample)):
        said.setdefault(answer.question, []).append(answer.text)
    return said


def _hold(
    domain: Domain, task: Task, question: str, own: dict[str, Said], voters: Said, shares: dict[str, dict[str, float]]
) -> Election:
    """One election. The voters' answers come first; all answers to the question are put into classes together."""
    texts, cast = list(voters[question]), len(voters[question])
    places: dict[str, slice] = {}
    for name, said in sorted(own.items()):
        answers = said.get(question, [])
        places[name] = slice(len(texts), len(texts) + len(answers))
        texts += answers
    classes = _classes(domain, task, question, texts)
    if isinstance(classes, Failure):
        return Election(task.id, question, "", cast, 0, 0.0, classes)
    election, winner = elect(task.id, question, texts[:cast], classes[:cast])
    for name, place in places.items():
        if winner is not None and (given := classes[place]):
            shares[name][question] = sum(c == winner for c in given) / len(given)
    return election


def _classes(domain: Domain, task: Task, question: str, texts: Sequence[str]) -> "Sequence[int | None] | Failure":
    classes: Any = cast(VotingDomain, domain).alike(task, question, texts)  # as `count_votes` has seen
    if isinstance(classes, Failure):
        return classes
    if len(classes) != len(texts):
        return Failure("alike", f"alike of domain {domain.name} gave {len(classes)} classes for {len(texts)} answers")
    return classes


def _judged(domain: Domain, task: Task, held: Sequence[Election]) -> list[Election]:
    """The elections with what the data says of the winners. Without answers in the data it says nothing."""
    golds = {q.id: q.gold for q in domain.questions(task)}
    shown = [Answer(e.question, e.answer, 0, "stop", 0.0) for e in held if not e.failure and golds.get(e.question)]
    if not shown:
        return list(held)
    asked = {a.question for a in shown}
    verdicts = domain.verdicts(task, ELECTED, shown, _NOBODY)
    correct = {v.question: v.correct for v in verdicts if v.question in asked and not v.failure}
    return [replace(e, correct=correct.get(e.question)) for e in held]


class _Nobody:
    """No grader: the domains whose answers are voted on compare them by themselves."""

    name = "vote"

    def grade(self, items: Sequence[object]) -> list[Failure]:
        return [Failure("no_grader", "votes are not shown to a grader") for _ in items]


_NOBODY: Any = _Nobody()


# the danger


def watch(session: Session, part: RoundLedger, now: VoteTally | None) -> None:
    """Raises where the votes agree more and more with themselves: what is learned from then on is only to be sure."""
    first = _first(session, part.number)
    section = session.config.grading
    if not now or not first or not collapsing(first, now, section.vote_rise, section.vote_fall):
        return
    at = as_typed(session.config.run.uri, session.config.storage)
    raise CollapseError(
        f"round {part.number}: the votes collapse: their agreement rose from {first.agreement:.0%} to "
        f"{now.agreement:.0%} and their entropy fell from {first.entropy:.2f} to {now.entropy:.2f} since the first "
        f"round, {now.commonest:.0%} of the winners are one and the same answer; nothing is learned from this round",
        hint=f"look at `seal-ray report {at}`, and begin another run with problems that have answers (what was learned "
        "before is there: `seal-ray export`); or allow more with --set grading.vote_rise=… (and vote_fall), and go on",
    )


def _first(session: Session, before: int) -> VoteTally | None:
    """Of the run's first round that has votes."""
    for number in range(1, before):
        known: Any = session.ledger.round(number).get("rewards.json") or {}
        if known.get("votes"):
            return decode(VoteTally, known["votes"])
    return None
