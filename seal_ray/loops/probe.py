"""A probe: what does a version know of these passages? Questions are written, checked, and asked closed book.

    tests = make_tests(session, part, tasks)         # written by the frozen base, validated, some held out
    known = look(session, part, version, tests)      # the version's answers: an uncertainty map

Both are remembered in the ledger under a name, and every reply and every check is a record of its own.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seal_ray.config import Config
from seal_ray.domains.distractors import kind_of
from seal_ray.domains.sentences import sentences
from seal_ray.errors import ConfigError, DataError, InfraError
from seal_ray.events import RoundStarted
from seal_ray.grading.measure import question_likelihoods
from seal_ray.loops.explore import explore
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.probing.asking import ProbeRequest, ask
from seal_ray.loops.probing.prompts import spread, writing_prompt, writing_schema
from seal_ray.loops.probing.teacher import ask_teacher
from seal_ray.loops.probing.uncertainty import MappedQuestion, UncertaintyMap, mapped, passage_map
from seal_ray.loops.probing.validation import CHECKS, Validated, said, validate
from seal_ray.loops.probing.written import read_question
from seal_ray.loops.session import Session, once
from seal_ray.policy import versions
from seal_ray.records import Json, ProbeCheck, ProbeQuestion, Task, Version, decode, derive_seed, digest, encode
from seal_ray.storage.ledger import RoundLedger
from seal_ray.text import unwrapped

COMMANDS = "probe or adapt"  # which may share a run: what one finds the other goes by
WRITTEN_TOKENS = 120
SALT = 1


@dataclass(frozen=True)
class QuestionSet:
    """Passages with the questions that can be trusted."""

    tasks: tuple[Task, ...]  # each with its questions, in `data`
    held_out: frozenset[str]  # ids of questions, as the domain names them
    about: Mapping[str, ProbeQuestion]  # by id, as the domain names them
    funnel: Mapping[str, Json]

    def training(self) -> tuple[Task, ...]:
        """The passages without the questions that are held out; those that have none left are left out."""
        out = []
        for task in self.tasks:
            questions = [q for n, q in enumerate(task.data["questions"]) if f"{task.id}#{n}" not in self.held_out]
            if questions:
                out.append(replace(task, data={**task.data, "questions": questions}))
        return tuple(out)

    def final(self) -> tuple[Task, ...]:
        """The passages with nothing but the questions that are held out."""
        out = []
        for task in self.tasks:
            questions = [q for n, q in enumerate(task.data["questions"]) if f"{task.id}#{n}" in self.held_out]
            if questions:
                out.append(replace(task, data={**task.data, "questions": questions}))
        return tuple(out)


def probe(
    config: Config,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_stop: Callable[[Callable[[], None]], None] = lambda wind_up: None,
) -> tuple[QuestionSet, UncertaintyMap]:
    """The whole of it as a run of its own: one round in a ledger."""
    with Session(config, stop=stop, on_stop=on_stop, command=COMMANDS) as session:
        part = session.open_round(1)
        version = versions.first(session.base)
        tests = make_tests(session, part, every_task(session))
        uncertainty = look(session, part, version, tests)
        session.commit(part, version, "probed")
    return tests, uncertainty


def every_task(session: Session) -> tuple[Task, ...]:
    splits = (session.domain.tasks(split) for split in ("train", "validation", "test"))
    tasks = tuple(t for own in splits for t in own)
    if any("context" not in t.data for t in tasks):
        raise ConfigError(
            f"domain {session.domain.name} has no passages to ask about", hint="probe documents or knowledge"
        )
    return tasks


# tests


def make_tests(session: Session, part: RoundLedger, tasks: Sequence[Task]) -> QuestionSet:
    """Questions of people first; where a passage has fewer than are wanted, the frozen base writes some."""
    base = versions.first(session.base)
    part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(base)})
    session.tell(RoundStarted(len(tasks), 0, 0))
    by_id = {t.id: t for t in tasks}

    def made() -> Json:
        with session.phase("probe"):
            written = [*_by_people(tasks), *_written(session, part, base, tasks)]
            for question in written:
                part.append("questions", question)
            kept, checks = validate(session, part, base, by_id, written)
            for row in checks:
                part.append("checks", row)
        held_out = _held_out(kept, session.config.probe.held_out, session.config.run.seed)
        rows = [{"gold": list(v.gold), "held_out": v.question.id in held_out, **encode(v.question)} for v in kept]
        return {"tests": rows, "funnel": funnel(written, checks, kept, tasks)}

    return _tests(tasks, once(part, "tests.json", made))


def _by_people(tasks: Sequence[Task]) -> list[ProbeQuestion]:
    return [
        ProbeQuestion(
            id=digest([task.id, "person", item["question"]])[:24],
            task=task.id,
            question=item["question"],
            answers=tuple(item["answers"]),
            origin="person",
            style=kind_of(item["answers"][0]),
        )
        for task in tasks
        for item in task.data.get("questions", ())
    ]


def _written(session: Session, part: RoundLedger, base: Version, tasks: Sequence[Task]) -> list[ProbeQuestion]:
    """What the frozen base or a teacher writes about sentences spread over each passage."""
    taught = bool(session.config.probe.teacher_url)
    requests, about = list[ProbeRequest](), dict[tuple[str, int], tuple[Task, tuple[int, int]]]()
    for task in tasks:
        title, context = task.data["title"], task.data["context"]
        lacking = session.config.probe.questions - len(task.data.get("questions", ()))
        for number, (start, end) in enumerate(spread(_telling(context), lacking)):
            sentence = unwrapped(context[start:end])
            request = ProbeRequest(
                task.id,
                "write",
                f"{task.id}:{start}",
                writing_prompt(title, context, sentence, chat=session.chat or taught),
                number,
                temperature=session.config.probe.temperature,
                max_tokens=WRITTEN_TOKENS,
                schema=writing_schema(title, sentence),
            )
            requests.append(request)
            about[request.key] = task, (start, end)
    replies = ask_teacher(session, part, requests) if taught else ask(session, part, base, requests)
    return [read_question(about[r.key][0], about[r.key][1], replies[r.key]) for r in requests]


def _telling(context: str) -> list[tuple[int, int]]:
    """The sentences that have something to ask for: a few words at least."""
    spans = sentences(context)
    telling = [(a, b) for a, b in spans if len(context[a:b].split()) > 3 or (b - a > 12 and " " not in context[a:b])]
    return telling or spans


def _held_out(kept: Sequence[Validated], share: float, seed: int) -> set[str]:
    """So many of each passage's questions, by a seeded draw; at least one of each is left to work with."""
    by_task: dict[str, list[str]] = {}
    for v in kept:
        by_task.setdefault(v.question.task, []).append(v.question.id)
    out: set[str] = set()
    owed = 0.0
    for task, own in by_task.items():
        owed += share * len(own)
        count = min(int(owed + 1e-9), len(own) - 1)
        owed -= count
        out.update(random.Random(derive_seed(seed, "held out", task)).sample(own, count))
    return out


