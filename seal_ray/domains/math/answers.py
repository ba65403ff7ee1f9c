"""What an answer comes to, and whether it is the right one."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from seal_ray.domains.math import symbols
from seal_ray.domains.math.expressions import CONSTANTS, LONGEST, PERCENT, Expression, NoExpression, read
from seal_ray.domains.math.numbers import TooLarge, value
from seal_ray.text import without_thoughts

TOLERANCE = Fraction(1, 10**6)  # where one of two numbers is written with decimals
COMPARED = 100  # pairs of formulas that a vote asks sympy about
READ = 1 << 16  # characters at an answer's end that are looked at
_MARK = re.compile(r"(?i)(?:####|\bfinal answer\b[\s*]*(?:is\b|:)?|\b(?:the )?answer\b[\s*]*(?:is\b|:))[\s*:]*")
_NUMBER = re.compile(r"[-+]?(?:\d(?:[\d,]|\{,\})*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?%?")
_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s*\{([^{}]*)\}")
_UNITS = re.compile(
    r"^\\?[$£€]\s*|(?<!\s)\s++(?:dollars?|cents?|degrees?|units?|hours?|minutes?|days?|years?|miles?)\.?$"
)
_SUM = re.compile(r"^[^A-Za-z<>!=]*=")  # `9 * 2 =`
_PROSE = re.compile(r"(?:[A-Za-z]{2,}+|[aI]\b|[\s.,;!?'\"()$*\\-])*+")
_CHANGING = re.compile(  # words with which a number is another one
    r"(?i)\b(?:not|negative|minus|half|squared|cubed|dozens?|hundreds?|thousands?|[mbtr]+illions?)\b"
)


def final(text: str) -> str:
    """What a text says in the end: in its last box, after its last mark, else its last number, else its last line."""
    text = PERCENT.sub("%", without_thoughts(text, unfinished=True)[-READ:])
    if boxed := _boxed(text):
        return boxed
    marks = list(_MARK.finditer(text))
    if marks and (rest := text[marks[-1].end() :].strip()):
        return _UNITS.sub("", rest.split("\n")[0].strip(" *$").rstrip(" *$."))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return ""
    if _tree(lines[-1]) is not None:
        return lines[-1]
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else lines[-1][:LONGEST]


def _boxed(text: str) -> str:
    """What is in the last `\\boxed{}`, with braces inside of it."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return ""
    at = begin = text.index("{", start) + 1
    depth = 1
    while at < len(text) and depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return text[begin : at - 1].strip() if not depth else ""


def _tree(text: str) -> Expression | None:
    try:
        return read(text)
    except NoExpression:
        return None


def _spoken(text: str) -> Expression | None:
    """The number of a sentence that holds no other one, like `42 apples`."""
    if len(text) > LONGEST:
        return None
    said = _SUM.sub("", text)
    numbers = _NUMBER.findall(said)
    rest = _NUMBER.sub(" ", said)
    if len(numbers) != 1 or not _PROSE.fullmatch(rest) or _CHANGING.search(rest):
        return None
    return _tree(numbers[0])


def right(pairs: Sequence[tuple[str, Sequence[str]]]) -> list[bool]:
    """For each (answer, accepted answers) whether it is one of them; what numbers can't tell is asked together."""
    outcome: list[bool | None] = [None] * len(pairs)
    open_pairs: list[tuple[int, Expression, Expression]] = []
    for number, (answer, accepted) in enumerate(pairs):
        looks = [_quick(form, gold) for gold in accepted for form in _forms(answer, gold)]
        if True in looks:
            outcome[number] = True
        else:
            open_pairs += [(number, *look) for look in looks if isinstance(look, tuple)]
    for (number, _, _), equal in zip(open_pairs, symbols.same([(a, b) for _, a, b in open_pairs]), strict=True):
        outcome[number] = outcome[number] or equal
    return [bool(one) for one in outcome]


def _forms(answer: str, gold: str) -> list[str]:
    """`5%` is 5 too where the gold answer leaves the sign to the question."""
    bare = re.sub(r"\\?%\.?$", "", answer)
    return [answer] if bare == answer or "%" in gold else [answer, bare]


