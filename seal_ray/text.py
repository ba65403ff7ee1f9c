"""Text that a model, a judge or a file brought along: read in one pass, and made fit to be kept or shown."""

import re
import unicodedata
from collections.abc import Sequence

THINK, THOUGHT = "<think>", "</think>"
LINE = 400  # characters of a line in a log
KANA_OR_HAN = r"\u3040-\u30ff\u3400-\u9fff"  # within brackets of a pattern: letters of scripts without spaces
_LETTER, _OWN_WORD = re.compile(rf"[^\W{KANA_OR_HAN}]"), re.compile(rf"[{KANA_OR_HAN}]")
_BETWEEN = re.compile(rf"(?<=[{KANA_OR_HAN}])(?=[{KANA_OR_HAN}])")
_WIDE = rf"[{KANA_OR_HAN}\u3001-\u303f\uff01-\uff60]"  # and their punctuation
_WRAPPED = re.compile(rf"(?<={_WIDE})[^\S\n]*+\n\s*+(?={_WIDE})")
TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the direction of writing


def without_thoughts(text: str, *, unfinished: bool = False) -> str:
    """The text without what stands between `<think>` and `</think>`; `unfinished`: also without a last one left open.

    A search for each tag goes on where the last one ended, so the time is linear in the text's length.
    """
    kept: list[str] = []
    at = 0
    while (start := text.find(THINK, at)) >= 0:
        end = text.find(THOUGHT, start + len(THINK))
        if end < 0:
            return "".join([*kept, text[at:start] if unfinished else text[at:]])
        kept.append(text[at:start])
        at = end + len(THOUGHT)
    return "".join([*kept, text[at:]])


def after_thought(text: str, stop: Sequence[str]) -> str:
    """What an answer says once it has thought, up to the first of the texts that end it.

    Some templates open the thought themselves, so its end alone may be there. A thought that has no end is no answer.
    """
    _, end, rest = text.rpartition(THOUGHT)
    if not end and text.lstrip().startswith(THINK):
        return ""
    if end:
        rest = rest.lstrip()
    ends = [at for mark in stop if mark and (at := rest.find(mark)) >= 0]
    return rest[: min(ends, default=len(rest))]


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: halves of surrogate pairs, which JSON may smuggle in, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def lone_surrogate(text: str) -> bool:
    """Whether the text holds half a surrogate pair, which no file and no tokenizer takes."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def printable(text: str) -> str:
    """The text with everything that controls a terminal, or hides in one, written out; newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _controls(c) else _written_out(c) for c in text)


def harmless_json(text: str) -> str:
    """JSON that says the same with everything written out that controls a terminal: inside of strings all of it is."""
    if text.isascii():
        return text  # C0 is written out by whoever made it
    return "".join(f"\\u{ord(c):04x}" if c not in "\n\t" and _controls(c) else c for c in text)


def unwrapped(text: str) -> str:
    """The text on one line: blanks in a row are one, and a script without blanks has none where a line ended."""
    return " ".join(_WRAPPED.sub("", text).split())


def whole_words(phrase: str, text: str) -> list[tuple[int, int]]:
    """Where a phrase stands in a text as words of its own, wherever lines end in it. Kana and Han lengthen no word."""
    words = _BETWEEN.sub(lambda _: r"\s*+", r"\s++".join(map(re.escape, phrase.split())))
    places = [match.span() for match in re.finditer(words, text, re.IGNORECASE)] if words else []
    return [(a, b) for a, b in places if not (_lengthened(text, a - 1, a) or _lengthened(text, b, b - 1))]


def _lengthened(text: str, outside: int, inside: int) -> bool:
    """Whether the letter beside a phrase's end makes another word of it."""
    if not 0 <= outside < len(text):
        return False
    return bool(_LETTER.match(text, outside)) and not _OWN_WORD.match(text, inside)


def one_line(text: str, limit: int = LINE) -> str:
    """The text as one line of a log: whitespace is one space, and what is too long is cut."""
    line = " ".join(printable(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def first_line(text: object, limit: int = LINE) -> str:
    """What an error or a document says first."""
    lines = str(text).strip().splitlines()
    if lines:
        return lines[0].rstrip()[:limit]
    return type(text).__name__ if isinstance(text, BaseException) else ""


def _controls(c: str) -> bool:
    """C0 and C1, halves of characters, separators of lines, and what turns the direction of writing; joiners stay."""
    return unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in TURNS


def _written_out(c: str) -> str:
    return f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}"
