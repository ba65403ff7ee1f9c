"""Whether two expressions with roots, letters or functions are the same, by sympy in a process of its own.

sympy may take for ever and any memory, so it does its work where both have an end. It is given trees, never texts.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from seal_ray.domains.math.expressions import Expression
from seal_ray.errors import InfraError

SECONDS = 5  # of computing for a pair
MEMORY = 1 << 30  # bytes of address space
STARTING = 60.0  # seconds on the wall for sympy to be loaded on a busy machine

CODE = """
import json, resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (%d, %d))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import sympy
from sympy import Integer, Rational, Symbol
MADE = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "^": lambda a, b: sympy.Pow(a, b), "!": sympy.factorial, "abs": sympy.Abs, "ln": sympy.log,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan,
}
NAMES = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "infty": sympy.oo}

def made(tree):
    if isinstance(tree, str):
        return NAMES.get(tree) or Symbol(tree)
    if tree[0] == "number":
        return Rational(Integer(tree[1]), Integer(tree[2]))
    parts = [made(part) for part in tree[1:]]
    if tree[0] in ("^", "!") and any(p.is_number and abs(p.evalf(5)) > 1000 for p in parts[-1:]):
        raise ValueError("too large")
    return (MADE.get(tree[0]) or getattr(sympy, tree[0]))(*parts)

def same(left, right):
    a, b = made(left), made(right)
    if a == b:
        return True
    difference = a - b
    if not difference.free_symbols:
        distance = abs(complex(difference.evalf(30)))
        if not distance < 1e-12:
            return False
    return bool(sympy.simplify(difference) == 0)

def late(*_):
    raise TimeoutError

signal.signal(signal.SIGVTALRM, late)
highest = resource.getrlimit(resource.RLIMIT_CPU)[1]
print("ready", flush=True)
for line in sys.stdin:
    # the soft limit alone: the other one can be lowered by anybody and raised by nobody but the system's owner
    soon = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + %d + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soon if highest < 0 else min(soon, highest), highest))
    signal.setitimer(signal.ITIMER_VIRTUAL, %d)
    try:
        answer = same(*json.loads(line))
    except Exception:
        answer = False
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(json.dumps(answer), flush=True)
"""


def same(pairs: Sequence[tuple[Expression, Expression]]) -> list[bool]:
    """For each pair whether the two are equal. What can't be shown within the limits is not."""
    answers: list[bool] = []
    while len(answers) < len(pairs):
        left = pairs[len(answers) :]
        known = _ask(left)
        if known is None:
            raise InfraError(
                "sympy did not start, so nobody can say whether two formulas are equal",
                hint=f"`{sys.executable} -c 'import sympy'` says why; it is given {MEMORY >> 20} MB of memory",
            )
        # a process that ended early did so over the pair that it had not answered
        answers += known if len(known) == len(left) else [*known, False]
    return answers


def _ask(pairs: Sequence[tuple[Expression, Expression]]) -> list[bool] | None:
    """What sympy says of the first of these, until it ends; None where it did not even start."""
    lines = "".join(json.dumps([_plain(a), _plain(b)]) + "\n" for a, b in pairs)
    words = [sys.executable, "-I", "-B", "-c", CODE % (MEMORY, MEMORY, SECONDS, SECONDS)]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        said, _ = process.communicate(lines, timeout=STARTING + 10 * SECONDS * len(pairs))
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    began, *lines_said = said.splitlines() or [""]
    return [json.loads(line) for line in lines_said if line in {"true", "false"}] if began == "ready" else None


def _plain(tree: Expression) -> Any:
    if isinstance(tree, Fraction):
        return ["number", tree.numerator, tree.denominator]
    return tree if isinstance(tree, str) else [tree[0], *map(_plain, tree[1:])]
