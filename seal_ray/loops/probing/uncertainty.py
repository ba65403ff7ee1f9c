"""What a version knows of passages, question by question: an uncertainty map, and the weights that follow from it.

`doubt` is what the map is sorted by: 0 where every answer was right and the right answer as good as certain, 1 where
none was and it could not be guessed. Disagreement and entropy need no right answer; they are of the answers alone.
"""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from seal_ray.grading.votes import entropy
from seal_ray.loops.probing.validation import clusters, same
from seal_ray.records import Json, encode


@dataclass(frozen=True)
class MappedQuestion:
    """One question, asked closed book."""

    id: str
    task: str
    text: str
    gold: tuple[str, ...]
    answers: tuple[str, ...]
    right: float  # share of the answers
    disagreement: float  # share of the answers that do not say what most say
    entropy: float  # of what is said, as a share of what it could be
    likelihood: float | None  # mean log-probability of a token of the likeliest right answer
    doubt: float
    held_out: bool
    style: str = ""
    origin: str = "model"


@dataclass(frozen=True)
class MappedPassage:
    task: str
    document: str
    title: str
    questions: int
    doubt: float | None  # None: nothing could be asked of it
    weight: float  # of the draw; 0: it is known


@dataclass(frozen=True)
class UncertaintyMap:
    version: int
    questions: tuple[MappedQuestion, ...]
    passages: tuple[MappedPassage, ...]

    def documents(self) -> list[dict[str, Json]]:
        """One row for each document, the least known first."""
        rows: dict[str, list[MappedPassage]] = {}
        questions: dict[str, list[MappedQuestion]] = {}
        for passage in self.passages:
            rows.setdefault(passage.document, []).append(passage)
        stands_in = {passage.task: passage.document for passage in self.passages}
        for question in self.questions:
            questions.setdefault(stands_in.get(question.task, ""), []).append(question)
        out: list[dict[str, Json]] = []
        for document, own in rows.items():
            asked = questions.get(document, [])
            out.append(
                {
                    "document": document,
                    "passages": len(own),
                    "unasked": sum(p.doubt is None for p in own),
                    "questions": len(asked),
                    **{key: _mean(getattr(q, key) for q in asked) for key in ("doubt", "right", "disagreement")},
                    "likelihood": _mean(q.likelihood for q in asked if q.likelihood is not None),
                }
            )
        return sorted(out, key=lambda r: (-(r["doubt"] if r["doubt"] is not None else -1), r["document"]))

    def of(self, tasks: Collection[str]) -> "UncertaintyMap":
        """What it says of these passages."""
        questions = tuple(q for q in self.questions if q.task in tasks)
        return replace(self, questions=questions, passages=tuple(p for p in self.passages if p.task in tasks))

    def as_data(self) -> dict[str, Json]:
        return encode(self)


def mapped(
    id: str,
    *,
    task: str,
    text: str,
    gold: Sequence[str],
    answers: Sequence[str],
    likelihood: float | None,
    held_out: bool,
    style: str = "",
    origin: str = "model",
) -> MappedQuestion:
    """What the answers to one question say of what is known."""
    groups = clusters(text, answers)
    sizes = [len(g) for g in groups] + [1] * (len(answers) - sum(map(len, groups)))  # silence agrees with nobody
    right = sum(any(same(text, g, a) for g in gold) for a in answers) / len(answers) if answers else 0.0
    sure = math.exp(min(0.0, likelihood)) if likelihood is not None else right
    return MappedQuestion(
        id=id,
        task=task,
        text=text,
        gold=tuple(gold),
        answers=tuple(answers),
        right=round(right, 4),
        disagreement=round(1 - max(sizes, default=0) / len(answers), 4) if answers else 1.0,
        entropy=round(entropy(sizes), 4),
        likelihood=likelihood if likelihood is None else round(likelihood, 4),
        doubt=round(1 - (right + sure) / 2, 4),
        held_out=held_out,
        style=style,
        origin=origin,
    )


def passage_map(
    about: Mapping[str, tuple[str, str]], questions: Iterable[MappedQuestion], known: float
) -> list[MappedPassage]:
    """Passages by what is not known of them. `about`: document and title of each task, in order.

    Held-out questions are shown and weigh nothing. What nothing could be asked of weighs as much as the mean.
    """
    by_task: dict[str, list[MappedQuestion]] = {}
    for question in questions:
        by_task.setdefault(question.task, []).append(question)
    doubts = {t: _mean(q.doubt for q in by_task.get(t, ()) if not q.held_out) for t in about}
    asked = [d for d in doubts.values() if d is not None]
    usual = statistics.fmean(asked) if asked else 1.0
    return [
        MappedPassage(
            task, document, title, len(by_task.get(task, ())), doubts[task], _weight(doubts[task], usual, known)
        )
        for task, (document, title) in about.items()
    ]


def _weight(doubt: float | None, usual: float, known: float) -> float:
    value = usual if doubt is None else doubt
    return round(value, 4) if value >= known else 0.0


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(statistics.fmean(listed), 4) if listed else None
