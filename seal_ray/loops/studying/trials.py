"""Studies in a bank: any number of adapters trained on together, each asked the questions of many tasks."""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from seal_ray import models
from seal_ray.domains.base import Rejected
from seal_ray.errors import CoverageError, DataError, InfraError
from seal_ray.events import Graded, TrialDone, TrialFailed
from seal_ray.grading.measure import question_likelihoods
from seal_ray.loops.asking import asks_of
from seal_ray.loops.explore import NAP
from seal_ray.loops.session import Session
from seal_ray.loops.spending import JudgeUse
from seal_ray.policy.in_bank import BankUpdate
from seal_ray.records import (
    Answer,
    Ask,
    Attempt,
    Candidate,
    Failure,
    StudyAttempt,
    StudyTrial,
    Task,
    Trial,
    Verdict,
    Version,
    candidate_id,
    digest,
    encode,
)
from seal_ray.storage.ledger import RoundLedger

BETWEEN = "|"  # number of the task | its own name of the question
OPEN, PROBE, ROUTE = "open", "probe", "route"  # asked besides: with the passage at hand, its text, the bare question


@dataclass(frozen=True)
class Score:
    """How a model does on one task: means over its questions. None: not known."""

    accuracy: float | None
    likelihood: float | None
    open_book: float | None = None  # accuracy with the passage in the prompt


@dataclass(frozen=True)
class Exam:
    """The tasks that are asked about, in order, and as what."""

    tasks: tuple[Task, ...]
    open_book: bool = False
    route: bool = False  # how likely the questions themselves are
    probes: tuple[Task, ...] = ()  # whose texts are taken as text: nothing is learned from them
    more: tuple[Ask, ...] = ()
    only: frozenset[str] | None = None  # closed-book questions by name; None: all

    def asks(self, session: Session) -> tuple[Ask, ...]:
        asked = [ask for number, task in enumerate(self.tasks) for ask in self._of_task(session, number, task)]
        return (*asked, *_probes(session, self.probes), *self.more)

    def _of_task(self, session: Session, number: int, task: Task) -> Iterable[Ask]:
        for ask in asks_of(task, session.domain, session.tokenizer, session.config.answering):
            name = f"{number}{BETWEEN}{ask.question}"
            if self.only is None or name in self.only:
                yield replace(ask, question=name, distractor_ids=())
            if self.route:
                yield Ask(f"{ROUTE}{number}{BETWEEN}{ask.question}", ask.prompt_ids[:1], (ask.prompt_ids[1:],), 1)
        if self.open_book:
            opened = _with_passage(session, task)
            for ask in opened:
                yield replace(ask, question=f"{OPEN}{number}{BETWEEN}{ask.question}", distractor_ids=())


def _probes(session: Session, tasks: Sequence[Task]) -> Iterable[Ask]:
    for task in tasks:
        with contextlib.suppress(Rejected):
            examples, _ = session.domain.training(task, None, session.tokenizer)
            ids = examples[0].ids
            yield Ask(f"{PROBE}{BETWEEN}{task.id}", ids[:1], (ids[1:],), 1)


def _with_passage(session: Session, task: Task) -> Iterable[Ask]:
    """The questions with the passage before them."""
    text = session.domain.describe(task).text
    for question in session.domain.questions(task):
        prompt = replace(question.prompt, text=f"{text}\n\n{question.prompt.text}")
        ids = tuple(models.render(session.tokenizer, prompt))
        limit = min(question.max_tokens, session.config.answering.max_tokens)
        yield Ask(question.id, ids, (), limit, question.stop)


@dataclass(frozen=True)
class StudyRequest:
    """One adapter to be trained and asked; without an update the model is asked as it is."""

    name: str
    update: BankUpdate | None
    exam: Exam

    def attempt(self, session: Session, version: Version) -> Attempt:
        asks, update = self.exam.asks(session), self.update
        told = digest([encode(asks), self.name])
        answering = session.config.answering.identity()
        if update is None:
            identity = candidate_id(version.digest, told, "study", None, answering, 0)
            return Attempt(Candidate(identity, self.name, "baseline", None, -1, 0, 0, None), (), asks)
        course = update.course
        content = [encode(update.examples), course.order, course.rates, encode(course.keeping)]
        start = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(course.start.items())}
        edit = digest([content, start])
        identity = candidate_id(version.digest, told, edit, update.recipe, answering, update.seed)
        candidate = Candidate(identity, self.name, "study", None, 0, 0, update.seed, update.recipe)
        return StudyAttempt(candidate, update.examples, asks, course)


