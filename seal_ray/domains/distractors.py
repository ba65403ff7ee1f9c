"""Wrong answers to tell a right one apart from: of the same kind, from the same passage first and then from others."""

import itertools
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from seal_ray.records import derive_seed

NUMBERS = re.compile(
    r"(?i)\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|thousand|"
    r"million|billion|half|first|second|third)\b"
)
REMEMBERED = 1 << 16  # answers: each is looked at beside many questions
Asked = Sequence[tuple[str, Sequence[str]]]  # questions' ids with their accepted answers


@lru_cache(REMEMBERED)
def kind_of(answer: str) -> str:
    """number, name or phrase: what an answer looks like, in any script that has capitals or digits."""
    words = re.findall(r"\w+", answer)
    if any(c.isdigit() for c in answer) or NUMBERS.search(answer):
        return "number"
    return "name" if any(w[0].isupper() for w in words) else "phrase"


def choose(passages: Mapping[str, Asked], count: int, seed: int) -> dict[str, dict[str, tuple[str, ...]]]:
    """By passage and question, up to `count` wrong answers. The same passages, count and seed give the same ones."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for asked in passages.values():
        for _, answers in asked:
            by_kind[kind_of(answers[0])].append(answers[0])
    shelves = {kind: _by_length(answers) for kind, answers in by_kind.items()}
    return {
        name: {
            question: _for(answers, asked, shelves, count, random.Random(derive_seed(seed, "distractors", question)))
            for question, answers in asked
        }
        for name, asked in passages.items()
    }


def _by_length(answers: Iterable[str]) -> dict[int, list[str]]:
    shelf: dict[int, list[str]] = defaultdict(list)
    for answer in dict.fromkeys(answers):
        shelf[len(answer.split())].append(answer)
    return shelf


def _for(
    right: Sequence[str], asked: Asked, shelves: Mapping[str, Mapping[int, list[str]]], count: int, rng: random.Random
) -> tuple[str, ...]:
    kind, length = kind_of(right[0]), len(right[0].split())
    own = [answers[0] for _, answers in asked if kind_of(answers[0]) == kind]
    rng.shuffle(own)
    chosen: dict[str, str] = {}
    for answer in itertools.chain(own, _others(shelves.get(kind, {}), length, count, rng)):
        if len(chosen) == count:
            break
        if not any(_same(answer, r) for r in right):
            chosen.setdefault(_flat(answer), answer)
    return tuple(chosen.values())


def _others(shelf: Mapping[int, list[str]], length: int, count: int, rng: random.Random) -> Iterable[str]:
    """Answers of any passage, those of like length first; more than are wanted, for some may be right."""
    for words in sorted(shelf, key=lambda n: (abs(n - length), n)):
        answers = shelf[words]
        yield from rng.sample(answers, min(len(answers), 4 * count))


@lru_cache(REMEMBERED)
def _flat(answer: str) -> str:
    return " ".join(re.findall(r"\w+", answer.lower()))


def _same(answer: str, right: str) -> bool:
    """Whether one could pass for the other: equal, or one within the other word by word."""
    a, b = f" {_flat(answer)} ", f" {_flat(right)} "
    return a in b or b in a
