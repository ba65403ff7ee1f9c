"""What can be said of a question by reading it: its form, what it points to, what it gives away, and what it copies."""

import re
from collections.abc import Iterable, Sequence

from seal_ray.grading.diversity import similarity
from seal_ray.grading.overlap import words
from seal_ray.records import ProbeCheck, ProbeQuestion

COPY = 0.75  # share of three words in a row that two questions have in common
SHORTEST, LONGEST = 8, 300  # characters of a question
MOST_WORDS = 14  # of an answer
_TEXT = "(?:passage|text|paragraph|article|document|excerpt|section|sentence|context|page|story|author|narrator|writer)"
_POINTS = (
    rf"\b(?:this|the|that|above|given|following|previous|provided|preceding) {_TEXT}\b",
    r"\bmentioned (?:above|here|below)\b",
    r"本文|这段|該段|文中|\bder (?:obige )?text\b|\bdem text\b|\ble texte\b|\bel texto\b",
)
POINTING = re.compile("|".join(_POINTS), re.IGNORECASE)
LOOSE = re.compile(
    r"^(?:what|who|when|where|why|how)(?: \w+)? (?:did|does|was|is|were|are|do|has|had) (?:he|she|it|they)\b",
    re.IGNORECASE,
)
YES_OR_NO = re.compile(r"(?i)^(?:is|are|was|were|did|does|do|has|have|had|can|could|will|would|should)\b")
ENDS = ("?", "？", "؟", ";", "।")


def reading_checks(asked: ProbeQuestion, context: str, earlier: Iterable[ProbeQuestion]) -> list[ProbeCheck]:
    """Every check that needs no model, each with its verdict. `earlier`: questions that this one may copy."""
    verdicts = {
        "form": _form(asked),
        "pointing": _pointing(asked.question),
        "leak": _leak(asked),
        "in passage": _in_passage(asked, context),
        "copy": _copy(asked, earlier),
    }
    return [check(asked, name, not reason, reason) for name, reason in verdicts.items()]


def check(asked: ProbeQuestion, name: str, passed: bool | None, reason: str = "") -> ProbeCheck:
    return ProbeCheck(f"{asked.id}/{name}", asked.task, asked.id, name, passed, reason)


def failed(checks: Sequence[ProbeCheck]) -> ProbeCheck | None:
    """The first check that the question did not pass."""
    return next((c for c in checks if c.passed is False), None)


def _form(asked: ProbeQuestion) -> str:
    question, answer = asked.question, asked.answers[0] if asked.answers else ""
    if not SHORTEST <= len(question) <= LONGEST:
        return f"a question of {len(question)} characters"
    if not question.endswith(ENDS):
        return "it does not end like a question"
    if question.count("?") > 1:
        return "it asks more than one thing"
    if not words(answer) and not answer.strip():
        return "it has no answer"
    return f"an answer of {len(answer.split())} words" if len(answer.split()) > MOST_WORDS else ""


def _pointing(question: str) -> str:
    if match := POINTING.search(question):
        return f"it points to {match.group()!r}, which nobody sees when it is asked"
    return "it does not say whom or what it asks about" if LOOSE.search(question) else ""


def _leak(asked: ProbeQuestion) -> str:
    """Whether the question holds its answer, or leaves the choice between two."""
    asked_words = f" {' '.join(words(asked.question))} "
    for answer in asked.answers:
        own = " ".join(words(answer))
        if own and f" {own} " in asked_words:
            return f"the answer {answer!r} stands in the question"
        if not own and answer.strip() in asked.question:
            return f"the answer {answer!r} stands in the question"
    if YES_OR_NO.search(asked.question):
        return "half of those who guess between yes and no are right"
    return ""


def _in_passage(asked: ProbeQuestion, context: str) -> str:
    if asked.origin == "person":
        return ""
    flat, there = " ".join(context.casefold().split()), f" {' '.join(words(context))} "
    for answer in asked.answers:
        if " ".join(answer.casefold().split()) in flat or (words(answer) and f" {' '.join(words(answer))} " in there):
            return ""
    return "its answer does not stand in the passage"


def _copy(asked: ProbeQuestion, earlier: Iterable[ProbeQuestion]) -> str:
    own = words(asked.question)
    for other in earlier:
        if own == words(other.question) or similarity(asked.question, other.question) >= COPY:
            return f"nearly the same as {other.question!r}"
    return ""
