"""From questions as they were written to questions that can be trusted: every check is a row, whatever fails is kept.

The order is that of cost: what reading tells, then answers with the passage at hand, then what is only worth asking of
questions that stood those. What was written must be what all answers with the passage say.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from seal_ray.domains.questions import final_answer
from seal_ray.grading import lexical
from seal_ray.grading.overlap import words
from seal_ray.loops.probing.asking import ProbeRequest, Replies, ask
from seal_ray.loops.probing.changing import changed
from seal_ray.loops.probing.checks import check, failed, reading_checks
from seal_ray.loops.probing.prompts import alone_prompt, passage_prompt
from seal_ray.loops.session import Session
from seal_ray.records import AskedFor, ProbeCheck, ProbeQuestion, Reply, Task, Version, derive_seed
from seal_ray.storage.ledger import RoundLedger
from seal_ray.text import after_thought, unwrapped

STOP = ("\n",)
CHECKS = ("form", "pointing", "leak", "in passage", "copy", "vote", "changed", "unrelated", "alone")


@dataclass(frozen=True)
class Validated:
    """A question that stood every check, with the answers that count as right."""

    question: ProbeQuestion
    gold: tuple[str, ...]


def validate(
    session: Session, part: RoundLedger, version: Version, tasks: Mapping[str, Task], written: Sequence[ProbeQuestion]
) -> tuple[list[Validated], list[ProbeCheck]]:
    """The questions that can be trusted, and every check with its verdict. People's questions need no vote."""
    rows = _read(tasks, written)
    standing = [q for q in written if not failed(rows[q.id])]
    by_people = [Validated(q, q.answers) for q in standing if q.origin == "person"]
    voted = _vote(session, part, version, tasks, [q for q in standing if q.origin == "model"], rows)
    kept = _face_adversaries(session, part, version, tasks, voted, rows)
    order = {q.id: n for n, q in enumerate(written)}
    return sorted([*by_people, *kept], key=lambda v: order[v.question.id]), [c for q in written for c in rows[q.id]]


Rows = dict[str, list[ProbeCheck]]


def _read(tasks: Mapping[str, Task], written: Sequence[ProbeQuestion]) -> Rows:
    """What reading tells. A question that failed otherwise is nothing that another could copy."""
    rows: Rows = {}
    of_task: dict[str, list[ProbeQuestion]] = {}
    everywhere: dict[str, ProbeQuestion] = {}
    for question in written:
        flat = " ".join(words(question.question)) or question.question
        elsewhere = [everywhere[flat]] if flat in everywhere else []
        earlier = [*of_task.get(question.task, ()), *elsewhere]
        rows[question.id] = reading_checks(question, tasks[question.task].data["context"], earlier)
        if not failed(rows[question.id]):
            of_task.setdefault(question.task, []).append(question)
            everywhere.setdefault(flat, question)
    return rows


def _vote(
    session: Session,
    part: RoundLedger,
    version: Version,
    tasks: Mapping[str, Task],
    asked: Sequence[ProbeQuestion],
    rows: Rows,
) -> list[Validated]:
    """Answers with the passage at hand: all must be the same, and that is the gold answer."""
    section = session.config.probe
    once = [_with_passage(session, q, tasks[q.task], tasks[q.task].data["context"], "vote") for q in asked]
    votes = [replace(r, number=n, temperature=section.temperature) for r in once for n in range(section.votes)]
    replies = ask(session, part, version, votes)
    kept = []
    for question in asked:
        answers = [said(replies[question.id, n]) for n in range(section.votes)]
        gold = majority(question.question, answers)
        share = sum(same(question.question, gold, a) for a in answers) / len(answers) if gold else 0.0
        context = tasks[question.task].data["context"]
        reason = ""
        if share < 1:
            reason = f"{share:.0%} of {len(answers)} answers with the passage say {gold!r}"
        elif repeated := failed(reading_checks(replace(question, answers=(gold,)), context, ())):
            reason = f"the vote is {gold!r}: {repeated.reason}"
        elif not same(question.question, gold, question.answers[0]):
            reason = f"written for {question.answers[0]!r}, and the vote is {gold!r}"
        rows[question.id].append(check(question, "vote", not reason, reason))
        if not reason:
            golds = dict.fromkeys([shortest(question.answers[0], gold), gold, question.answers[0]])
            kept.append(Validated(question, tuple(golds)))
    return kept