def _quick(answer: str, gold: str) -> bool | tuple[Expression, Expression]:
    """What can be said without sympy; else the two trees that it is to compare."""
    if _flat(answer) == _flat(gold):
        return True
    left, wanted = _tree(answer), _tree(gold)
    if left is None and wanted is None:  # `April 5` is not `May 5`
        return False
    left = _spoken(answer) if left is None else left
    wanted = _spoken(gold) if wanted is None else wanted
    if left is None or wanted is None:
        return False
    return _trees(left, wanted, "." in answer or "." in gold)


def _trees(left: Expression, wanted: Expression, decimals: bool) -> bool | tuple[Expression, Expression]:
    left, wanted = _said(left), _said(wanted)
    if _several(left) or _several(wanted):
        return _lists(left, wanted, decimals)
    try:
        ours, theirs = value(left), value(wanted)
    except TooLarge:
        return False
    if ours is not None and theirs is not None:
        return ours == theirs or (decimals and abs(ours - theirs) <= TOLERANCE * max(1, abs(theirs)))
    return left == wanted or (left, wanted)


def _said(tree: Expression) -> Expression:
    """`x = 5` says 5, and so does `9 - 4 = 5`; `2x + y = 5` does not."""
    if not isinstance(tree, tuple) or tree[0] != "=":
        return tree
    sides = tree[2:] if isinstance(tree[1], str) else tree[1:]
    return sides[-1] if len(sides) == 1 or all(map(_closed, sides)) else tree


def _closed(tree: Expression) -> bool:
    """Whether no letter in it stands for a number that is not known."""
    if isinstance(tree, tuple):
        return all(map(_closed, tree[1:]))
    return not isinstance(tree, str) or tree in CONSTANTS


def _several(tree: Expression) -> bool:
    return isinstance(tree, tuple) and tree[0] in {"list", "tuple", "set"}


def _lists(left: Expression, wanted: Expression, decimals: bool) -> bool:
    """Lists and sets in any order, tuples and intervals as they stand, item by item; their items are plain numbers."""
    if not (_several(left) and _several(wanted)) or len(left) != len(wanted):
        return False
    ordered = "tuple" in (left[0], wanted[0])
    if ordered and left[0] != wanted[0]:
        return False
    ours, theirs = list(left[1:]), list(wanted[1:])
    if ordered:
        return ours[0] == theirs[0] and all(
            _trees(a, b, decimals) is True for a, b in zip(ours[1:], theirs[1:], strict=True)
        )
    for item in theirs:
        match = next((n for n, own in enumerate(ours) if _trees(own, item, decimals) is True), None)
        if match is None:
            return False
        ours.pop(match)
    return True


def _flat(text: str) -> str:
    """The text without what does not count: spaces, dollars, the braces of words."""
    if len(text) > 2 * LONGEST:
        return text
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)|\\[,;!]|\\?\$", "", _WORDS.sub(r"\1", text)).rstrip(".").casefold()


def majority(answers: Sequence[str]) -> str | None:
    """The answer that most of them give, by what it is and not how it is written; None where no one is ahead."""
    classes = alike(answers)
    (first, most), *rest = Counter(c for c in classes if c is not None).most_common() or [(None, 0)]
    if first is None or most < 2 or (rest and rest[0][1] == most):
        return None
    return answers[classes.index(first)]


def alike(answers: Sequence[str]) -> list[int | None]:
    """For each answer a number that is the same for the same answer, however it is written; None for an empty one."""
    written = list(dict.fromkeys(answer for answer in answers if answer))
    same: set[tuple[int, int]] = set()
    open_pairs: list[tuple[tuple[int, int], tuple[Expression, Expression]]] = []
    for pair in combinations(range(len(written)), 2):
        look = _quick(written[pair[0]], written[pair[1]])
        if look is True:
            same.add(pair)
        elif look:
            open_pairs.append((pair, look))
    open_pairs = open_pairs[:COMPARED]  # each may take sympy seconds, and they grow with the square of the answers
    for (pair, _), equal in zip(open_pairs, symbols.same([look for _, look in open_pairs]), strict=True):
        if equal:
            same.add(pair)
    firsts: dict[str, int] = {}  # by answer, the first of its class
    for number, answer in enumerate(written):
        known = dict.fromkeys(firsts.values())
        firsts[answer] = next((n for n in known if (n, number) in same), number)
    return [firsts.get(answer) for answer in answers]
