"""How an answer relates to a gold answer and its question, as a row of plain numbers that a grader weighs."""

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from seal_ray.grading import number_words
from seal_ray.text import KANA_OR_HAN

NAMES = (
    "same",  # the same words as the gold answer, small words aside
    "new_recall",  # share of the gold answer's words, those of the question aside, that the answer has
    "soft_recall",  # the same, words that begin alike counting in part
    "soft_recall_squared",
    "whole",  # is nothing missing by that count
    "nothing",  # is everything missing
    "long_recall",  # the same as new_recall, each word weighed by its length
    "precision",  # share of the answer's words, those of the question aside, that are the gold answer's
    "pairs",  # share of the gold answer's neighbouring words that are neighbours in the answer
    "head",  # is the gold answer's last word in the answer
    "denied",  # a word such as `not` stands right before the first match, and the gold answer has none
    "before",  # words of the answer, those of the question aside, before the first match
    "numbers_hit",  # share of the gold answer's numbers that the answer has
    "numbers_missed",  # share that it lacks; both are 0 if the gold answer has no numbers
    "names_other",  # capitalised words of the answer that neither gold answer nor question has
    "answer_words",  # how many words the answer has (logarithm)
    "answer_new",  # how many that the question does not have (logarithm)
    "gold_new",  # words of the gold answer that the question does not have (logarithm)
    "gold_name",  # share of the gold answer's words with a capital
    "echo",  # share of the question's words that the answer repeats
    "echo_squared",
    "letters",  # share of the gold answer's letter triples that the answer has
    "letters_squared",
    "lists",  # separators of a list in the answer beyond those of the gold answer
    "asks_why",
)


_SMALL_TEXT = (
    "a an the of in on at to for by with from as and or is was were are be been being it its that this these those "
    "there their his her he she they them which who whom what when where how why did do does has have had into than "
    "then also can could would will might about such some any very s t"
)
_DENY = frozenset(("not", "no", "never", "neither", "nor", "without"))
SMALL = frozenset(_SMALL_TEXT.split())
_ALIASES = {
    "us": "usa",
    "america": "usa",
    "american": "usa",
    "uk": "britain",
    "british": "britain",
    "kilometre": "km",
    "kilometer": "km",
    "percent": "%",
    "percentage": "%",
    "jan": "january",
    "feb": "february",
    "aug": "august",
    "sept": "september",
    "oct": "october",
    "nov": "november",
    "dec": "december",
}

_DECADE, _NUMBER = r"\d{3}0['\u2019]?s\b", r"\d+(?:[.,:]\d+)*"
_WORD = re.compile(rf"[{KANA_OR_HAN}]|{_DECADE}|{_NUMBER}%?|[^\W\d_{KANA_OR_HAN}]+|%")
_CONTRACTED = re.compile(r"(?i)\b(can|won)['\u2019]t\b|(?<=\w)n['\u2019]t\b")
_SAID_MINUS = re.compile(
    rf"(?i)\b(?:minus|negative)\s++(?:(?=[$£€]?\d)|((?:{number_words.COUNTING})(?:[\s-]++(?:{number_words.COUNTING}))*+)\b)"
)
_DEGREES = r"(?:\s++degrees?(?:\s++(?:celsius|fahrenheit))?+)?+"
_BELOW_ZERO = re.compile(rf"(?i)(?<![\w.,:-])({_NUMBER}{_DEGREES})\s++below\s++zero\b")
_NUMERO = re.compile(r"\b[Nn]o\.\s?(?=\d)")  # `No. 1` denies nothing
_NO_AT_FIRST = re.compile(r"(?i)\W*no\s*[,.;:!–—]")  # nor does `No, it was Ada`
# a dash after a word or a number (`1939-1945`) is no minus
_BEFORE, _AFTER = r"(?<![\w.)%\]])(?<![\d%] )[-\u2212\u2013]", rf"[$£€]?({_NUMBER})"
_MINUS, _DASH = re.compile(_BEFORE + _AFTER), re.compile(rf"{_BEFORE}\s?{_AFTER}")
_FALLS = re.compile(
    r"(?i)\b(?:f[ae]ll(?:s|en|ing)?|drop|decreas|declin|los[est]|reduc|shr[aiu]nk|below|under|down|less|lower|minus|negative)"
)
_LINES = re.compile(r"\n\s*+")  # a run of empty lines is one match, however long
_NEXT = re.compile(r"Q\d*+\s*+[:.]|Question\b|Topic\s*+:|Q&A|A:|Answer\s*+:|#|\[")
_VOICING = "\u3099\u309a"  # they make another letter of a kana, and are no accents
_VOICED = re.compile(f".[{_VOICING}]")


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """A word as it is compared: lower case, no accents, no ending; numbers in digits."""
    if not word.isascii():
        word = _without_accents(unicodedata.normalize("NFKD", word))
    word = word.lower()
    if word[0].isdigit():
        word = word.translate(_IN_NUMBERS)
        number = word.removesuffix("%")
        return number.rstrip("0").rstrip(".") + word[len(number) :] if "." in word else word
    word = number_words.DIGITS.get(word) or _ALIASES.get(word) or word
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


