"""Whatever stands in a data file: it is refused with its place, or everything that a run does with it works."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from amounts import AMOUNTS
from forging import places
from seeds import drawing
from text_model import byte_tokenizer

from seal_ray.config import AnsweringSection, ArcDomain, CodeDomain, KnowledgeDomain, MathDomain, Style
from seal_ray.domains import arc, code, knowledge, math
from seal_ray.domains.base import Rejected
from seal_ray.errors import SealError
from seal_ray.grading.lexical import ExactGrader, LexicalGrader
from seal_ray.models import render
from seal_ray.records import Answer, Failure, Recipe, Task, candidate_id, encode
from seal_ray.sandbox import CaseResult, ProgramResult

TOKENIZER = byte_tokenizer()
PAIR = {"input": [[1, 2], [3, 4]], "output": [[4, 3], [2, 1]]}
ARC: Any = {f"{n:08x}": {"train": [PAIR, PAIR], "test": [PAIR]} for n in range(4)}
FLAT: Any = [
    {
        "title": f"Island {n}",
        "context": f"Island {n} sells salt.",
        "questions": [{"question": f"What does island {n} sell?", "answer": ["salt", "purple salt"]}],
    }
    for n in range(4)
]
SQUAD: Any = {
    "version": "1.1",
    "data": [
        {
            "title": f"Tower_{n}",
            "paragraphs": [
                {
                    "context": f"Tower {n} is tall.",
                    "qas": [{"id": "1", "question": "How is it?", "answers": [{"text": "tall", "answer_start": 3}]}],
                }
            ],
        }
        for n in range(3)
    ],
}
ROWS: Any = [
    {"title": "A", "context": "B is C.", "question": "What is B?", "answers": {"text": ["C"], "answer_start": [5]}}
]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 10**30, 1.5, float("nan"), float("inf"), "", " ", "a", "\n", "\ud800", "a\udfff",
    "ﾞ",
    "\x00", "<think>", "²", "é", "\u202e", [], [[]], {}, {"text": None}, {"text": "x"}, [None], ["x", 3], [[1]],
    [[1, 2], [3]], [[0] * 31], [[10]], [[-1]], [[1.0]], [[True]], "x" * 5000, {"a": {"b": []}}, "---",
    "Question 1:", "<s>",
]  # fmt: skip
RAW = [
    b"\xff", b"\x00", b"\xed\xa0\x80", b"\\ud800", b"[", b"]", b"{", b"}", b'"', b",", b":", b"1e999", b"NaN", b"-",
    b"9" * 5000,
    b"\xef\xbb\xbf", b"[" * 3000, b'{"data":' * 300, b"null", b"\n", b"\r", b"//", b"'", b"\\u12", b"true",
    b"1" * 4300,
]  # fmt: skip


def damaged(draw: random.Random, sound: Any) -> bytes:
    """A sound file with some values, keys or bytes changed."""
    value = json.loads(json.dumps(sound))
    for _ in range(draw.randrange(3)):
        path = draw.choice(places(value))
        if not path:
            continue
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        match draw.randrange(3):
            case 0:
                holder[path[-1]] = copy.deepcopy(draw.choice(VALUES))  # what is put in may be changed next
            case 1:
                del holder[path[-1]]
            case _ if isinstance(holder, dict):
                holder[draw.choice(["\ud800", "", "data", "answer", "title", "train"])] = holder.pop(path[-1])
            case _:
                holder.append(copy.deepcopy(draw.choice(VALUES)))
    data = bytearray(json.dumps(value).encode())
    for _ in range(draw.choice([0, 0, 1, 2])):
        at = draw.randrange(len(data) + 1)
        data[at : at + draw.randrange(3)] = draw.choice(RAW)
    return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.05 else data)


def as_knowledge(data: bytes, draw: random.Random) -> Any:
    styles: list[Style] = ["implications", "entities", "self_qa", "none"]
    return knowledge.build(
        KnowledgeDomain(data="data", style=draw.choice(styles), thought=draw.random() < 0.3),
        recipe=Recipe(),
        answering=AnsweringSection(),
        chat=False,
        seed=7,
        read=lambda _: data,
    )


def as_arc(data: bytes, draw: random.Random) -> Any:
    return arc.build(
        ArcDomain(data="data", grid_format=draw.choice(["digits", "lists"]), max_examples=5),
        recipe=Recipe(epochs=2, max_length=8192),
        answering=AnsweringSection(max_tokens=3000),
        chat=False,
        seed=7,
        read=lambda _: data,
    )


SUMS: Any = [{"problem": f"What is {n}+{n}?", "answer": f"#### {2 * n}", "group": "sums"} for n in range(12)]
PROGRAMS: Any = [
    {"prompt": f"Add {n}.", "entry": "f", "tests": [f"assert f(1) == {n + 1}", {"args": [1], "expected": n + 1}]}
    for n in range(5)
] + [{"prompt": "g", "entry": "g", "tests": "def check(c):\n    assert c(1) == 1\n    assert c(2) == 2\n"}]


def as_math(data: bytes, draw: random.Random) -> Any:
    return math.build(
        MathDomain(data="data", asked=draw.choice([1, 4]), gold=draw.choice(["data", "majority"])),
        recipe=Recipe(),
        answering=AnsweringSection(),
        chat=False,
        seed=7,
        read=lambda _: data,
    )


def as_code(data: bytes, draw: random.Random) -> Any:
    """No program is run: what a sandbox says of one is attacked elsewhere."""
    made = code.build(
        CodeDomain(data="data", shown_tests=draw.choice([0, 1])),
        recipe=Recipe(),
        answering=AnsweringSection(),
        chat=False,
        seed=7,
        read=lambda _: data,
    )
    wrong = CaseResult("wrong", "")
    made._execute = lambda programs, *_: [ProgramResult(tuple(wrong for _ in p.cases)) for p in programs]
    return made


def used(domain: Any, task: Task, draw: random.Random) -> None:
    """All that a run does with a task, apart from the model."""
    json.dumps(encode(task), allow_nan=False, ensure_ascii=False).encode()
    render(TOKENIZER, domain.edit_request(task, 0).prompt)
    texts = [
        str(task.data)[:200],
        "1. It sells salt.\n2. Salt is purple.",
        draw.choice([v for v in VALUES if isinstance(v, str)]),
    ]
    for content in [None, *(domain.parse(task, text) for text in texts)]:
        if isinstance(content, Failure):
            continue
        try:
            _, recipe = domain.training(task, content, TOKENIZER)
        except Rejected:
            continue
        candidate_id("version", task.digest, content, recipe, {}, 1)
    questions = domain.questions(task)
    for question in questions:
        render(TOKENIZER, question.prompt)
        for gold in question.gold:
            TOKENIZER.encode(question.lead + gold, add_special_tokens=False)
    for grader in (LexicalGrader(), ExactGrader()):
        answers = [Answer(q.id, (*q.gold, "salt")[0], 1, "stop", -1.0) for q in questions]
        encode(domain.verdicts(task, "candidate", answers, grader))


KINDS: dict[str, tuple[list[Any], Callable[[bytes, random.Random], Any]]] = {
    "passages": ([FLAT, SQUAD, ROWS], as_knowledge),
    "puzzles": ([ARC, next(iter(ARC.values()))], as_arc),
    "problems": ([SUMS], as_math),
    "programs": ([PROGRAMS], as_code),
}


def attack(kind: str, seed: str, files: int) -> int:
    (sounds, build), draw = KINDS[kind], drawing(seed)
    taken = 0
    for number in range(files):
        data = damaged(draw, draw.choice(sounds))
        try:
            try:
                domain = build(data, draw)
                tasks = [task for split in ("train", "validation", "test") for task in domain.tasks(split)]
            except SealError as error:
                assert error.exit_code == 2
                str(error).encode()
                continue
            taken += bool(tasks)
            for task in tasks[:4]:
                used(domain, task, draw)
        except Exception as error:
            raise AssertionError(f"{seed} {number}: {type(error).__name__}: {error}\n{data!r}") from error
    return taken


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_or_of_use(kind: str) -> None:
    files = AMOUNTS[kind].quick
    assert files / 20 < attack(kind, kind, files) < files


DEEP = json.loads("[" * 300 + "]" * 300)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "half \ud800", [[{"a": float("-inf")}]], DEEP])
def test_a_test_of_a_program_that_no_record_can_hold_is_refused(value: Any) -> None:
    rows = [PROGRAMS[0], PROGRAMS[1] | {"tests": [{"args": [1], "expected": value}, "assert f(1)"]}]
    with pytest.raises(SealError, match=r"entry 2.*tests holds what no record can hold"):
        as_code(json.dumps(rows).encode(), random.Random(0)).tasks("train")


@pytest.mark.parametrize("said", ["c(1)" + ".a" * 400, "-" * 300 + "c(1)", "1" + "+1" * 3000, "c(" * 90 + ")" * 90])
def test_tests_that_are_nested_deeply_are_taken(said: str) -> None:
    tests = f"def check(c):\n    assert {said} == 1\n    assert c(2) == 2\n"
    rows = [PROGRAMS[0], PROGRAMS[1] | {"tests": tests}]
    assert as_code(json.dumps(rows).encode(), random.Random(0)).tasks("train")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind in KINDS for seed in range(AMOUNTS[kind].times)])
def test_many_damaged_files_are_refused_or_of_use(kind: str, seed: int) -> None:
    attack(kind, f"{kind} {seed}", AMOUNTS[kind].long)


@pytest.mark.parametrize("key", ["title", "context", "question", "answer"])
def test_half_a_surrogate_pair_is_refused_where_it_stands(key: str) -> None:
    row = {"title": "A", "context": "B is C.", "question": "What is B?", "answer": "C"}
    data = json.dumps([row | {key: "half \ud83d"}]).encode()
    with pytest.raises(SealError, match=rf"entry 1.*{key} holds half a surrogate pair"):
        as_knowledge(data, random.Random(0)).tasks("train")


@pytest.mark.parametrize("name", ["half \ud83d", "", " \n"])
def test_a_puzzle_that_can_have_no_name_is_refused(name: str) -> None:
    with pytest.raises(SealError, match="can't be a task's id"):
        as_arc(json.dumps(ARC | {name: next(iter(ARC.values()))}).encode(), random.Random(0)).tasks("train")


def test_an_answer_that_is_no_number_is_refused() -> None:
    row = {"title": "A", "context": "B is C.", "question": "What is B?", "answer": [3, float("nan")]}
    with pytest.raises(SealError, match="answer is nan"):
        as_knowledge(json.dumps([row]).encode(), random.Random(0)).tasks("train")


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(SealError, match="too many digits"):
        as_knowledge(b'[{"title": ' + b"9" * 5000 + b"}]", random.Random(0)).tasks("train")


class Counted(str):
    """A text that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    def __str__(self) -> "Counted":  # type: ignore[override]
        return self

    def strip(self, *_: Any) -> "Counted":  # type: ignore[override]
        return self


def test_many_answers_to_one_question_are_compared_a_few_times_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from seal_ray.domains import passages

    monkeypatch.setattr(passages, "lone_surrogate", lambda text: False)
    count = 2000
    answers = [Counted(f"answer {n % (count - 5)}") for n in range(count)]

    shelf = passages._Shelf("data", lambda _: None)
    Counted.compared = 0
    row = {"title": "A", "context": "B", "questions": [{"question": "What?", "answer": answers}]}
    shelf.add("entry 1", row)
    (passage,) = shelf.close()
    assert len(passage.questions["What?"]) == count - 5
    assert Counted.compared < 20 * count
