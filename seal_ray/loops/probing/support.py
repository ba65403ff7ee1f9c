"""Whether a training text is supported by its passage: what it names must stand there.

Numbers and names are what a made-up line gets wrong, and what can be looked up without a model. A text that turns a
sentence round with the passage's own words is not noticed.
"""

import re
from collections.abc import Sequence

from seal_ray.domains.prompts import entities
from seal_ray.grading.overlap import SMALL, words
from seal_ray.loops.probing.prompts import DIGITS, NUMBER_WORDS

LABEL = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*•]|question(?:\s+\d+)?:|answer:)\s*", re.IGNORECASE)
UNKNOWN_SHARE = 0.5  # of its own words that no passage has: such a text is about something else


def unsupported(text: str, title: str, context: str) -> str:
    """What the text says that the passage does not; empty where everything is there."""
    body = "\n".join(LABEL.sub("", line) for line in text.split("\n"))
    there = set(words(f"{title} {context}"))
    facts = [m.group() for pattern in (DIGITS, NUMBER_WORDS) for m in pattern.finditer(body)]
    for fact in [*facts, *entities("", body)]:
        strange = [w for w in words(fact) if w not in there and w not in SMALL]
        if strange:
            return fact
    own = [w for w in words(body) if w not in SMALL]
    if own and sum(w not in there for w in own) > UNKNOWN_SHARE * len(own):
        return " ".join(w for w in own if w not in there)[:80]
    return ""


def supported_texts(texts: Sequence[str], title: str, context: str) -> tuple[list[int], list[tuple[str, str]]]:
    """Positions of the texts that the passage supports, and the others with what they made up."""
    kept: list[int] = []
    left_out: list[tuple[str, str]] = []
    for position, text in enumerate(texts):
        made_up = unsupported(text.removeprefix(f"{title.strip()}\n"), title, context)
        if made_up:
            left_out.append((text, made_up))
        else:
            kept.append(position)
    return kept, left_out