_IN_NUMBERS = str.maketrans("", "", ",'\u2019")  # `1,000`, `1990's`
_ENDINGS = (
    "ation",
    "ition",
    "ment",
    "ness",
    "ings",
    "ing",
    "ied",
    "ed",
    "ian",
    "ion",
    "ity",
    "ive",
    "al",
    "ly",
    "e",
    "y",
)


@lru_cache(maxsize=200_000)
def _kept(word: str) -> str:
    """The stem of a word, or nothing for a small one."""
    return "" if word.lower() in SMALL else stem(word)


def _without_accents(text: str) -> str:
    return "".join([c for c in text if not unicodedata.combining(c) or c in _VOICING])


def words(text: str) -> list[str]:
    """The words of a text as they are compared, numbers written with their scale in full."""
    return _stems(_raw(text))


def _raw(text: str) -> list[str]:
    """The words as they are written. Accents that are characters of their own would cut a word in two."""
    if not text.isascii():
        text = _VOICED.sub(lambda pair: unicodedata.normalize("NFC", pair[0]), _without_accents(text))
    return _WORD.findall(_CONTRACTED.sub(_apart, _NUMERO.sub("number ", _signed(text))))


def _apart(contracted: re.Match[str]) -> str:
    """`isn't` as `is not`."""
    verb = contracted[1] or ""
    return f"{'will' if verb.lower() == 'won' else verb} not"


def _signed(text: str) -> str:
    """`minus 5`, `minus five` and `5 below zero` as `-5`."""
    return _BELOW_ZERO.sub(r"-\1", _SAID_MINUS.sub(lambda said: f"-{_in_digits(said[1] or '')}", text))


def _in_digits(number: str) -> str:
    return "".join([stem(w) for w in number_words.merge(_WORD.findall(number))][:1])


def signs_agree(gold: str, answer: str) -> bool:
    """Whether numbers below zero are so in both."""
    return signs_kept(gold, answer) and signs_kept(answer, gold)


def signs_kept(text: str, other: str) -> bool:
    """Whether each number below zero that the other text has too is so there, or is what something fell by.

    `- 5` may be below zero, or an item of a list. What the other has not (`5-(-3)=8`) says nothing.
    """
    surely = {stem(n) for n in _MINUS.findall(_signed(text))}
    if not surely or _FALLS.search(other):
        return True
    shared = surely & {w.removesuffix("%") for w in words(other)}
    return shared <= {stem(n) for n in _DASH.findall(_signed(other))}


def compared(text: str) -> list[str]:
    """The words of a text; of a text of small words these, and of one without words the text itself."""
    return _compared(_raw(text), text)


def _compared(raw: list[str], text: str, names: frozenset[str] = frozenset()) -> list[str]:
    return _stems(raw, names) or [stem(w) for w in raw] or [text.strip().lower()]


def _asked_for(stems: list[str], known: frozenset[str]) -> list[str]:
    """`10%` as `10` where the question says that it asks for percent."""
    return [w.removesuffix("%") or w for w in stems] if "%" in known else stems


def _years_in(decades: frozenset[str], stems: list[str]) -> list[str]:
    """A year as its decade, where the gold answer is that."""
    if not decades:
        return stems
    return [f"{w[:3]}0s" if len(w) == 4 and w.isdecimal() and f"{w[:3]}0s" in decades else w for w in stems]


