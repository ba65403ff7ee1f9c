"""Numbers written in words, or partly so, as one number in digits."""

import math

_NUMBERS_TEXT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS_TEXT = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * n for n, word in enumerate(_TENS_TEXT.split(), start=2)}
_CARDINALS = {word: n for n, word in enumerate(_NUMBERS_TEXT.split())} | _TENS
DIGITS = {word: str(n) for word, n in _CARDINALS.items()} | {
    "hundred": "100",
    "half": "50%",
    "once": "1",
    "twice": "2",
    "first": "1",
    "second": "2",
    "third": "3",
    "fourth": "4",
    "fifth": "5",
    "sixth": "6",
    "seventh": "7",
    "eighth": "8",
    "ninth": "9",
    "tenth": "10",
    "eleventh": "11",
    "twelfth": "12",
    "thirteenth": "13",
    "fourteenth": "14",
    "fifteenth": "15",
    "sixteenth": "16",
    "seventeenth": "17",
    "eighteenth": "18",
    "nineteenth": "19",
    "twentieth": "20",
}
_NO_UNITS = ("zero", "once", "twice")
_UNITS = {word: int(n) for word, n in DIGITS.items() if len(n) == 1 and word not in _NO_UNITS}  # of `twenty one`
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_TIMES = {"hundred": 1e2} | _SCALES
_PARTS = frozenset(("half", "quarter", "third"))  # of a million, which is not one then
COUNTING = "|".join((*_CARDINALS, *_TIMES))  # a pattern of one word
_ENDS_OF_DAYS = frozenset(("st", "nd", "rd", "th"))
_JOINED = _ENDS_OF_DAYS.union(_TENS, _TIMES, ("%", "percent", "cent"))  # without these words there is nothing to merge


def merge(raw: list[str]) -> list[str]:
    """`10 million` or `two hundred` as one number, `10 percent` as `10%`; a day's `st`, `nd`, `rd`, `th` dropped."""
    low = [w.lower() for w in raw]
    if _JOINED.isdisjoint(low):
        return raw
    low += ["", ""]  # so that a word after the last can be asked for
    merged: list[str] = []
    at = 0
    while at < len(raw):
        digits = raw[at][0].isdigit()
        word, end = _digits(raw[at], low, at) if digits else _spelled(low, at)
        if end == at:
            word, end = raw[at], at + 1
        elif digits and low[end] in _ENDS_OF_DAYS and raw[end].islower():  # `St` is a saint
            end += 1
        elif not word.endswith("%"):
            percent = 1 if low[end] in ("%", "percent") else 2 * (low[end : end + 2] == ["per", "cent"])
            word, end = word + "%" * (percent > 0), end + percent
        merged.append(word)
        at = end
    return merged


def _digits(word: str, low: list[str], at: int) -> tuple[str, int]:
    """A number in digits with its scale, and where it ends."""
    size, end = _size(low, at + 1, _TIMES)
    try:
        value = float(word.replace(",", "")) * size
    except ValueError:
        value = math.inf
    return (f"{value:.0f}", end) if end > at + 1 and math.isfinite(value) else (word, at + 1)


def _spelled(low: list[str], at: int) -> tuple[str, int]:
    """A number in words, and where it ends: at its own beginning if there is none."""
    total, end, below = 0.0, at, math.inf
    while below > 1:
        start = end + (end > at and low[end] == "and")
        part, after = _below_thousand(low, start)
        if after == start:
            break
        size, after = _size(low, after, _SCALES)
        # `two hundred, three hundred` are two numbers, and so are `one thousand and two hundred`
        if not part * size < (below if start == end else min(below, 100)):
            break
        total, end, below = total + part * size, after, size
    return f"{total:.0f}", end


def _size(low: list[str], at: int, scales: dict[str, float]) -> tuple[float, int]:
    size = 1.0
    while low[at] in scales:
        size, at = size * scales[low[at]], at + 1
    return size, at


def _below_thousand(low: list[str], at: int) -> tuple[int, int]:
    part, end = _below_hundred(low, at)
    if end > at and low[end] == "hundred":
        part, end = 100 * part, end + 1
        start = end + (low[end] == "and")
        more, after = _below_hundred(low, start)
        if after > start and low[after] != "hundred":
            return part + more, after
    return part, end


def _below_hundred(low: list[str], at: int) -> tuple[int, int]:
    """`twenty one` as 21, and `a` as 1 where it counts hundreds or more."""
    word, after = low[at], low[at + 1]
    if word in _TENS:
        return (_TENS[word] + _UNITS[after], at + 2) if after in _UNITS else (_TENS[word], at + 1)
    if word == "a" and after in _TIMES and low[at - 1 - (low[at - 1] == "of")] not in _PARTS:
        return 1, at + 1
    return (_CARDINALS[word], at + 1) if word in _CARDINALS else (0, at)
