"""Sections of a document become passages of at most so many tokens, cut where a reader would pause."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from seal_ray.domains.documents.sections import Document
from seal_ray.domains.sentences import sentences

BYTES = 4  # of UTF-8 in a token: what large vocabularies need for most scripts; code and rare scripts need more
TITLE = 160  # characters
SMALL = 8  # tokens: a text as short goes with the one before it


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
            before = passages[-1] if passages else None
            fits = before and tokens(before.text) + tokens(text) <= most
            tiny = before and min(tokens(text), tokens(before.text)) < SMALL
            if before and fits and (tiny and _related(before.headings, section.headings)):
                small_first = tokens(before.text) < SMALL
                above = (section.headings, title) if small_first else (before.headings, before.title)
                passages[-1] = CutPassage(above[1], above[0], f"{before.text}\n\n{text}")
            else:
                passages.append(CutPassage(title, section.headings, text))
    return passages


def titled(title: str, headings: tuple[str, ...]) -> str:
    """The document's title and the headings below it, the innermost kept where all are too long."""
    below = [h for h in headings if h.strip().casefold() != title.strip().casefold()]
    for first in range(len(below) + 1):
        words = ": ".join([title.strip(), " / ".join(below[first:])]) if below[first:] else title.strip()
        if len(words) <= TITLE:
            return words
    return title.strip()[:TITLE]


def _related(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return one == other[: len(one)] or other == one[: len(other)]


def pieces(text: str, most: int) -> Iterator[str]:
    """The text in pieces: whole paragraphs while they fit, else sentences, else words, else characters."""
    limit = most * BYTES

    def by_characters(word: str) -> Iterator[str]:
        yield from _packed(list(word), "", limit, lambda character: iter([character]))

    def by_words(sentence: str) -> Iterator[str]:
        yield from _packed(sentence.split(), " ", limit, by_characters)

    def by_sentences(paragraph: str) -> Iterator[str]:
        yield from _packed([paragraph[a:b] for a, b in sentences(paragraph)], " ", limit, by_words)

    yield from _packed(_paragraphs(text), "\n\n", limit, by_sentences)


def _paragraphs(text: str) -> list[str]:
    paragraphs: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            paragraphs[-1].append(line.rstrip())
        elif paragraphs[-1]:
            paragraphs.append([])
    return ["\n".join(lines) for lines in paragraphs if lines]


def _packed(parts: list[str], joint: str, limit: int, finer: Callable[[str], Iterator[str]]) -> Iterator[str]:
    """The parts joined while they stay within so many bytes; one that is larger alone is cut by a finer measure."""
    gathered: list[str] = []
    size = 0
    for part in parts:
        own = len(part.encode("utf-8", "replace")) + len(joint)
        if gathered and size + own > limit:
            yield joint.join(gathered)
            gathered, size = [], 0
        if own - len(joint) > limit:
            yield from finer(part)
        else:
            gathered.append(part)
            size += own
    if gathered:
        yield joint.join(gathered)