def _stems(raw: list[str], names: frozenset[str] = frozenset()) -> list[str]:
    """The words that are compared: no small ones, unless they are written as these names are."""
    return [s for w in number_words.merge(raw) if (s := stem(w) if w in names else _kept(w))]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, taken apart once."""

    stems: frozenset[str]
    why: float


@dataclass(frozen=True, slots=True)
class _Gold:
    """A gold answer beside its question, taken apart once."""

    stems: list[str]
    set: frozenset[str]
    new: frozenset[str]
    weight: int
    pairs: frozenset[tuple[str, str]]
    numbers: frozenset[str]
    triples: frozenset[str]
    name: float
    log_new: float
    separators: int
    small_names: frozenset[str]  # of a gold answer of small words (`A`, `The Who`) those with a capital
    decades: frozenset[str]


_A_DECADE = re.compile(r"\d{3}0s")
_OPTION = re.compile(r"\W*+\w++\s*+[).:,]")  # `A) the ferry`
_WHY = re.compile(r"(?i)\bwhy\b|\bhow (?:do|does|did|is|are|was|were|can)\b")


@lru_cache(maxsize=20_000)
def _asked(question: str) -> _Asked:
    return _Asked(frozenset(words(question)), float(_WHY.search(question) is not None))


@lru_cache(maxsize=20_000)
def _gold(question: str, gold: str) -> _Gold:
    raw = _raw(gold)
    known = _asked(question).stems
    stems = _asked_for(_compared(raw, gold), known)
    whole = frozenset(stems)
    new = whole - known or whole
    return _Gold(
        stems=stems,
        set=whole,
        new=new,
        weight=sum(map(len, new)) or 1,
        pairs=frozenset(pairwise(stems)),
        numbers=frozenset(w for w in stems if w[:1].isdigit()),
        triples=frozenset(_triples(gold)),
        name=sum(w[:1].isupper() for w in raw) / max(1, len(raw)),
        log_new=math.log1p(len(new)),
        separators=_separators(gold),
        small_names=frozenset(() if _stems(raw) else (w for w in raw if w[0].isupper())),
        decades=frozenset(w for w in stems if _A_DECADE.fullmatch(w)),
    )


def _triples(text: str) -> set[str]:
    flat = _letters(text)
    return {flat[i : i + 3] for i in range(max(1, len(flat) - 2))}


def _letters(text: str) -> str:
    return "".join(_RUNS.findall(text.lower()))


_RUNS = re.compile(r"[^\W_]+")


def _separators(text: str) -> int:
    return text.count(",") + text.count(" and ")


def features(question: str, gold: str, answer: str) -> list[float]:
    """The row of numbers named by `NAMES`."""
    answer = own_words(answer)
    asked, target = _asked(question), _gold(question, gold)
    known, wanted = asked.stems, target.new
    raw = plain = _raw(answer)
    if target.small_names and not _OPTION.match(answer):
        raw = [*map(str.lower, raw[:1]), *raw[1:]]  # a first word has a capital anyway
    stems = _years_in(target.decades, _asked_for(_compared(raw, answer, target.small_names), known))
    have = set(stems)
    fresh = [w for w in stems if w not in known]
    hit = wanted & have
    soft = float(len(hit))
    if fresh and len(hit) < len(wanted):
        begun = {w[:4] for w in fresh}
        for word in wanted - hit:
            if len(word) > 3 and not word[0].isdigit() and word[:4] in begun:
                soft += 0.7
    soft /= len(wanted)
    golden = target.set
    pairs, before, denied = 0.0, len(fresh), 0.0
    if hit:
        pairs = len(target.pairs.intersection(pairwise(stems))) / len(target.pairs) if target.pairs else 1.0
        before = next((i for i, w in enumerate(fresh) if w in hit), before)
        if not _DENY.isdisjoint(stems) and _DENY.isdisjoint(target.stems):
            first = next(i for i, w in enumerate(stems) if w in hit)
            denied = float(first > (_NO_AT_FIRST.match(answer) is not None) and stems[first - 1] in _DENY)
    numbers_hit = len(target.numbers & have) / len(target.numbers) if target.numbers else 0.0
    echo = len(known & have) / len(known) if known else 0.0
    # of a gold answer of one or two letters they are all that it has, and may stand in any triple
    there = _triples(answer) if len(target.triples) > 1 else _letters(answer)
    letters = sum([t in there for t in target.triples]) / len(target.triples)
    return [
        float(stems == target.stems or (raw is not plain and _compared(plain, answer) == target.stems)),
        len(hit) / len(wanted),
        soft,
        soft * soft,
        float(soft > 0.99),
        float(soft == 0.0),
        sum(map(len, hit)) / target.weight,
        sum([w in golden for w in fresh]) / len(fresh) if fresh else 0.0,
        pairs,
        float(target.stems[-1] in have),
        denied,
        float(min(before, 20)),
        numbers_hit,
        1.0 - numbers_hit if target.numbers else 0.0,
        float(min(10, _other_names(raw, golden, known))),
        math.log1p(len(raw)),
        math.log1p(len(fresh)),
        target.log_new,
        target.name,
        echo,
        echo * echo,
        letters,
        letters * letters,
        float(max(-5, min(5, _separators(answer) - target.separators))),
        asked.why,
    ]


def own_words(answer: str) -> str:
    """The answer without what a base model goes on to write: the next question, topic or heading."""
    for lines in _LINES.finditer(answer):
        if _NEXT.match(answer, lines.end()):
            own = answer[: lines.start()]
            return own if own.strip() else answer
    return answer


def _other_names(raw: list[str], gold: frozenset[str], question: frozenset[str]) -> int:
    """Names in the answer that it was not asked about; its first word has a capital anyway."""
    names = [stem(w) for w in raw[1:] if w[0].isupper()]
    return sum([n not in gold and n not in question for n in names])
