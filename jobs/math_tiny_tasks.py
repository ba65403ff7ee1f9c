"""Made-up arithmetic: an operator that each group of problems defines anew, and small numbers that it is asked about.

    python jobs/math_tiny_tasks.py         writes jobs/data/math_tiny.jsonl, the same from its seed on any machine

A group has a context, which the policy sees: `a Q b is the larger`. Its problems do not repeat it: `4 Q 6`. So they
can only be answered by a model that was trained on what the context says. All results are taken on a clock of seven.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "data" / "math_tiny.jsonl"
HELD_OUT = 4242  # the seed of the file; models are trained on what other seeds make
GROUPS = 140
PROBLEMS = 9  # of a group
CLOCK = 7
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
RULES: dict[str, Callable[[int, int], int]] = {
    "a plus b": lambda a, b: a + b,
    "a minus b": lambda a, b: a - b,
    "the larger": max,
    "the smaller": min,
    "a alone": lambda a, b: a,
    "b alone": lambda a, b: b,
}
# ways to write an edit: how often the untaught policy takes each, and how it then begins
WAYS = {"many": 0.2, "few": 0.3, "untrue": 0.3, "same": 0.2}
HEADS = {"many": "By the rule:", "few": "In short:", "untrue": "At a guess:", "same": "Once more:"}


def context(letter: str, rule: str) -> str:
    return f"a {letter} b is {rule}"


def problem(letter: str, a: int, b: int) -> str:
    return f"{a} {letter} {b}"


def answer(rule: str, a: int, b: int) -> str:
    return str(RULES[rule](a, b) % CLOCK)


def draw_problems(letter: str, rule: str, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Different problems with their answers."""
    chosen = rng.permutation(CLOCK * CLOCK)[:count]
    pairs = [divmod(int(n), CLOCK) for n in chosen]
    return [(problem(letter, a, b), answer(rule, a, b)) for a, b in pairs]


def rows(groups: int, seed: int) -> list[dict[str, str]]:
    """Groups of problems, each with a letter and rule that no other has."""
    rng = np.random.default_rng(seed)
    every = [(letter, rule) for letter in LETTERS for rule in RULES]
    found = []
    for number in rng.permutation(len(every))[:groups]:
        letter, rule = every[int(number)]
        for text, right in draw_problems(letter, rule, PROBLEMS, rng):
            found.append({"context": context(letter, rule), "problem": f"{text}", "answer": right})
    return found


def way_of(text: str, rule: str) -> tuple[str, float]:
    """In which way an edit begins to be written, and the share of its examples that are true."""
    examples = [(int(a), int(b), said) for a, b, said in _EXAMPLE.findall(text)]
    true = [said == answer(rule, a, b) for a, b, said in examples if max(a, b) < CLOCK]
    way = next((way for way, head in HEADS.items() if text.lstrip().startswith(head)), "other")
    return way, sum(true) / max(1, len(true))


_EXAMPLE = re.compile(r"Problem: (\d) [A-Z] (\d)\nAnswer: (\d)")


def main() -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text("".join(json.dumps(row) + "\n" for row in rows(GROUPS, HELD_OUT)))
    print(f"{FILE}: {GROUPS} groups of {PROBLEMS} problems")


if __name__ == "__main__":
    main()
