"""Where the sentences of a text begin and end, in scripts with and without spaces; linear in the text's length."""

import re
from collections.abc import Iterator
from itertools import groupby, pairwise

from seal_ray.text import KANA_OR_HAN

# a run of blanks is looked at from its beginning only
ENDS = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+(?=\S)|(?<=[。！？｡।؟۔])[”’」』）]*\s*(?=\S)|(?<!\s)\s*\n\s*")
STOPS = frozenset(".!?…。！？｡।؟۔")
CLOSING = "\"'”’»)]」』）"
_SHORT_FORMS = """
mr mrs ms dr prof st sr jr vs etc e.g i.e cf no nos vol fig figs ch sec pp ed eds inc ltd co approx al ca z.b d.h u.a
bzw usw nr abs art
"""
SHORT = frozenset(_SHORT_FORMS.split())
LAST_WORD = re.compile(r"[\w.]+\.$")
LOOK_BACK = 20  # characters of the word before a full stop


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, in order; a line's end ends one too, unless it only wraps the line."""
    wraps = set(_wraps(text)) if "\n" in text else set[int]()
    spans: list[tuple[int, int]] = []
    start = len(text) - len(text.lstrip())
    for match in ENDS.finditer(text):
        at = match.start()
        newline = text.find("\n", at, match.end())
        line_ends = newline >= 0 and newline not in wraps
        if at <= start or not (line_ends or (text[at - 1] in STOPS and not _abbreviated(text, at))):
            continue
        closing = len(match.group()) - len(match.group().lstrip(CLOSING))
        spans.append((start, at + closing))
        start = match.end()
    end = len(text.rstrip())
    if start < end:
        spans.append((start, end))
    return spans


def _abbreviated(text: str, at: int) -> bool:
    """Whether the full stop before this place belongs to a short form or to an initial, and ends nothing."""
    last = LAST_WORD.search(text[max(0, at - LOOK_BACK) : at])
    if last is None:
        return False
    word = last.group()[:-1]
    return word.lower() in SHORT or (len(word) == 1 and word.isupper())


# where a line was only cut to fit a page

LONG = 40  # characters of a line that may have been; half as many in a script without spaces
SEVERAL = 3  # words
FEW = 20  # of so many lines one may be wider than the others were made to be
_RULE = r"([-=_*~^+#.])\1+\s*$"
_ITEM = r"[-*+•‣◦·▪●○–—]\s|\d{1,3}[.)]\s|[A-Za-z]\)\s"
ITEM = re.compile(rf"\s*+(?:{_ITEM})")
ALONE = re.compile(rf"\s*+(?:#{{1,6}}\s|{_RULE})|[^|]*+\|")  # a heading, a rule, the row of a table
BEGINS = re.compile(rf"{ALONE.pattern}|\s*+(?:{_ITEM}|>|\w++:(?!\S))")  # these, an item, a quote, what has a label
FENCE = re.compile(r"\s*+(?:```[^`]*$|~~~)")
BREAK = ("  ", "\\")  # how Markdown marks a line that ends there
FIRST_WORD = re.compile(rf"\s*+([{KANA_OR_HAN}]|\S++)")


def _wraps(text: str) -> Iterator[int]:
    """The line ends within which a sentence goes on. What stands between fences is code, whose lines are its own."""
    at, fenced = 0, False

    def flows(line: str) -> bool:
        nonlocal fenced
        fence = bool(FENCE.match(line))
        fenced ^= fence
        return bool(line.strip()) and not fence and not fenced

    for flowing, group in groupby(text.split("\n"), key=flows):
        block = list(group)
        wrapped = set(_wrapped(block)) if flowing else set[int]()
        for number, line in enumerate(block):
            at += len(line) + 1
            if number in wrapped:
                yield at - 1


def _wrapped(block: list[str]) -> Iterator[int]:
    """Which lines of a block go on in the next one: by a small letter there, or because its first word had no room.

    Room says something only where more lines are full than end early. After a short line that begins small, as those of
    many a list do, a small letter says nothing.
    """
    lines = [line.rstrip() for line in block]
    width = sorted(map(len, lines))[-1 - len(lines) // FEW]
    small = [line.lstrip()[:1].islower() for line in lines]
    listed = [low and not _is_long(line) and not ITEM.match(line) for low, line in zip(small, lines, strict=True)]
    may = [n for n, (line, then) in enumerate(pairwise(block)) if not _ends(line, then)]
    full = {n for n in may if _is_long(lines[n]) and len(lines[n]) + 1 + _first_word(lines[n + 1]) > width}
    early = {n for n in may if lines[n].rstrip(CLOSING)[-1:] not in STOPS and (listed[0] or not small[n + 1])} - full
    if len(early) >= len(full):
        full.clear()
    last, in_list = -2, False
    for n in may:
        in_list = in_list if last == n - 1 else listed[n]
        if n in full or (small[n + 1] and not in_list and len(lines[n].split()) >= SEVERAL):
            yield n
            last = n


def _ends(line: str, then: str) -> bool:
    """Whether something other than a sentence ends with this line, or begins with the next one."""
    if ALONE.match(line) or line.endswith(BREAK) or BEGINS.match(then):
        return True
    return _indent(then) > _indent(line) and not ITEM.match(line)


def _is_long(line: str) -> bool:
    return len(line) >= (LONG if " " in line.strip() else LONG // 2)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _first_word(line: str) -> int:
    match = FIRST_WORD.match(line)
    return len(match.group(1)) if match else 0
