"""Answers that are formulas, as a model may write them: right stays right, and trouble is no score."""

import json

import pytest
from amounts import AMOUNTS
from seeds import drawing

from seal_ray.config import AnsweringSection, MathDomain
from seal_ray.domains.math import answers, build, symbols
from seal_ray.errors import InfraError
from seal_ray.records import Answer, Recipe

PIECES = [
    "9**9**9**9", "9!!!!", "(", ")", "{", "}", "[", "]", "|", "\\frac", "\\sqrt", "\\sqrt[3]{", "^", "_", "!", "%", "²",
    "٣", "½", ".5", ".", ",", "1,000", "e", "i", "\\pi", "\\infty", "x", "=", "-", "--", "+", "/0", "\\text{a}",
    "\\circ",
    "\\$", "{,}", "3\\frac{1}{2}", "\\frac12", "\\text{ cm}^2", " percent", " apples", "^", "9 * 2 = 18",
    "\\log", "sin", "1e999", "nan", "inf", "0", "12", "\\left(", "\\{", "\\}", "$", "°", "\x00", "é", "\\boxed{", "a b",
]  # fmt: skip


def test_whatever_stands_in_an_answer_it_is_right_or_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "same", lambda pairs: [False] * len(pairs))
    draw = drawing("formulas")
    for _ in range(AMOUNTS["formulas"].quick):
        said, gold = ("".join(draw.choice(PIECES) for _ in range(draw.randrange(12))) for _ in range(2))
        try:
            assert answers.right([(said, [gold]), (said, [said])])[1] or not answers.final(said)
        except Exception as error:
            raise AssertionError(f"{said!r} {gold!r}: {type(error).__name__}: {error}") from error


def test_what_sympy_can_not_end_is_not_shown_and_what_comes_after_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "SECONDS", 1)
    pairs = [
        ("\\sqrt{2}", "2^{1/2}"),
        ("9^{9^{9^x}}", "8^{x^{9^9}}"),
        ("\\log{x^2!}", "\\log{y!^2}"),
        ("\\pi+x", "x+\\pi"),
    ]
    assert answers.right([(a, [b]) for a, b in pairs]) == [True, False, False, True]


def test_an_answer_is_right_however_many_are_compared_before_it() -> None:
    """The limit on computing moves on from second to second, also where nobody may raise the highest one."""
    forms = [
        (f"\\sqrt{{x^{n}+1}}\\sin(x)^{n}", f"\\sin(x)^{n}\\sqrt{{1+x^{n}}}+(x+1)^2-x^2-2x-1") for n in range(3, 12)
    ]
    assert all(answers.right([(said, [gold]) for said, gold in forms * 30]))


def test_where_sympy_does_not_start_nobody_is_right_or_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "MEMORY", 40 << 20)
    with pytest.raises(InfraError, match="sympy did not start"):
        answers.right([("\\sqrt{2}", ["2^{1/2}"])])


def test_a_vote_asks_sympy_once_and_about_so_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(symbols, "same", lambda pairs: asked.append(len(pairs)) or [False] * len(pairs))
    assert answers.majority([f"\\sqrt{{x+{n}}}" for n in range(64)]) is None
    assert asked == [answers.COMPARED]


def test_verdicts_without_sympy_are_failures_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "MEMORY", 40 << 20)
    row = [{"problem": f"What is the root of {n}?", "answer": f"\\sqrt{{{n}}}", "group": "roots"} for n in range(2, 8)]
    domain = build(
        MathDomain(data="data", asked=2, validation=0, test=0),
        recipe=Recipe(),
        answering=AnsweringSection(),
        chat=False,
        seed=7,
        read=lambda _: json.dumps(row).encode(),
    )
    task = domain.tasks("train")[0]
    found = domain.verdicts(task, "c", [Answer("0", "Answer: 2^{1/2}", 1, "stop", 0.0)])
    assert [(v.failure.kind, v.failure.blame) for v in found if v.failure] == [("sympy", "infra")] * 2