def study_all(session: Session, part: RoundLedger, version: Version, requests: Sequence[StudyRequest]) -> list[Trial]:
    """Train and ask all of them, together where there is room; one trial each, in their order. No failure comes back:
    a stream with a hole in it would measure something else."""
    attempts = [request.attempt(session, version) for request in requests]
    for attempt in attempts:
        part.append("candidates", attempt.candidate)
    session.crew.plan_anew()
    pool = session.crew.pool(version, session.adapter(version))
    pool.submit(attempts)
    pool.flush()
    about = {a.candidate.id: a.candidate for a in attempts}
    trials: dict[str, Trial] = {}
    while len(trials) < len(about):
        session.tick()
        for trial in pool.poll(NAP * 10):
            _tell(session, about[trial.candidate], trial)
            trials[trial.candidate] = trial
    return [trials[a.candidate.id] for a in attempts]


def _tell(session: Session, candidate: Candidate, trial: Trial) -> None:
    failure = trial.failure
    if failure is None:
        likely = list(question_likelihoods(trial).values())
        mean = sum(likely) / len(likely) if likely else None
        session.tell(
            TrialDone(trial.candidate, trial.task, candidate.kind, 0, 0, trial.cost.seconds, trial.worker, mean)
        )
        return
    session.tell(TrialFailed(trial.candidate, trial.task, candidate.kind, failure.kind, failure.message, failure.blame))
    if failure.blame == "infra":
        raise InfraError(f"{trial.task}: {failure.message}", hint="the same command tries the step again")
    raise DataError(
        f"{trial.task}: {failure.message}",
        hint="lower policy.lr, or choose another study.keep.method; nothing of this step was kept",
    )


def record(part: RoundLedger, trials: Sequence[Trial]) -> None:
    for trial in trials:
        part.append("trials", trial.plain if isinstance(trial, StudyTrial) else trial)


def graded(session: Session, part: RoundLedger, exam: Exam, trial: Trial) -> dict[str, Score]:
    """Each task's score, by its id. The verdicts are recorded."""
    began, judging = time.monotonic(), JudgeUse(getattr(session.grader, "usage", None))
    scores: dict[str, Score] = {}
    likely = question_likelihoods(trial)
    count = lost = 0
    never: tuple[str, Failure] | None = None  # a task with a verdict that nobody will ever give
    for number, task in enumerate(exam.tasks):
        session.tick()
        closed, opened = f"{number}{BETWEEN}", f"{OPEN}{number}{BETWEEN}"
        verdicts = _verdicts(session, task, trial, closed)
        with_passage = _verdicts(session, task, trial, opened) if exam.open_book else []
        for verdict in (*verdicts, *with_passage):
            count += 1
            if verdict.failure and verdict.failure.blame == "infra":  # it is asked again
                lost += 1
                continue
            part.append("verdicts", verdict)
            never = (task.id, verdict.failure) if verdict.failure and not never else never
        own = [value for question, value in likely.items() if question.startswith(closed)]
        scores[task.id] = Score(_credit(verdicts), sum(own) / len(own) if own else None, _credit(with_passage))
    spent, seconds = judging.since(), round(time.monotonic() - began, 3)
    session.tell(Graded(session.grader.name, count, lost, seconds, spent.calls, spent.cached, round(spent.dollars, 6)))
    if lost:
        raise CoverageError(
            f"{lost} of {count} verdicts on {trial.task} could not be had", hint="the same command asks again"
        )
    if never:
        raise DataError(f"task {never[0]} can't be graded: {never[1].message}", hint="mend it, or leave it out")
    return scores


def probed(trial: Trial) -> float | None:
    """Mean log-probability per token of the probes' texts."""
    own = [v for question, v in question_likelihoods(trial).items() if question.startswith(f"{PROBE}{BETWEEN}")]
    return sum(own) / len(own) if own else None


def _verdicts(session: Session, task: Task, trial: Trial, prefix: str) -> list[Verdict]:
    answers = [replace(a, question=a.question.removeprefix(prefix)) for a in _of(trial.answers, prefix)]
    verdicts = session.domain.verdicts(task, trial.candidate, answers, session.grader) if answers else []
    return [replace(v, question=f"{prefix}{v.question}") for v in verdicts]


def _of(answers: Sequence[Answer], prefix: str) -> list[Answer]:
    return [a for a in answers if a.question.startswith(prefix)]


def _credit(verdicts: Sequence[Verdict]) -> float | None:
    known = [v.credit for v in verdicts if v.credit is not None]
    return sum(known) / len(known) if known else None
