"""Grades answers by their words alone: free, local, and the same every time.

A logistic model over the numbers of `overlap`. Its weights are in `lexical.json`, made by `jobs/fit_lexical.py`.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from seal_ray.grading.overlap import NAMES, compared, features, own_words, signs_agree, signs_kept
from seal_ray.records import Failure

WEIGHTS = Path(__file__).with_name("lexical.json")


def _load() -> tuple[float, tuple[float, ...]]:
    model = json.loads(WEIGHTS.read_text())
    assert set(model["weights"]) == set(NAMES), "lexical.json was fitted to other numbers; run jobs/fit_lexical.py"
    return model["bias"], tuple(model["weights"][name] for name in NAMES)


_BIAS, _WEIGHTS = _load()
SURE = 0.99
SHORT = math.log1p(6)  # words
_SAME, _DENIED, _NUMBERS, _LENGTH = (NAMES.index(n) for n in ("same", "denied", "numbers_hit", "answer_words"))


def score(question: str, gold: str | Sequence[str], answer: str) -> float:
    """How likely a careful reader would accept the answer, in [0, 1]; of several gold answers the best counts."""
    golds = [gold] if isinstance(gold, str) else gold
    if not golds:
        raise ValueError(f"the question {question!r} has no gold answer to compare with")
    if not answer.strip():
        return 0.0
    return max([_score(question, g, answer) for g in golds])


def _score(question: str, gold: str, answer: str) -> float:
    row = features(question, gold, answer)
    likely = 1 / (1 + math.exp(-(_BIAS + sum([w * x for w, x in zip(_WEIGHTS, row, strict=True)]))))
    if row[_SAME]:
        return max(likely, SURE) if signs_agree(gold, own_words(answer)) else 1 - SURE
    if row[_LENGTH] >= SHORT:
        return likely
    # verdicts with a bare denial or a wrong sign are too few to learn their weight from
    denied = row[_DENIED] or (row[_NUMBERS] and not signs_kept(own_words(answer), gold))
    return min(likely, 1 - SURE) if denied else likely


def correct(question: str, gold: str | Sequence[str], answer: str) -> bool:
    return score(question, gold, answer) >= 0.5


class LexicalGrader:
    name = "lexical"

    def grade(self, items: Sequence[tuple[str, Sequence[str], str]]) -> list[tuple[bool, float] | Failure]:
        grades: list[tuple[bool, float] | Failure] = []
        for question, gold, answer in items:
            if not gold:
                grades.append(no_gold(question))
                continue
            likely = score(question, gold, answer)
            grades.append((likely >= 0.5, likely))
        return grades


class ExactGrader:
    """Right only if the words are the gold answer's, apart from case, accents, endings and small words."""

    name = "exact"

    def grade(self, items: Sequence[tuple[str, Sequence[str], str]]) -> list[tuple[bool, float] | Failure]:
        grades: list[tuple[bool, float] | Failure] = []
        for question, gold, answer in items:
            same = any(_same(g, answer) for g in gold)
            grades.append((same, float(same)) if gold else no_gold(question))
        return grades


def _same(gold: str, answer: str) -> bool:
    return compared(gold) == compared(answer) and signs_agree(gold, answer)


def no_gold(question: str) -> Failure:
    return Failure("no_gold", f"the question {question!r} has no gold answer to compare with")