def _face_adversaries(
    session: Session,
    part: RoundLedger,
    version: Version,
    tasks: Mapping[str, Task],
    voted: Sequence[Validated],
    rows: Rows,
) -> list[Validated]:
    """With the fact changed the answer must change; without the passage it must not be there for the guessing.

    A version that knows the answer gives it without a passage as well. So where the answer has followed the changed
    fact it was read and not guessed, and the question stays: what is known is for the map to say.
    """
    golds = [v.gold[0] for v in voted]
    other_facts: dict[str, str] = {}
    requests: dict[str, list[ProbeRequest]] = {"changed": [], "unrelated": [], "alone": []}
    for v in voted:
        q, task = v.question, tasks[v.question.task]
        passage = changed(task.data["context"], v.gold[0], golds, session.config.run.seed, q.id)
        if passage:
            other_facts[q.id] = passage[1]
            requests["changed"].append(_with_passage(session, q, task, passage[0], "changed"))
        elsewhere = _unrelated(tasks, task, v.gold, session.config.run.seed, q.id)
        if elsewhere:
            context = elsewhere.data["context"]
            requests["unrelated"].append(_with_passage(session, q, elsewhere, context, "unrelated"))
        alone = alone_prompt(q.question, chat=session.chat)
        requests["alone"].append(ProbeRequest(q.task, "alone", q.id, alone, stop=STOP))
    replies = {purpose: ask(session, part, version, own) for purpose, own in requests.items()}
    return [v for v in voted if _withstands(v, replies, other_facts, rows)]


def _withstands(v: Validated, replies: Mapping[str, Replies], other_facts: Mapping[str, str], rows: Rows) -> bool:
    q, own = v.question, rows[v.question.id]

    def gives_it(purpose: str) -> bool | None:
        reply = replies[purpose].get((q.id, 0))
        return None if reply is None or reply.failure else any(same(q.question, g, said(reply)) for g in v.gold)

    def unsaid(purpose: str, unasked: str) -> ProbeCheck:
        reply = replies[purpose].get((q.id, 0))
        why = f"it could not be asked: {reply.failure.message}" if reply and reply.failure else unasked
        return check(q, purpose, None, why)

    after_change = gives_it("changed")
    if after_change is None:
        own.append(unsaid("changed", "its answer does not stand in the passage word by word"))
    else:
        kept = f"it keeps to {v.gold[0]!r} where the passage says {other_facts[q.id]!r}"
        own.append(check(q, "changed", not after_change, kept if after_change else ""))
    for name, where in (("unrelated", "with a passage about something else"), ("alone", "with nothing beside it")):
        given = gives_it(name)
        if given is None:
            own.append(unsaid(name, "there is no other passage"))
        else:
            own.append(check(q, name, not given or after_change is False, f"it says so {where}" if given else ""))
    return failed(own) is None


def _with_passage(session: Session, q: ProbeQuestion, task: Task, context: str, purpose: AskedFor) -> ProbeRequest:
    prompt = passage_prompt(task.data["title"], context, q.question, chat=session.chat)
    return ProbeRequest(q.task, purpose, q.id, prompt, stop=STOP)


def _unrelated(tasks: Mapping[str, Task], own: Task, gold: Iterable[str], *seed: int | str) -> Task | None:
    """A passage of another document, if there is one, that does not hold the answer."""
    others = [t for t in tasks.values() if t.group != own.group] or [t for t in tasks.values() if t.id != own.id]
    luck = random.Random(derive_seed("unrelated", *seed))
    for task in luck.sample(others, min(len(others), 8)):
        there = unwrapped(task.data["context"]).casefold()
        if not any(unwrapped(g).casefold() in there for g in gold):
            return task
    return None


# answers


def said(reply: Reply, stop: Sequence[str] = STOP, *, thought: bool = False) -> str:
    """The answer of a reply, without a thought before it; empty where there is none. `thought`: it was asked to think
    aloud, and says at its end what it comes to.
    """
    text = "" if reply.failure else after_thought(reply.text, stop)
    return (final_answer(text) if thought else text).strip().strip("\"'`").strip()


def same(question: str, one: str, other: str) -> bool:
    """Whether two answers to a question say the same."""
    if not one.strip() or not other.strip():
        return False
    flat = (" ".join(words(one)), " ".join(words(other)))
    if flat[0] and flat[0] == flat[1]:
        return True
    return lexical.correct(question, one, other) and lexical.correct(question, other, one)


def majority(question: str, answers: Sequence[str]) -> str:
    """The answer that most say, in its shortest form; empty where nobody says anything."""
    groups = clusters(question, answers)
    largest = max(groups, key=len, default=[])
    return min((answers[n] for n in largest), key=lambda a: (len(a), a), default="")


def clusters(question: str, answers: Sequence[str]) -> list[list[int]]:
    """Positions of the answers that say the same; an empty answer says nothing and is in none."""
    groups: list[list[int]] = []
    for position, answer in enumerate(answers):
        if not answer.strip():
            continue
        for group in groups:
            if same(question, answers[group[0]], answer):
                group.append(position)
                break
        else:
            groups.append([position])
    return groups


def shortest(*answers: str) -> str:
    return min((a for a in answers if a.strip()), key=lambda a: (len(a), a), default="")
