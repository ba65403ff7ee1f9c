"""How much the edits of a task differ: near-copies cost a training run each and teach nothing new."""

import re
from collections.abc import Sequence
from itertools import combinations

SHINGLE = 3  # words

_WORD = re.compile(r"\w+")


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The runs of three words of a text; all its words as one run where it has fewer."""
    words = _WORD.findall(text.casefold())
    if len(words) < SHINGLE:
        return frozenset([tuple(words)])
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def similarity(one: str, other: str) -> float:
    """Share of runs of three words that two texts have in common, of all that either has. 1 is a copy."""
    return _overlap(shingles(one), shingles(other))


def diversity(texts: Sequence[str]) -> float | None:
    """Mean distance between two of the texts, in [0, 1]; None for fewer than two."""
    if len(texts) < 2:
        return None
    pairs = list(combinations([shingles(t) for t in texts], 2))
    return sum(1 - _overlap(a, b) for a, b in pairs) / len(pairs)


def _overlap(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)
