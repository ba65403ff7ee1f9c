"""Which sentences of a passage are not known: what an edit's prompt may be told of a map, and nothing of its tests.

A sentence stands in the passage anyway, which the prompt shows; a question and its answer are what the edit is tried
by, so neither leaves the probe. What is held out points to nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from seal_ray.config import DomainSection, KnowledgeDomain
from seal_ray.domains.sentences import sentences
from seal_ray.grading.overlap import SMALL, words
from seal_ray.loops.probing.uncertainty import MappedQuestion
from seal_ray.records import ProbeQuestion, Task
from seal_ray.text import unwrapped

MOST = 8  # sentences of a passage


def uses_weak(section: DomainSection) -> bool:
    """Whether edits are asked for that are to be told."""
    return isinstance(section, KnowledgeDomain) and (section.style == "targeted" or "targeted" in section.mixture)


def with_weak(
    task: Task, questions: Sequence[MappedQuestion], about: Mapping[str, ProbeQuestion], known: float
) -> Task:
    """The task with its weak sentences, where it has some."""
    weak = weak_sentences(task.data["context"], [q for q in questions if q.task == task.id], about, known)
    return replace(task, data={**task.data, "weak": weak}) if weak else task


def weak_sentences(
    context: str, questions: Sequence[MappedQuestion], about: Mapping[str, ProbeQuestion], known: float
) -> list[str]:
    """The sentences that the questions with the most doubt ask about, in the passage's order."""
    doubtful = sorted((q for q in questions if not q.held_out and q.doubt >= known), key=lambda q: (-q.doubt, q.id))
    spans: dict[tuple[int, int], None] = {}
    for question in doubtful:
        span = about[question.id].span if about[question.id].origin == "model" else _span(context, question)
        if span and span[1] > span[0]:
            spans.setdefault(span)
    return [unwrapped(context[a:b]) for a, b in sorted(list(spans)[:MOST])]


def _span(context: str, question: MappedQuestion) -> tuple[int, int] | None:
    """The sentence that holds an answer and most of the words of a question that a person asked."""
    asked = set(words(question.text)) - SMALL
    golds = [unwrapped(gold).casefold() for gold in question.gold]
    told = {(a, b): unwrapped(context[a:b]).casefold() for a, b in sentences(context)}
    holding = [span for span, sentence in told.items() if any(gold in sentence for gold in golds)]
    return max(holding, key=lambda s: (len(asked & set(words(context[slice(*s)]))), -s[0]), default=None)
