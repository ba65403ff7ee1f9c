"""A passage in which one fact was changed: who reads it must give another answer."""

import random
import re
from collections.abc import Sequence

from seal_ray.domains.distractors import kind_of
from seal_ray.grading.overlap import words
from seal_ray.loops.probing.prompts import NUMBER_WORDS
from seal_ray.records import derive_seed
from seal_ray.text import whole_words

# what takes a fact's place where no other passage has one of its kind
STRANGE = {
    "number": ("sixty-one", "seventeen", "ninety"),
    "name": ("Harlan Voss", "Brenfield", "Oskar Tiel"),
    "phrase": ("a grey lantern", "an empty barrel", "a paper crown"),
}
MOST = 500  # facts of other passages that are looked at
DIGIT = re.compile(r"\d")


def changed(context: str, answer: str, others: Sequence[str], *seed: int | str) -> tuple[str, str] | None:
    """The passage with another fact in the place of this answer, and that fact; None where it does not stand there."""
    places = whole_words(answer, context)
    if not places:
        return None
    luck = random.Random(derive_seed("changed", answer, *seed))
    fact = _another(answer.strip(), context, others, luck)
    between = zip([0, *(end for _, end in places)], [*(start for start, _ in places), len(context)], strict=True)
    return fact.join(context[start:end] for start, end in between), fact


def _another(answer: str, context: str, others: Sequence[str], luck: random.Random) -> str:
    if DIGIT.search(answer):
        return _other_digits(answer, luck)
    kind = kind_of(answer)
    if len(others) > MOST:
        others = random.Random(derive_seed("others", answer)).sample(others, MOST)
    there = " ".join(words(context))
    usable = [o for o in others if kind_of(o) == kind and not DIGIT.search(o) and " ".join(words(o)) not in there]
    alike = [o for o in usable if len(o.split()) == len(answer.split())] or usable
    if kind == "number" and NUMBER_WORDS.fullmatch(answer):
        alike = [o for o in alike if NUMBER_WORDS.fullmatch(o)]
    strange = [s for s in STRANGE[kind] if s.casefold() not in answer.casefold()]
    return luck.choice(sorted(set(alike)) or strange)


def _other_digits(answer: str, luck: random.Random) -> str:
    """The same form with other digits; a number keeps its length, and does not begin with a nought of its own."""
    out, first = [], True
    for c in answer:
        if c.isdecimal():  # `²` is a digit to Python, and no number
            out.append(str((int(c) + luck.randint(1, 8)) % 9 + 1) if first else str(luck.randint(0, 9)))
            first = False
        else:
            out.append(c)
            first = not c.isalnum() or first
    changed_to = "".join(out)
    return changed_to if changed_to != answer else re.sub(r"\d", lambda m: str((int(m.group()) + 3) % 10), answer)
