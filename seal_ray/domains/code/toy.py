"""A language so small that it can be run here: words, applied one after another to a list of digits.

It has no loops, no names and no way to say how much; whatever is written in it ends at once. With it a tiny model can
learn to program, where real programs need a sandbox.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

from seal_ray.records import Json
from seal_ray.sandbox import CaseResult, Program, ProgramResult

LONGEST = 20  # words of a program
MOST = 100  # items of a list
CLOCK = 10

Digits = list[int]
WORDS: Mapping[str, Callable[[Digits], Digits]] = {
    "reverse": lambda d: d[::-1],
    "sort": sorted,
    "double": lambda d: [2 * x % CLOCK for x in d],
    "up": lambda d: [(x + 1) % CLOCK for x in d],
    "down": lambda d: [(x - 1) % CLOCK for x in d],
    "flip": lambda d: [CLOCK - 1 - x for x in d],
    "first": lambda d: d[:1],
    "last": lambda d: d[-1:],
    "rest": lambda d: d[1:],
    "total": lambda d: [sum(d) % CLOCK],
}


class NoProgram(Exception):
    """A text is no program of the language."""


def read(text: str) -> list[str]:
    words = text[: LONGEST * 20].split()
    if not words or len(words) > LONGEST or len(text) > LONGEST * 20:
        raise NoProgram(f"1 to {LONGEST} words are a program")
    if unknown := next((word for word in words if word not in WORDS), ""):
        raise NoProgram(f"{unknown[:20]!r} is no word")
    return words


def run(words: Sequence[str], digits: Sequence[int]) -> Digits:
    value = list(digits)
    for word in words:
        value = WORDS[word](value)
    return value


def examine(program: Program) -> ProgramResult:
    """What the sandbox would say of it: each case gives a list and wants one."""
    try:
        words = read(program.solution)
    except NoProgram as error:
        return ProgramResult(tuple(CaseResult("syntax_error", str(error)) for _ in program.cases))
    return ProgramResult(tuple(_case(words, case) for case in program.cases))


def _case(words: Sequence[str], case: Mapping[str, Json]) -> CaseResult:
    args = case.get("args")
    digits = args[0] if isinstance(args, list) and len(args) == 1 else None
    if not is_digits(digits):
        return CaseResult("unsupported", "a case of the toy language gives one list of digits")
    given = run(words, digits)
    return CaseResult("passed") if given == case.get("expected") else CaseResult("wrong", f"{given}"[:100])


def is_digits(value: Json) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) <= MOST and all(type(x) is int and 0 <= x < CLOCK for x in value)
