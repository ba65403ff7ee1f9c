"""Figures by kind of question: where a version gained, and where it did not."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

from seal_ray.grading.overlap import words
from seal_ray.loops.probing.uncertainty import MappedQuestion, UncertaintyMap
from seal_ray.policy.bootstrap import clustered
from seal_ray.records import derive_seed


@dataclass(frozen=True)
class Slice:
    """One kind of question: how many there are, and how they were answered before and after."""

    by: str  # what it is a slice by
    name: str
    questions: int
    before: float  # share of the answers that are right
    after: float
    gain: float
    low: float | None  # of the gain, by the paired bootstrap over passages; None: there is one
    high: float | None
    likelihood_before: float | None
    likelihood_after: float | None


def slices(before: UncertaintyMap, after: UncertaintyMap, passages: Mapping[str, str], seed: int) -> list[Slice]:
    """All, held out or not, by document, by kind of answer, by how rare the answer is, by what the base thought of it.

    `passages`: the text of each task.
    """
    later = {q.id: q for q in after.questions}
    pairs = [(q, later[q.id]) for q in before.questions if q.id in later]
    documents = {p.task: p.document for p in before.passages}
    rare = rarity({q.id: q.gold[0] for q, _ in pairs}, passages)
    likely = thirds({q.id: q.likelihood for q, _ in pairs if q.likelihood is not None})
    kinds: dict[str, Callable[[MappedQuestion], str]] = {
        "all": lambda q: "all questions",
        "use": lambda q: "held out" if q.held_out else "used to choose",
        "answer": lambda q: q.style or "phrase",
        "rarity of the answer": lambda q: rare[q.id],
        "base likelihood": lambda q: likely.get(q.id, "not known"),
        "document": lambda q: documents.get(q.task, q.task),
    }
    out = []
    for by, name_of in kinds.items():
        groups: dict[str, list[tuple[MappedQuestion, MappedQuestion]]] = {}
        for pair in pairs:
            groups.setdefault(name_of(pair[0]), []).append(pair)
        out += [_slice(by, name, own, seed) for name, own in sorted(groups.items())]
    return out


def _slice(by: str, name: str, pairs: Sequence[tuple[MappedQuestion, MappedQuestion]], seed: int) -> Slice:
    before, after = (np.array([pair[n].right for pair in pairs]) for n in (0, 1))
    interval = clustered(
        (after - before).tolist(), [q.task for q, _ in pairs], seed=derive_seed(seed, "slice", by, name)
    )
    low, high = (round(end, 4) for end in interval) if interval else (None, None)
    likelihoods = [[pair[n].likelihood for pair in pairs if pair[n].likelihood is not None] for n in (0, 1)]
    means_of = [round(float(np.mean([x for x in own if x is not None])), 4) if own else None for own in likelihoods]
    return Slice(
        by,
        name,
        len(pairs),
        round(float(before.mean()), 4),
        round(float(after.mean()), 4),
        round(float((after - before).mean()), 4),
        low,
        high,
        means_of[0],
        means_of[1],
    )


Name = TypeVar("Name", bound=Hashable)  # of a question


def rarity(answers: Mapping[Name, str], passages: Mapping[str, str]) -> dict[Name, str]:
    """In how many passages an answer's words stand together: the long tail is what stands in one."""
    texts = [words(text) for text in passages.values()]
    flat = [f" {' '.join(text)} " for text in texts]
    holding: dict[str, list[int]] = {}  # which passages have a word
    for number, text in enumerate(texts):
        for word in set(text):
            holding.setdefault(word, []).append(number)

    @cache
    def standing(answer: str) -> int:
        among = min((holding.get(word, []) for word in answer.split()), key=len, default=[])
        return sum(f" {answer} " in flat[number] for number in among)

    def called(count: int) -> str:
        return "in one passage" if count <= 1 else "in two or three" if count <= 3 else "in more than three"

    return {name: called(standing(" ".join(words(answer)))) for name, answer in answers.items()}


def thirds(likelihoods: Mapping[Name, float]) -> dict[Name, str]:
    order = sorted(likelihoods, key=lambda name: (likelihoods[name], str(name)))
    names = ("least likely third", "middle third", "likeliest third")
    return {name: names[min(2, 3 * position // max(1, len(order)))] for position, name in enumerate(order)}
