"""Whether a training text is supported by its passage: what it names must stand there.

Numbers and names are what a made-up line gets wrong, and what can be looked up without a model. A text that turns a
sentence round with the passage's own words, or that draws a conclusion of its own, is not noticed.
"""

import re
from collections.abc import Sequence

from seal_ray.domains.prompts import entities
from seal_ray.grading.overlap import SMALL, words

ANSWER = re.compile(r"(?:\?|^\s*answer:)\**\s+(\S.*)$", re.IGNORECASE)
SAYS_NO_NAME = frozenset({"yes", "no", "none", "nobody", "nothing", "true", "false", "both", "neither", "unknown"})
LOOSE = re.compile(r"\b[12]\b")  # other than in digits they are said in passing: one of them, the two

LABEL = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*•]|question(?:\s+\d+)?:|answer:)\s*", re.IGNORECASE)
STEM = 4  # letters that two forms of a name share: Europe, European
HEADING = 0.6  # share of a line's long words with a capital from which it is a heading, where capitals say nothing


def unsupported(text: str, title: str, context: str) -> str:
    """A number or name that the text has and the passage has not; empty where all are there."""
    lines = [line.strip(" *_#") for line in text.split("\n")]
    body = "\n".join(LABEL.sub("", line) for line in lines)
    there, loose = set(words(f"{title} {context}")), {"1", "2"} - {*LOOSE.findall(body)}
    numbers = {w.removesuffix("%") for w in there} | loose
    for number in words(body):
        if number[0].isdigit() and number.removesuffix("%") not in numbers:
            return number
    stems = {w[:STEM] for w in there if len(w) >= STEM}
    for line in body.split("\n"):
        for name in [] if _is_heading(line) else entities("", line):
            strange = [w for w in words(name) if w not in there and w not in SMALL and w[:STEM] not in stems]
            if strange and line.strip().find(name) > 0:  # a sentence's first word has a capital anyway
                return name
    for name in filter(None, map(_named, lines)):
        if any(w not in there and w not in SMALL and w[:STEM] not in stems for w in words(name)):
            return name
    return ""


def _named(line: str) -> str:
    """An answer that is nothing but a name, behind its label or its question; a sentence is none."""
    said = ANSWER.search(line)
    answer = said.group(1).strip(" .*_") if said else ""
    parts = [w for w in answer.split() if w not in SMALL]
    is_name = parts and all(w[0].isupper() for w in parts) and parts[0].casefold().strip(",") not in SAYS_NO_NAME
    return answer if is_name else ""


def _is_heading(line: str) -> bool:
    if line.rstrip().endswith(".") or "?" in line:  # a short sentence about people and places has as many capitals
        return False
    long = [w for w in re.findall(r"[^\W\d_]+", line) if len(w) > 3]
    return len(long) > 1 and sum(w[0].isupper() for w in long) >= HEADING * len(long)


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
