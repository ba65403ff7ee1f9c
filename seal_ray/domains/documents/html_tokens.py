"""The tags of a web page and the text between them, in one pass over it.

Python's own parser looks from each unfinished tag to the page's end for what never comes, and then goes on one
character later: a page of some megabytes can keep it busy for days. Here, as in browsers, what is still open at the
page's end has no end, and no character is looked at more than a few times.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape

RAW = frozenset({"script", "style"})  # elements in which a tag is text; nobody reads it
_OPEN = re.compile(r"<(?:(?P<end>/?)(?P<name>[A-Za-z][^\s/>]*)|(?P<comment>!--)|[!?/])")
_BLANKS = re.compile(r"[\s/]*")
_NAME = re.compile(r"=?[^\s/>=]*")
_EQUALS = re.compile(r"\s*=\s*")
_BARE = re.compile(r"[^\s>]*")
_RAW_ENDS = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in RAW}
# no character has a number as long as these, and Python reads none of thousands of digits
_NO_CHARACTER = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")


@dataclass(frozen=True)
class Tag:
    """The beginning of an element or its end. `alone`: written as both at once, like `<br/>`."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False
    alone: bool = False


def html_tokens(text: str) -> Iterator[Tag | str]:
    """Tags and texts in their order. Comments, declarations, scripts and styles are passed over."""
    at = 0
    while match := _OPEN.search(text, at):
        if match.start() > at:
            yield characters(text[at : match.start()])
        if match["name"]:
            tag, at = _tag(text, match)
        else:
            tag, at = None, _after(text, "-->" if match["comment"] else ">", match.start() + 2)
        if at < 0:
            return
        if tag:
            yield tag
            if tag.name in RAW and not tag.ends and not tag.alone:
                end = _RAW_ENDS[tag.name].search(text, at)
                if not end:
                    return
                at = end.start()
    if at < len(text):
        yield characters(text[at:])


def characters(text: str) -> str:
    """The text with `&amp;` and its like as the characters that they stand for."""
    return unescape(_NO_CHARACTER.sub("\ufffd", text)) if "&" in text else text


def _tag(text: str, begins: re.Match[str]) -> tuple[Tag | None, int]:
    """The tag and where it ends; -1 where the page ends before it."""
    attributes: dict[str, str] = {}
    at = begins.end()
    while True:
        blanks = _BLANKS.match(text, at)
        assert blanks is not None, "an empty run always matches"
        at = blanks.end()
        if at >= len(text):
            return None, -1
        if text[at] == ">":
            alone = blanks.group().endswith("/")
            return Tag(begins["name"].lower(), attributes, bool(begins["end"]), alone), at + 1
        name, at = _run(_NAME, text, at)
        value = ""
        if equals := _EQUALS.match(text, at):
            at = equals.end()
            quote = text[at : at + 1]
            if quote and quote in "\"'":
                start, at = at + 1, _after(text, quote, at + 1)
                if at < 0:
                    return None, -1
                value = text[start : at - 1]
            else:
                value, at = _run(_BARE, text, at)
        attributes.setdefault(name.lower(), characters(value))


def _run(pattern: re.Pattern[str], text: str, at: int) -> tuple[str, int]:
    match = pattern.match(text, at)
    assert match is not None, "an empty run always matches"
    return match.group(), match.end()


def _after(text: str, mark: str, at: int) -> int:
    """Where the text goes on after a mark; -1 where there is none."""
    begins = text.find(mark, at)
    return begins + len(mark) if begins >= 0 else -1
