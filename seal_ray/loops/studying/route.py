"""Which step's adapter answers a question: by the words of its texts, or by how likely it finds the question."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from seal_ray.grading.measure import question_likelihoods
from seal_ray.grading.overlap import words
from seal_ray.loops.studying import drift
from seal_ray.loops.studying.trials import BETWEEN, OPEN, PROBE, ROUTE
from seal_ray.records import Trial

BASE = 0  # who is asked where no step's texts have anything to do with the question
NOBODYS = (f"{PROBE}{BETWEEN}", f"{drift.NAME}{BETWEEN}")  # texts that no step has learned


class TextRouter:
    """Weighs the words that a question shares with each step's texts by how few of the steps have them."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts`: of step 1, 2, …"""
        self._words = [Counter(words(text)) for text in texts]
        count = len(self._words)
        having = Counter(word for own in self._words for word in own)
        self._weight = {word: math.log(1 + count / n) for word, n in having.items()}

    def choose(self, question: str) -> int:
        asked = set(words(question))
        # a plain sum would depend on the order of a set, which is another in each process
        scores = [math.fsum(self._weight[w] for w in asked if w in own) for own in self._words]
        best = max(scores, default=0.0)
        return max(i for i, score in enumerate(scores, 1) if score == best) if best > 0 else BASE


def by_texts(questions: Mapping[str, str], texts: Sequence[str]) -> dict[str, int]:
    """For each question (by its name in the exam, its words) the step that answers it."""
    router = TextRouter(texts)
    return {name: router.choose(text) for name, text in questions.items()}


def by_likelihood(trials: Mapping[int, Trial]) -> dict[str, int]:
    """For each question the step to whose adapter it is the likeliest, against what the base makes of it."""
    likely = {step: question_likelihoods(trial) for step, trial in trials.items()}
    chosen: dict[str, int] = {}
    for name in likely[BASE]:
        if name.startswith(ROUTE):
            best = max(likely, key=lambda step: (likely[step][name], step))
            chosen[name.removeprefix(ROUTE)] = best
    return chosen


def put_together(trials: Mapping[int, Trial], chosen: Mapping[str, int]) -> Trial:
    """A trial in which each question is answered by the step that was chosen for it; what nobody chose, by the last."""
    last = max(trials)

    def step_of(question: str) -> int:
        return chosen.get(question.removeprefix(OPEN), BASE if question.startswith(NOBODYS) else last)

    answers = [a for step, t in trials.items() for a in t.answers if step_of(a.question) == step]
    likelihoods = [x for step, t in trials.items() for x in t.likelihoods if step_of(x.question) == step]
    return replace(trials[last], answers=tuple(answers), likelihoods=tuple(likelihoods))