def funnel(
    written: Sequence[ProbeQuestion], checks: Sequence[ProbeCheck], kept: Sequence[Validated], tasks: Sequence[Task]
) -> dict[str, Json]:
    """How many questions there were, how many each check took, how many are left, and how much they cover."""
    first: dict[str, str] = {}
    for row in checks:
        if row.passed is False:
            first.setdefault(row.question, row.name)
    lost = Counter(first.values())
    spans = {(t.id, span) for t in tasks for span in _telling(t.data["context"])}
    covered = {(v.question.task, v.question.span) for v in kept if v.question.origin == "model"}
    return {
        "written": sum(q.origin == "model" for q in written),
        "by_people": sum(q.origin == "person" for q in written),
        "lost": {name: lost[name] for name in CHECKS if lost[name]},
        "kept": len(kept),
        "passages": len(tasks),
        "passages_asked": len({v.question.task for v in kept}),
        "sentences": len(spans),
        "sentences_asked": len(covered & spans),
    }


def _tests(tasks: Sequence[Task], made: Mapping[str, Any]) -> QuestionSet:
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in made["tests"]:
        by_task.setdefault(row["task"], []).append(row)
    out, held_out, about = [], set[str](), {}
    for task in tasks:
        own = by_task.get(task.id, [])
        questions = [{"question": r["question"], "answers": r["gold"]} for r in own]
        for number, row in enumerate(own):
            name = f"{task.id}#{number}"
            about[name] = decode(ProbeQuestion, {k: v for k, v in row.items() if k not in ("gold", "held_out")})
            if row["held_out"]:
                held_out.add(name)
        if questions:
            out.append(replace(task, data={**task.data, "questions": questions}))
    return QuestionSet(tuple(out), frozenset(held_out), about, made["funnel"])


