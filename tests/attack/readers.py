"""Every reader of a text that a model or a judge wrote, as a function of that text alone."""

import contextlib
import json
from collections.abc import Callable
from functools import cache

from seal_ray.config import AnsweringSection, ArcDomain, KnowledgeDomain
from seal_ray.domains import knowledge
from seal_ray.domains.arc import build as build_arc
from seal_ray.domains.arc.formats import read_grid
from seal_ray.domains.code import prompts as code
from seal_ray.domains.code import toy
from seal_ray.domains.math import answers, prompts
from seal_ray.domains.math.expressions import NoExpression
from seal_ray.domains.math.expressions import read as read_expression
from seal_ray.domains.math.numbers import TooLarge, value
from seal_ray.domains.prompts import entities
from seal_ray.grading import judge, rubric
from seal_ray.grading.diversity import similarity
from seal_ray.grading.endpoint import Garbage, JudgeReply
from seal_ray.grading.lexical import ExactGrader, LexicalGrader
from seal_ray.loops.probing.changing import changed
from seal_ray.loops.probing.checks import reading_checks
from seal_ray.loops.probing.support import supported_texts
from seal_ray.loops.probing.written import read_question
from seal_ray.records import Answer, Failure, Json, ProbeQuestion, Recipe, Reply, Task, canonical
from seal_ray.sandbox import Program
from seal_ray.text import storable

PASSAGE = {
    "title": "Tavik Island",
    "context": "Tavik Island sells purple salt.",
    "questions": [{"question": "What does it sell?", "answer": ["purple salt", "salt"]}],
}
PAIR = {"input": [[1, 2], [3, 4]], "output": [[4, 3], [2, 1]]}


def _knowledge(**section: Json) -> knowledge.Knowledge:
    return knowledge.build(
        KnowledgeDomain(data="data", **section),
        recipe=Recipe(),
        answering=AnsweringSection(),
        chat=False,
        seed=7,
        read=lambda _: json.dumps(PASSAGE).encode(),
    )


PLAIN, THOUGHT = _knowledge(), _knowledge(thought=True)
DECIDING = _knowledge(directives={"offered": True})
ARC = build_arc(
    ArcDomain(data="data"),
    recipe=Recipe(epochs=2),
    answering=AnsweringSection(max_tokens=3000),
    chat=False,
    seed=7,
    read=lambda _: json.dumps({"a": {"train": [PAIR, PAIR], "test": [PAIR]}}).encode(),
)


def _kept(value: Json) -> None:
    """Whatever a reader makes of a text must be fit for the ledger."""
    canonical(value).encode()


def _edit(text: str) -> None:
    (task,) = PLAIN.tasks("train")
    content = PLAIN.parse(task, text)
    _kept(content)
    if not isinstance(content, Failure):
        knowledge.training_texts(content, title="Tavik Island", context="It sells salt.")


def _answer(domain: knowledge.Knowledge) -> Callable[[str], None]:
    (task,) = domain.tasks("train")
    (question,) = domain.questions(task)

    def read(text: str) -> None:
        for grader in (LexicalGrader(), ExactGrader()):
            _kept(domain.verdicts(task, "c", [Answer(question.id, text, 1, "stop", 0.0)], grader))

    return read


def _gold(text: str) -> None:
    for grader in (LexicalGrader(), ExactGrader()):
        _kept(grader.grade([(text, [text], text), (text, [text], "salt"), ("What?", [text], f"it is {text}")]))


def _grids(text: str) -> None:
    read_grid(text, "digits")
    read_grid(text, "lists")


@cache
def _puzzle() -> tuple[Task, tuple[str, ...]]:
    """A task and its questions' ids, which take far longer to make than a text takes to read."""
    task = (ARC.tasks("train") or ARC.tasks("test"))[0]
    return task, tuple(q.id for q in ARC.questions(task))


def _votes(text: str) -> None:
    task, questions = _puzzle()
    _kept(ARC.verdicts(task, "c", [Answer(q, text, 1, "stop", 0.0) for q in questions], ExactGrader()))


def _directives(text: str) -> None:
    _kept(ARC.parse(_puzzle()[0], text))


def _reply(understand: Callable[[JudgeReply], Json]) -> Callable[[str], None]:
    def read(text: str) -> None:
        try:
            _kept(understand(JudgeReply(storable(text))))  # as the endpoint hands it on
        except Garbage as error:
            _kept(str(error))

    return read


def _similar(text: str) -> None:
    similarity(text, "a word and another word")


def _passage(text: str) -> None:
    entities("Tavik Island", text)


def _asked(text: str) -> None:
    """A question that a model wrote for a probe, bare and as the JSON that was asked for."""
    for said in (text, json.dumps({"question": text, "answer": text})):
        reply = Reply("r", "t", "write", "", "v", 0, said, 0.0, 1, "stop")
        read_question(Task("t", {"title": "", "context": "", "questions": []}), (0, 1), reply)


def _solved(text: str) -> None:
    for thought in (False, True):
        _kept([vars(one) for one in prompts.lessons_in(text, "2 + 2", thought=thought, most=8)])


def _computed(text: str) -> None:
    """A number or a formula, as far as it is read in this process."""
    said = answers.final(text)
    _kept(said)
    with contextlib.suppress(NoExpression, TooLarge):
        value(read_expression(said))


def _programmed(text: str) -> None:
    """An edit about programs, and an answer that should be one."""
    for language in ("python", "toy"):
        code.lessons_in(text, "Sort a list.", language=language, most=20)
        for begun in (False, True):
            _kept(code.program_in(text, language, begun=begun))
    toy.examine(Program(text, ({"args": [[1, 2]], "expected": [2, 1]},)))


def _decided(text: str) -> None:
    """An edit that says how it is to be learned."""
    (task,) = DECIDING.tasks("train")
    choice = {"objective": "text", "learning_rate": 1e-3, "epochs": 2, "count": 3}
    choice |= {"statements": True, "questions": True, "passage": False}
    for said in (text, json.dumps({**choice, "text": text}), json.dumps({**choice, "objective": text, "text": "a"})):
        content = DECIDING.parse(task, said)
        _kept(content)
        if not isinstance(content, Failure):
            DECIDING.texts(task, content)


def _doubted(text: str) -> None:
    """A question that a model wrote, its answer, and a text to learn from, each looked at for what is wrong with it."""
    asked = ProbeQuestion("q", "t", text, (text[:400],), "model")
    _kept([one.reason for one in reading_checks(asked, "Tavik Island sells salt.", [asked])])
    changed(f"It sells {text} there.", text, ["salt", text[:400]], 7)
    _kept(supported_texts([text], "Tavik Island", "It sells salt."))


READERS: dict[str, Callable[[str], None]] = {
    "edit": _edit,
    "answer": _answer(PLAIN),
    "thought": _answer(THOUGHT),
    "gold": _gold,
    "grids": _grids,
    "votes": _votes,
    "directives": _directives,
    "judge": _reply(judge.understand),
    "rubric": _reply(rubric.understand),
    "similar": _similar,
    "passage": _passage,
    "asked": _asked,
    "solved": _solved,
    "computed": _computed,
    "programmed": _programmed,
    "decided": _decided,
    "doubted": _doubted,
}
