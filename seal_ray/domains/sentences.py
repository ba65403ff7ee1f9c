"""Where the sentences of a text begin and end, in scripts with and without spaces; linear in the text's length."""

import re

# a run of blanks is looked at from its beginning only
ENDS = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+(?=\S)|(?<=[。！？｡।؟۔])[”’」』）]*\s*(?=\S)|(?<!\s)\s*\n\s*")
_SHORT_FORMS = """
mr mrs ms dr prof st sr jr vs etc e.g i.e cf no nos vol fig figs ch sec pp ed eds inc ltd co approx al ca z.b d.h u.a
bzw usw nr abs art
"""
SHORT = frozenset(_SHORT_FORMS.split())
LAST_WORD = re.compile(r"[\w.]+\.$")
LOOK_BACK = 20  # characters of the word before a full stop


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, in order; a line's end ends one too."""
    spans: list[tuple[int, int]] = []
    start = len(text) - len(text.lstrip())
    for match in ENDS.finditer(text):
        if match.start() <= start or (("\n" not in match.group()) and _abbreviated(text, match.start())):
            continue
        closing = len(match.group()) - len(match.group().lstrip("\"'”’»)]」』）"))
        spans.append((start, match.start() + closing))
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