# the map


def look(
    session: Session, part: RoundLedger, version: Version, tests: QuestionSet, name: str = "map.json"
) -> UncertaintyMap:
    """What this version answers closed book, several times over, and how likely the right answers are."""
    all_tasks = [decode(Task, t) for t in (part.get("tasks.json") or {"tasks": []})["tasks"]] or list(tests.tasks)

    def asked() -> Json:
        answers = _closed_book(session, part, version, tests)
        likelihoods = _likelihoods(session, part, version, tests)
        questions = [
            mapped(
                q.id,
                task=task.id,
                text=q.text,
                gold=q.gold,
                answers=answers[q.id],
                likelihood=likelihoods.get(q.id),
                held_out=q.id in tests.held_out,
                style=tests.about[q.id].style,
                origin=tests.about[q.id].origin,
            )
            for task in tests.tasks
            for q in session.domain.questions(task)
        ]
        about = {t.id: (str(t.data.get("document", t.group)), t.data["title"]) for t in all_tasks}
        passages = passage_map(about, questions, session.config.probe.known)
        return UncertaintyMap(version.number, tuple(questions), tuple(passages)).as_data()

    return decode(UncertaintyMap, once(part, name, asked))


def _closed_book(session: Session, part: RoundLedger, version: Version, tests: QuestionSet) -> dict[str, list[str]]:
    section = session.config.probe
    questions = {q.id: (task, q) for task in tests.tasks for q in session.domain.questions(task)}
    requests = [
        ProbeRequest(
            task.id,
            "closed book",
            q.id,
            q.prompt,
            number,
            temperature=section.temperature,
            max_tokens=min(q.max_tokens, session.config.answering.max_tokens),
            stop=q.stop,
        )
        for task, q in questions.values()
        for number in range(section.samples)
    ]
    with session.phase("probe"):
        replies = ask(session, part, version, requests)
    answers: dict[str, list[str]] = {}
    for request in requests:
        reply = replies[request.key]
        if reply.failure:  # that is no answer, and not a wrong one
            raise DataError(
                f"{questions[request.about][1].text[:200]!r} can't be asked: {reply.failure.message}",
                hint="leave the question out, or ask it in fewer words",
            )
        thinks = getattr(session.config.domain, "thought", False)
        answers.setdefault(request.about, []).append(said(reply, request.stop, thought=thinks))
    return answers


def _likelihoods(session: Session, part: RoundLedger, version: Version, tests: QuestionSet) -> dict[str, float]:
    """Of each question's likeliest right answer, by trials in which nothing is trained."""
    if not tests.tasks:
        return {}
    plan = Plan(tests.tasks, version, edits=0, repeats=0, context_arm=False, salt=SALT)
    exploration = explore(session, part, plan)
    lost = [t.failure for t in exploration.trials.values() if t.failure and t.failure.blame == "infra"]
    if lost:
        raise InfraError(
            f"how likely answers are could not be had of {len(lost)} of {len(tests.tasks)} passages, "
            f"like: {lost[0].message}",
            hint="the same command tries them again",
        )
    likelihoods: dict[str, float] = {}
    for trial in exploration.trials.values():
        if not trial.failure:
            likelihoods |= question_likelihoods(trial)
    return likelihoods


def weak_first(questions: Sequence[MappedQuestion]) -> list[MappedQuestion]:
    return sorted(questions, key=lambda q: (-q.doubt, q.id))
