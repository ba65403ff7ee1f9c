"""One document's bytes become sections: the headings that stand above a text, and the text itself."""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from seal_ray.domains.documents.html_text import html_sections
from seal_ray.domains.documents.pdf_text import pdf_text
from seal_ray.domains.documents.unreadable import Unreadable
from seal_ray.text import storable

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
BREAKS = re.compile(r"[\t\n\x0c\r\x85\u2028\u2029]+")
LONGEST = 300  # characters of a title or heading: each passage below one carries it along
HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+")
FENCE = re.compile(r" {0,3}(```+(?=[^`]*$)|~~~+)")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
NO_HEADING = re.compile(r" {0,3}(?:>|(?:[-+*]|\d{1,9}[.)])[ \t])|(?: {4}|\t)")  # a quote, an item, code: a rule follows
_YAML = r"\s*+(?:#|[\"']?[\w.-]++[\"']?[ \t]*+:\s)"  # a key or a comment; else it is a text between two rules
FRONT = re.compile(rf"---[ \t]*\n((?:(?={_YAML}).*?\n)?)---[ \t]*\n", re.DOTALL)
NAMED = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class DocumentSection:
    """A text and the headings above it, the outermost first."""

    headings: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Document:
    name: str
    title: str
    sections: tuple[DocumentSection, ...]
    unread_pages: int = 0  # of a PDF: those without any text, which may be pictures of it


Contents = tuple[str, list[DocumentSection], int]  # title, sections, pages that are not read


def read_sections(name: str, data: bytes) -> Document:
    """The document that these bytes are, by the ending of its name. Raises `Unreadable` where they are none."""
    kind = PurePosixPath(name).suffix.lower()
    if kind not in READERS:
        raise Unreadable("unknown", f"{kind or 'a file without an ending'} is no kind of document that can be read")
    title, sections, unread = READERS[kind](data)
    kept = tuple(replace(s, headings=tuple(h[:LONGEST] for h in s.headings)) for s in sections if s.text.strip())
    if not kept:
        raise Unreadable("empty", "it holds no text")
    return Document(name, _title(title) or title_of_file(name), kept, unread)


def title_of_file(name: str) -> str:
    return _title(PurePosixPath(name).stem.replace("_", " ").replace("-", " "))


def _title(text: str) -> str:
    """One line of text, whatever a file's name or a PDF's own page says: it stands in prompts, records and reports."""
    return BREAKS.sub(" ", CONTROL.sub(" ", storable(text[:LONGEST]))).strip()


def text_of(data: bytes) -> str:
    """The text of these bytes: UTF-8, or whatever a mark at their beginning says."""
    coding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    if coding == "utf-8" and b"\0" in data[:8192]:
        raise Unreadable("binary", "it is a binary file")
    try:
        text = data.decode(coding)
    except UnicodeDecodeError as error:
        raise Unreadable("coding", f"it is not UTF-8 text ({error.reason} at byte {error.start})") from None
    return CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))


def _plain(data: bytes) -> Contents:
    return "", [DocumentSection((), text_of(data))], 0


def _html(data: bytes) -> Contents:
    title, sections = html_sections(text_of(data))
    return title, [DocumentSection(headings, text) for headings, text in sections], 0


def _pdf(data: bytes) -> Contents:
    title, text, unread = pdf_text(data)
    return title, [DocumentSection((), CONTROL.sub(" ", text))], unread


def _markdown(data: bytes) -> Contents:
    """Cut at headings, of either form; what looks like one inside of a block of code is none."""
    text, title = text_of(data), ""
    if front := FRONT.match(text):
        named = NAMED.search(front.group(1))
        title, text = named.group(1).strip("'\" ") if named else "", text[front.end() :]
    above: list[tuple[int, str]] = []
    sections: list[DocumentSection] = []
    lines: list[str] = []

    def close(level: int = 0) -> None:
        """`level`: of the heading that comes next. One with nothing below it says something by itself: it is text."""
        headings, told = tuple(words for _, words in above), "\n".join(lines)
        if headings and level <= above[-1][0] and headings[-1] != title and not told.strip():
            headings, told = headings[:-1], headings[-1]
        sections.append(DocumentSection(headings, told))
        lines.clear()

    for level, line in _with_levels(text.split("\n")):
        if level:
            close(level)
            above[:] = [(n, words) for n, words in above if n < level] + [(level, line)]
            title = title or line
        else:
            lines.append(line)
    close()
    return title, sections, 0


def _with_levels(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Each line with its level as a heading; 0 for all others."""
    fence, at = "", 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if mark := FENCE.match(line):
            fence = "" if fence and mark.group(1).startswith(fence) else fence or mark.group(1)
        heading = None if fence else HEADING.match(line)
        words = _without_closing(line[heading.end() :]) if heading else ""
        may = at < len(lines) and line.strip() and not fence and not NO_HEADING.match(line)
        under = UNDERLINE.fullmatch(lines[at]) if may else None
        if heading and words:
            yield len(heading.group(1)), words
        elif under and len(under.group(1)) > 1 and not mark and (at < 2 or not lines[at - 2].strip()):
            yield 1 if under.group(1)[0] == "=" else 2, line.strip()
            at += 1
        else:
            yield 0, line


def _without_closing(words: str) -> str:
    """A heading's words without the hashes that may close it, behind a blank: `C#` has one of its own."""
    words = words.rstrip(" \t")
    bare = words.rstrip("#")
    return bare.rstrip(" \t") if bare.endswith((" ", "\t")) or not bare else words


READERS: dict[str, Callable[[bytes], Contents]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _plain,
    ".text": _plain,
    ".rst": _plain,
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".pdf": _pdf,
}
