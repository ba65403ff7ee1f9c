"""Sections of a document become passages of at most so many tokens, cut where a reader would pause."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from seal_ray.domains.documents.sections import Document
from seal_ray.domains.sentences import sentences

BYTES = 4  # of UTF-8 in a token: what large vocabularies need for most scripts; code and rare scripts need more
TITLE = 160  # characters
SMALL = 8  # tokens: a text as short goes with the one before it
BLANK_LINES = re.compile(r"(?:\A|\n)(?:[^\S\n]*+\n)++")
WORD = re.compile(r"\s*+\S++\s*+")


@dataclass(frozen=True)
class CutPassage:
    """A piece of a document with the headings above it."""

    title: str
    headings: tuple[str, ...]
    text: str


def tokens(text: str) -> int:
    """About how many tokens a text has. A domain knows no model's tokenizer."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES)


def cut(document: Document, most: int) -> list[CutPassage]:
    """The document's passages, in order. Nothing is left out, and none reaches over a heading unless it is tiny."""
    passages: list[CutPassage] = []
    for section in document.sections:
        title = titled(document.title, section.headings)
        for text in pieces(section.text, most):
            passage = CutPassage(title, section.headings, text)
            joined = _joined(passages[-1], passage) if passages else None
            if joined and tokens(joined.text) <= most:
                passages[-1] = joined
            else:
                passages.append(passage)
    return passages


def _joined(first: CutPassage, then: CutPassage) -> CutPassage | None:
    """Both as one, where one is tiny and stands below the other's headings; it says those that the other has not."""
    small_first = tokens(first.text) < SMALL
    above, below = (then, first) if small_first else (first, then)
    shared = min(len(first.headings), len(then.headings))
    if tokens(below.text) >= SMALL or first.headings[:shared] != then.headings[:shared]:
        return None
    lacking = " / ".join(below.headings[len(above.headings) :])
    said = f"{lacking}: {below.text}" if lacking else below.text
    text = f"{said}\n\n{then.text}" if small_first else f"{first.text}\n\n{said}"
    return CutPassage(above.title, above.headings, text)


def titled(title: str, headings: tuple[str, ...]) -> str:
    """The document's title and the headings below it, the innermost kept where all are too long."""
    below = [h for h in headings if h.strip().casefold() != title.strip().casefold()]
    for first in range(len(below) + 1):
        words = ": ".join(filter(None, [title.strip(), " / ".join(below[first:])]))
        if len(words) <= TITLE:
            return words
    return title.strip()[:TITLE]


def pieces(text: str, most: int) -> Iterator[str]:
    """The text in pieces: whole paragraphs while they fit, else sentences, else words, else characters. What stands
    between those of a piece stays as it is.
    """
    yield from _packed(text, most * BYTES, (_paragraphs, _sentences, WORD.findall, list))


Measure = Callable[[str], Iterable[str]]


def _packed(text: str, limit: int, measures: tuple[Measure, ...]) -> Iterator[str]:
    """Parts in a row while they stay within so many bytes; one that is larger alone is cut by the next measure."""
    gathered: list[str] = []
    size = 0
    for part in measures[0](text):
        own = _size(part.rstrip())
        if gathered and size + own > limit:
            yield "".join(gathered).rstrip()
            gathered, size = [], 0
        if own > limit:
            yield from _packed(part, limit, measures[1:])
        elif gathered or own:
            gathered.append(part)
            size += _size(part)
    if gathered:
        yield "".join(gathered).rstrip()


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _paragraphs(text: str) -> Iterator[str]:
    """Each with the blank lines after it; first of all those at the text's beginning."""
    ends = [0, *(match.end() for match in BLANK_LINES.finditer(text)), len(text)]
    return (text[a:b] for a, b in pairwise(ends))


def _sentences(text: str) -> Iterator[str]:
    """Each with the blanks after it; one that begins a line keeps its indentation."""
    gaps = ((end, start) for (_, end), (start, _) in pairwise(sentences(text)))
    ends = [0, *(text.rfind("\n", end, start) + 1 or start for end, start in gaps), len(text)]
    return (text[a:b] for a, b in pairwise(ends))
